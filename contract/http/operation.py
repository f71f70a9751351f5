"""What stands between the router and an operation: the bearer token, the method, the body, the refusals."""

from collections.abc import Awaitable, Callable
from hmac import compare_digest
from time import perf_counter
from typing import NamedTuple

import msgspec
from starlette.routing import Router
from starlette.types import ASGIApp, Receive, Scope, Send

from contract.errors import MethodNotAllowed, Refusal, Unauthorized
from contract.http.bodies import Disconnected, read_body
from contract.http.fields import json_body
from contract.http.metrics import Histogram
from contract.http.request import Request

Headers = list[tuple[bytes, bytes]]

_PROBLEM = (b"content-type", b"application/problem+json")
_READ_HEADERS = frozenset(
    (b"content-type", b"content-length", b"transfer-encoding", b"consistency-token", b"expected-version", b"prefer")
)
_CLIENT_GONE = 499  # in the metrics only: nobody is there to read it
_encode = msgspec.json.Encoder().encode


class Response(NamedTuple):
    status: int
    headers: Headers
    body: bytes


class Operation(NamedTuple):
    run: Callable[[Request], Awaitable[Response]]
    histogram: Histogram
    has_body: bool = False  # then it must be JSON; any other body is ignored, up to its limit


class Authentication:
    """What is looked at before the route: the bearer token, and paths that only decoding made look like a route."""

    def __init__(self, inside: Router, elsewhere: ASGIApp, stranger: ASGIApp, token: str | None) -> None:
        self.inside, self._elsewhere, self._stranger = inside, elsewhere, stranger
        self._token = None if token is None else token.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        app: ASGIApp = self.inside
        if scope["type"] == "http":
            if self._token is not None and not self._bears_token(scope["headers"]):
                app = self._stranger
            elif b"%" in scope.get("raw_path", b"") and _misleading(scope):
                app = self._elsewhere
        await app(scope, receive, send)

    def _bears_token(self, headers: Headers) -> bool:
        assert self._token is not None, "asked only where a token is configured"
        sent = [value for name, value in headers if name == b"authorization"]
        scheme, _, credentials = sent[0].partition(b" ") if len(sent) == 1 else (b"", b"", b"")
        return scheme.lower() == b"bearer" and compare_digest(credentials.strip(), self._token)


def _misleading(scope: Scope) -> bool:
    """An encoded slash is no separator."""
    raw_path: bytes = scope["raw_path"]
    path: str = scope["path"]
    return raw_path.count(b"/") != path.count("/")


class Refusing:
    """Answers everything with one refusal."""

    def __init__(self, refusal: Refusal, histogram: Histogram) -> None:
        self._reply, self._meter = _problem(refusal), histogram

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.close"})
            return
        self._meter.observe(self._reply.status, 0.0)
        await _respond(scope, send, self._reply)


class Resource:
    """One path of the contract and its operations by method."""

    def __init__(self, **operations: Operation) -> None:
        self._operations = operations
        if "GET" in operations:
            self._operations["HEAD"] = operations["GET"]
        self._allow = (b"allow", ", ".join(sorted(self._operations)).encode())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = perf_counter()
        operation = self._operations.get(scope["method"])
        if operation is None:
            reply = _problem(MethodNotAllowed("This route has other methods; see Allow."))
            reply.headers.append(self._allow)
            await _respond(scope, send, reply)
            return
        status = 500
        try:
            try:
                reply = await self._reply(operation, scope, receive)
            except Refusal as refusal:
                reply = _problem(refusal)
            status = reply.status
            await _respond(scope, send, reply)
        except Disconnected:
            status = _CLIENT_GONE
        finally:
            operation.histogram.observe(status, perf_counter() - started)

    async def _reply(self, operation: Operation, scope: Scope, receive: Receive) -> Response:
        headers: dict[bytes, list[bytes]] = {}
        for name, value in scope["headers"]:
            if name in _READ_HEADERS:
                headers.setdefault(name, []).append(value)
        request = Request(scope["path_params"], scope["query_string"], headers)
        body = b""
        if b"content-length" in headers or b"transfer-encoding" in headers:
            body = await read_body(headers, receive)
        if operation.has_body:
            request.body = json_body(body, headers.get(b"content-type", []))
        return await operation.run(request)


def _problem(refusal: Refusal) -> Response:
    headers: Headers = [_PROBLEM]
    if refusal.retry_after_s is not None:
        headers.append((b"retry-after", str(refusal.retry_after_s).encode()))
    if isinstance(refusal, Unauthorized):
        headers.append((b"www-authenticate", b"Bearer"))
    body = {
        "type": f"urn:crossover:{refusal.code}",
        "title": refusal.title,
        "status": refusal.status,
        "detail": refusal.detail,
        **refusal.members,
    }
    return Response(refusal.status, headers, _encode(body))


async def _respond(scope: Scope, send: Send, reply: Response) -> None:
    headers = [*reply.headers, (b"content-length", str(len(reply.body)).encode())]
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else reply.body})
