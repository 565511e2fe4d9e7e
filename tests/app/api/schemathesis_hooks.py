"""What Schemathesis should not hold against the service: rules that no schema can say, each with its own message."""

from __future__ import annotations

import re
from urllib.parse import parse_qs, urlsplit

import schemathesis
from schemathesis.core.failures import Failure
from schemathesis.core.transport import Response

# Columns of two lengths, and bounds that are settings: JSON Schema knows neither.
BEYOND_SCHEMAS = re.compile(
    r"columns must have the same length|(holds?|names|has|find) at most \d+|a rating must be|"
    r"each item may be rated|an id that is stored|either users or ratings|a key must have|"
    r"times are in|a page begins at most|an item is available until|an item is stored once|"
    r"a text that is stored|a genre or a label must"
)
# Any text is a valid value of these parameters, and whatever stands in a query is a text.
TEXTS = {"exclude", "only", "genre", "label", "query"}
VIOLATED = re.compile(r"Invalid component: parameters? (.+) in query")


@schemathesis.hook
def filter_failure(
    context: schemathesis.HookContext, failure: Failure, case: schemathesis.Case, response: Response
) -> bool:
    """Whether this is a failure."""
    if failure.checks == ("positive_data_acceptance",):
        return BEYOND_SCHEMAS.search(response.json()["detail"]) is None
    if failure.checks == ("negative_data_rejection",) and (violated := VIOLATED.search(failure.message)):
        sent = parse_qs(urlsplit(str(response.request.url)).query, keep_blank_values=True)  # an empty list is not sent
        return bool(set(re.findall(r"`(\w+)`", violated[1])) & sent.keys() - TEXTS)
    return True
