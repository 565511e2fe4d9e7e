"""Parameters that several routes take."""

from __future__ import annotations

from typing import Annotated

from fastapi import Query

from app.api.schemas import Year

MAX_QUERY = 256  # characters that are searched for
N = Annotated[int, Query(ge=1, description="How many; the service has an upper bound.")]
YearMin = Annotated[Year | None, Query(description="Choose from the items of this year and later ones.")]
YearMax = Annotated[Year | None, Query(description="Choose from the items of this year and earlier ones.")]
