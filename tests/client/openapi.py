"""What the client lacks of an OpenAPI document, line by line. Each of its functions is called, to see what it asks.

Types are compared in a form of their own: `string`, `integer`, `number`, `boolean`, `time`, `id` (a text or a whole
number), `moment` (seconds or a time), `any`, `one of …`, `[…]` for arrays, `{…}` for mappings, a class or schema by its
name, and `… or null`.
"""

from __future__ import annotations

import dataclasses
import inspect
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from types import UnionType
from typing import Any, Literal, SupportsFloat, SupportsIndex, Union, get_args, get_origin, get_type_hints, is_typeddict
from urllib.parse import parse_qs, unquote, urlsplit

import ratecast_client
from ratecast_client import operations

Document = Mapping[str, Any]
PLAIN = {str: "string", int: "integer", float: "number", bool: "boolean", datetime: "time", Any: "any"}
ABSTRACT = {SupportsIndex: "integer", SupportsFloat: "number"}
FORMS = {  # of alternatives; in the client a time may be a text too
    frozenset(("string", "integer", "number")): "id",
    frozenset(("time", "integer")): "moment",
    frozenset(("time", "integer", "string")): "moment",
}
INLINE = "[InlineRating]"  # in the client a mapping from items to ratings
ITEMS = "[ListedItemRequest]"  # in the client a mapping from items to what is known of them
SAMPLES = {
    "id": "{%s}",
    "string": "{%s}",
    "integer": 7,
    "number": 2.5,
    "boolean": True,
    "[id]": ["a"],
    "[number]": [2.5],
    "[string]": ["a"],
    "moment": 7,
    "[moment or null]": [7],
    INLINE: {"a": 2.5},
    ITEMS: {"a": {}},
}


@dataclasses.dataclass(frozen=True)
class Parameter:
    """An argument of a function of the client."""

    form: str
    optional: bool
    default: Any


@dataclasses.dataclass(frozen=True)
class Asked:
    """What a function of the client sends, called with all its arguments, and what it makes of the answer."""

    name: str
    endpoint: str
    parameters: Mapping[str, Parameter]
    query: frozenset[str]
    headers: frozenset[str]
    body: frozenset[str]
    answer: Any


def complaints(document: Document) -> list[str]:
    """What is missing or different, a line each; empty where the client has everything."""
    asked = [_asked(function) for function in functions()]
    endpoints = {
        f"{method.upper()} {path}": operation
        for path, operations_ in document["paths"].items()
        for method, operation in operations_.items()
    }
    unknown = [
        f"{one.endpoint}: asked by `{one.name}`, and not there" for one in asked if one.endpoint not in endpoints
    ]
    found = list(unknown)
    for endpoint, operation in endpoints.items():
        found += _of_endpoint(document, endpoint, operation, [one for one in asked if one.endpoint == endpoint])
    for name in sorted(_answered(document)):
        found += _of_schema(document, name)
    return found


def functions() -> list[Callable[..., Any]]:
    """Those that ask one endpoint once."""
    public = (f for name, f in vars(operations).items() if inspect.isfunction(f) and not name.startswith("_"))
    return [function for function in public if str(inspect.signature(function).return_annotation).startswith("Call[")]


def _asked(function: Callable[..., Any]) -> Asked:
    parameters = dict(_parameters(function))
    arguments = {name: _sample(name, parameter.form) for name, parameter in parameters.items()}
    request = next(function(**arguments))
    url = urlsplit(request.target)
    return Asked(
        name=function.__name__,
        endpoint=f"{request.method} {unquote(url.path)}",
        parameters=parameters,
        query=frozenset(parse_qs(url.query)),
        headers=frozenset(name.lower() for name in request.headers),
        body=frozenset(json.loads(request.body)) if request.body else frozenset(),
        answer=get_args(get_type_hints(function)["return"])[2],
    )


