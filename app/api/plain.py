"""Plain routes, which answer before FastAPI's router: that one takes 250 µs for routing and dependencies.

A plain route is one ASGI endpoint for every form of its request. FastAPI documents its signature; the endpoint
validates with the models of the signature, by the functions below, and its errors have FastAPI's form.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine, Mapping, Sequence
from email.message import Message as EmailMessage
from functools import lru_cache, partial
from typing import Any, TypeVar
from urllib.parse import parse_qs

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import BaseModel, TypeAdapter, ValidationError
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.encodings.json import has_more_values
from app.api.limits import Limits
from app.api.parameters import REPEATABLE, check_utf8
from app.api.unknown import LONG_QUERY, Known
from app.engine.errors import CancelledRequestError
from app.errors import EncodedBodyError, InvalidRequestError, answer_error, unreadable_json
from app.middleware.access import BY_NAME, Guard, needs_of
from app.middleware.large_bodies import LARGE_BODY, LargeBodies
from app.middleware.reporting import ROUTE
from models.errors import RatecastError

T = TypeVar("T")
Errors = list[Any]  # as pydantic gives them; all of a request are answered together
JSON = b"application/json"
IDENTITY = b"identity"
MAX_FASTAPI_BODY = 1 << 20  # bytes: FastAPI reads bodies on the event loop
BODY_METHODS = frozenset(("POST", "PUT", "PATCH"))
MOST_MEMBERS = 64  # of an object; none has so many, and each that is not known is an error of its own
SPAN = "fastapi.telemetry"  # in the scope of a request that FastAPI reports to OpenTelemetry


class GuardedRoute(APIRoute):
    """A route of FastAPI that is asked by nobody who may not: what was found out before routing is checked again."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle, known = super().get_route_handler(), Known(self)
        needs = {method: needs_of(self, method) for method in self.methods or ()}

        async def guarded(request: Request) -> Response:
            scope = request.scope
            scope["app"].guard.check_route(scope, needs[scope["method"]])
            known.check(scope["query_string"])
            try:
                return await handle(request)
            except RequestValidationError as error:
                raise known.explained(error) from error

        return guarded