def _parameters(function: Callable[..., Any]) -> Iterator[tuple[str, Parameter]]:
    hints = get_type_hints(function)
    for name, parameter in inspect.signature(function).parameters.items():
        if parameter.kind is parameter.VAR_KEYWORD:
            (options,) = get_args(hints[name])
            assert is_typeddict(options)
            for option, hint in get_type_hints(options).items():
                yield option, Parameter(of_type(hint), optional=True, default=None)
        else:
            optional = parameter.default is not parameter.empty
            yield name, Parameter(of_type(hints[name]), optional, parameter.default if optional else None)


def _sample(name: str, form: str) -> Any:
    form = form.removesuffix(" or null")
    if form.startswith("one of "):
        return form.removeprefix("one of ").split(" ")[0]
    sample = SAMPLES[form]
    return sample % name if isinstance(sample, str) else sample


def _of_endpoint(document: Document, endpoint: str, operation: Document, asked: list[Asked]) -> Iterator[str]:
    if not asked:
        yield f"{endpoint}: no function in operations.py asks it"
        return
    known = {"query": "query", "header": "headers"}
    for parameter in operation.get("parameters", ()):
        name, kind = parameter["name"].replace("-", "_"), parameter["in"]
        sent = [one for one in asked if kind == "path" or parameter["name"] in getattr(one, known[kind])]
        if not sent:
            form = of_schema(document, parameter["schema"])
            yield f"{endpoint}: no function sends the {kind} parameter `{name}: {form}`"
        for one in sent:
            yield from _compare_parameter(document, one, name, parameter["schema"], parameter["required"])
    documented = {parameter["name"] for parameter in operation.get("parameters", ()) if parameter["in"] == "query"}
    for one in asked:
        for name in sorted(one.query - documented):
            yield f"{endpoint}: `{one.name}` sends the query parameter `{name}`, which is not there"
    yield from _of_body(document, endpoint, operation, asked)
    yield from _of_answers(document, endpoint, operation, asked)


def _compare_parameter(
    document: Document, one: Asked, name: str, schema: Document, required: bool = True
) -> Iterator[str]:
    where = f"{one.endpoint}: `{name}` of `{one.name}`"
    ours, theirs = one.parameters[name], of_schema(document, schema)
    if ours.form.replace("id", "string").removesuffix(" or null") != theirs.replace("id", "string").removesuffix(
        " or null"
    ):
        yield f"{where} is {ours.form}, in the document {theirs}"
    if required and ours.optional:
        yield f"{where} is optional, in the document required"
    if ours.default is not None and schema.get("default", ours.default) != ours.default:
        yield f"{where} is {ours.default} by default, in the document {schema['default']}"


def _of_body(document: Document, endpoint: str, operation: Document, asked: list[Asked]) -> Iterator[str]:
    content = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
    forms = [_resolved(document, form) for form in _alternatives(content["schema"])] if content else []
    members = {name: schema for form in forms for name, schema in form["properties"].items()}
    for name in sorted(members.keys() - set().union(*(one.body for one in asked))):
        yield f"{endpoint}: no function sends the member `{name}: {of_schema(document, members[name])}`"
    for one in asked:
        for name in sorted(one.body - members.keys()):
            yield f"{endpoint}: `{one.name}` sends the member `{name}`, which is not there"
        fitting = [form for form in forms if one.body <= form["properties"].keys()]
        for name in sorted(one.body & members.keys()):
            required = all(name in form.get("required", ()) for form in fitting)
            yield from _compare_parameter(document, one, name, members[name], required)


def _of_answers(document: Document, endpoint: str, operation: Document, asked: list[Asked]) -> Iterator[str]:
    content = operation["responses"]["200"]["content"]
    if "application/json" in content:
        wanted = {of_schema(document, form) for form in _alternatives(content["application/json"]["schema"])}
    else:
        wanted = {"string"}
    for form in sorted(wanted - {of_type(one.answer) for one in asked}):
        yield f"{endpoint}: no function gives a {form}"
    for one in asked:
        given = of_type(one.answer)
        if given not in wanted:
            yield f"{endpoint}: `{one.name}` gives a {given}, which is none of {', '.join(sorted(wanted))}"