class PlainRoute(APIRoute):
    """A route that FastAPI documents and `endpoint` answers.

    Args:
        method, path: of its requests.
        endpoint: finds the ids of the path in `scope["path_params"]`. It raises RatecastError or
            RequestValidationError, or sends an answer.
        signature: a function that is never called: its parameters are documented, its name is the operation's id.
        documentation: as for any route of FastAPI.
    """

    def __init__(
        self, method: str, path: str, endpoint: ASGIApp, signature: Callable[..., Any], **documentation: Any
    ) -> None:
        super().__init__(
            path, signature, methods=[method], generate_unique_id_function=lambda route: route.name, **documentation
        )
        self.method = method
        self.needs = needs_of(self, method)
        known = Known(self)

        async def answer(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["query_string"]:
                known.check(scope["query_string"])
            try:
                await endpoint(scope, receive, send)
            except RequestValidationError as error:
                raise known.explained(error) from error

        self.app = answer  # what FastAPI's router finds too: see `PlainRoutes`


class PlainRoutes:
    """ASGI middleware: answers the requests of plain routes, and passes on others.

    A request that `guard` refuses reaches neither. A path whose id has a slash may match other routes too. Which one it
    means follows from the order of all routes, so FastAPI's router decides; it has the same endpoint.
    """

    def __init__(
        self, app: ASGIApp, routes: Sequence[PlainRoute], guard: Guard, bodies: LargeBodies, limits: Limits
    ) -> None:
        self._app = app
        self._guard = guard
        self._bodies, self._limits = bodies, limits
        self._of_path = {(route.method, route.path): route for route in routes if not route.param_convertors}
        self._of_template: dict[str, list[PlainRoute]] = {}
        for route in routes:
            if route.param_convertors:
                self._of_template.setdefault(route.method, []).append(route)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            self._guard.check(scope)
            route = self._of_path.get((scope["method"], scope["path"]))
            if route is None or scope["query_string"]:
                check_utf8(scope)
                route = route or self._match(scope)
            if route is not None:
                self._guard.check_route(scope, route.needs)
                scope[ROUTE] = route.path
                if SPAN in scope:
                    _name_span(scope[SPAN], route.path_format)
            headers = scope[BY_NAME]
            if b"content-encoding" in headers:
                _check_encoding(scope["method"], headers[b"content-encoding"])
            declared = headers.get(b"content-length", b"")
            if declared.isdigit() and int(declared) <= self._bodies.small:
                await (self._app if route is None else route.app)(scope, receive, send)
            elif route is None:
                await self._bodies.hand_on(self._checked, scope, receive, send, MAX_FASTAPI_BODY)
            else:
                await self._bodies.hand_on(route.app, scope, receive, send)
        except (RatecastError, RequestValidationError) as error:
            await answer_error(error)(scope, receive, send)

    async def _checked(self, scope: Scope, receive: Receive, send: Send) -> None:
        """FastAPI makes objects of a whole body: how many they would be is counted first."""

        async def received() -> Message:
            message = await receive()
            body = message.get("body", b"")
            if len(body) > LARGE_BODY:  # then it came as a whole
                await asyncio.to_thread(check_values, body, self._limits)
            return message

        await self._app(scope, received, send)

    def _match(self, scope: Scope) -> PlainRoute | None:
        """The route whose template matches the path, with the ids in the path put into the scope."""
        if scope.get("root_path"):
            return None
        for route in self._of_template.get(scope["method"], ()):
            match = route.path_regex.match(scope["path"])
            if match is None:
                continue
            ids = match.groupdict()
            for id_ in ids.values():
                if "/" in id_:
                    return None
            scope["path_params"] = {name: route.param_convertors[name].convert(id_) for name, id_ in ids.items()}
            return route
        return None


def _check_encoding(method: str, encoding: bytes) -> None:
    """Raise EncodedBodyError for a body that is compressed."""
    if encoding and encoding.lower() != IDENTITY and method in BODY_METHODS:
        raise EncodedBodyError


def _name_span(request: Any, route: str) -> None:
    """Give a request's span and metrics the template of its route, as FastAPI does when its own router has chosen."""
    request.route = route
    if request.span is not None:
        request.span.set_attribute("http.route", route)
        request.span.update_name(f"{request.span_method} {route}")


async def read_body(receive: Receive) -> bytes:
    """The whole body, which `LargeBodies` limits. Raises CancelledRequestError."""
    body, more = b"", True
    while more:
        message = await receive()
        if message["type"] != "http.request":
            raise CancelledRequestError("the client closed its connection before it had sent its request")
        body += message.get("body", b"")
        more = message.get("more_body", False)
    return body


def read_parameters(model: type[BaseModel], query: bytes, errors: Errors) -> Mapping[str, Any]:
    """The validated parameters of a query. Their errors are added to `errors`."""
    try:
        return _parameters(model, query) if len(query) <= LONG_QUERY else _parameters.__wrapped__(model, query)
    except ValidationError as error:
        errors += _located(error, "query")
        return {}


@lru_cache(4_096)  # a service is asked with few different queries, and validating one takes 20 µs
def _parameters(model: type[BaseModel], query: bytes) -> Mapping[str, Any]:
    given = parse_qs(query.decode("latin-1"), keep_blank_values=True)
    last = {name: values if name in REPEATABLE else values[-1] for name, values in given.items()}
    return model.model_validate(last).model_dump(exclude_unset=True)


async def read_document(
    receive: Receive, adapter: TypeAdapter[T], content_type: bytes, limits: Limits, errors: Errors
) -> T:
    """The body of a request, as `read_json` gives it; a large one is read on another thread."""
    body = await read_body(receive)
    read = partial(read_json, adapter, body, content_type, errors, limits)
    return await asyncio.to_thread(read) if len(body) > LARGE_BODY else read()


def read_json(
    adapter: TypeAdapter[T], body: bytes, content_type: bytes, errors: Errors, limits: Limits, *, tagged: bool = False
) -> T:
    """A body that `adapter` takes. Raises InvalidRequestError, or RequestValidationError for all that is wrong.

    `errors` are what is wrong already; `tagged` says that the adapter is of a tagged union, whose tags are no part of
    the request.
    """
    if not body:
        raise RequestValidationError([*errors, {"type": "missing", "loc": ("body",), "msg": "Field required"}])
    given = body
    if _is_json(content_type):
        check_values(body, limits)
        given = _parse(body)
        _check_members(given)
    try:
        found = adapter.validate_python(given, from_attributes=True)  # as FastAPI does: its messages say so
    except ValidationError as error:
        raise RequestValidationError([*errors, *_located(error, "body", skip=int(tagged))]) from error
    raise_if(errors)
    return found


def check_values(body: bytes, limits: Limits) -> None:
    """Raise InvalidRequestError for JSON of more values than any request needs, before they are made into objects."""
    if len(body) > LARGE_BODY and has_more_values(body, limits.values, limits.members):
        raise InvalidRequestError(("body",), f"a request holds at most {limits.values} values (RATECAST_MAX_PAIRS)")


def _check_members(given: Any) -> None:
    """Raise InvalidRequestError for an object, or one of a list in it, that has very many members."""
    objects = [given] if isinstance(given, dict) else []
    for value in given.values() if isinstance(given, dict) and len(given) <= MOST_MEMBERS else ():
        if isinstance(value, list):
            objects += [element for element in value if isinstance(element, dict)]
    if any(len(found) > MOST_MEMBERS for found in objects):
        raise InvalidRequestError(("body",), f"an object has at most {MOST_MEMBERS} members")


def raise_if(errors: Errors) -> None:
    """Raise RequestValidationError if there are errors."""
    if errors:
        raise RequestValidationError(errors)


async def client_gone(receive: Receive) -> None:
    """Ends when the client has closed its connection. Its body has been read before."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def send_answer(send: Send, body: bytes, media_type: bytes = JSON) -> None:
    """Send a whole answer of status 200."""
    headers = [(b"content-type", media_type), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _parse(body: bytes) -> Any:
    try:
        return json.loads(body)
    except json.JSONDecodeError as error:
        found = {"type": "json_invalid", "loc": ("body", error.pos), "msg": error.msg, "ctx": {"error": error.msg}}
        raise RequestValidationError([found]) from error
    except (ValueError, RecursionError) as error:
        raise unreadable_json() from error


def _is_json(content_type: bytes) -> bool:
    message = EmailMessage()
    message["content-type"] = content_type.decode("latin-1")
    subtype = message.get_content_subtype()
    return message.get_content_maintype() == "application" and (subtype == "json" or subtype.endswith("+json"))


def _located(error: ValidationError, *location: str, skip: int = 0) -> Errors:
    return [{**found, "loc": (*location, *found["loc"][skip:])} for found in error.errors(include_url=False)]