def _answered(document: Document) -> set[str]:
    """Names of all schemas in answers, those of problems too."""
    found: set[str] = set()
    waiting = [
        content["schema"]
        for operations_ in document["paths"].values()
        for operation in operations_.values()
        for response in operation["responses"].values()
        for content in response.get("content", {}).values()
    ]
    while waiting:
        part = waiting.pop()
        if isinstance(part, list):
            waiting += part
        elif isinstance(part, dict):
            waiting += [value for key, value in part.items() if key != "$ref"]
            name = _name(part)
            schema = document["components"]["schemas"].get(name, {})
            if "properties" in schema and name not in found:
                found.add(name)
                waiting.append(schema["properties"])
    return found


def _of_schema(document: Document, name: str) -> Iterator[str]:
    schema, ours = document["components"]["schemas"][name], getattr(ratecast_client, name, None)
    if ours is None:
        lines = ", ".join(f"{field}: {of_schema(document, part)}" for field, part in schema["properties"].items())
        yield f"{name}: no such class in ratecast_client; it has {lines}"
        return
    fields, hints = {field.name: field for field in dataclasses.fields(ours)}, get_type_hints(ours)
    for member, part in schema["properties"].items():
        theirs, optional = of_schema(document, part), member not in schema.get("required", ())
        if member not in fields:
            default = " = None" if optional else ""
            yield f"{name}: lacks the line `{member}: {theirs}{default}`"
            continue
        if of_type(hints[member]) != theirs:
            yield f"{name}.{member} is {of_type(hints[member])}, in the document {theirs}"
        if (fields[member].default is not dataclasses.MISSING) != optional:
            yield f"{name}.{member} is {'optional' if optional else 'required'} in the document"
    for member in sorted(fields.keys() - schema["properties"].keys()):
        yield f"{name}.{member} is not in the document"


def of_type(hint: Any) -> str:
    """The form of a type of the client."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        inner = {of_type(argument) for argument in arguments if argument is not type(None)}
        form = FORMS.get(frozenset(inner)) or " or ".join(sorted(inner))
        return f"{form} or null" if type(None) in arguments else form
    if origin is Literal:
        return f"one of {' '.join(sorted(arguments))}"
    if origin in (tuple, Iterable):
        return f"[{of_type(arguments[0])}]"
    if origin is Mapping and is_typeddict(arguments[1]):
        return ITEMS
    if origin is Mapping:
        return INLINE if arguments[0] is not str else f"{{{of_type(arguments[1])}}}"
    return (PLAIN | ABSTRACT).get(hint) or str(hint.__name__)


def of_schema(document: Document, schema: Document) -> str:
    """The form of a schema of the document."""
    if "$ref" in schema:
        target = _resolved(document, schema)
        return _name(schema) if "properties" in target else of_schema(document, target)
    if "anyOf" in schema:
        inner = {of_schema(document, part) for part in schema["anyOf"]}
        form = FORMS.get(frozenset(inner - {"null"})) or " or ".join(sorted(inner - {"null"}))
        return f"{form} or null" if "null" in inner else form
    if "enum" in schema or "const" in schema:
        return f"one of {' '.join(sorted(schema.get('enum', [schema.get('const')])))}"
    if schema.get("type") == "array":
        return f"[{of_schema(document, schema['items'])}]"
    if schema.get("type") == "object":
        return f"{{{of_schema(document, schema['additionalProperties'])}}}"
    return "time" if schema.get("format") == "date-time" else str(schema.get("type", "any"))


def _alternatives(schema: Document) -> list[Document]:
    found: list[Document] = schema.get("anyOf") or schema.get("oneOf") or [schema]
    return found


def _resolved(document: Document, schema: Document) -> Document:
    found: Document = document["components"]["schemas"][_name(schema)] if "$ref" in schema else schema
    return found


def _name(schema: Document) -> str:
    return str(schema.get("$ref", "")).rpartition("/")[2]
