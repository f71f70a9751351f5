"""What stands between the router and an operation: the bearer token, the method, the body's size, the refusals."""

from collections.abc import Awaitable, Callable
from hmac import compare_digest
from time import perf_counter
from typing import NamedTuple

import msgspec
from starlette.routing import Router
from starlette.types import ASGIApp, Receive, Scope, Send

from contract.errors import MethodNotAllowed, Refusal, Unauthorized
from contract.http.metrics import Histogram
from contract.http.request import Disconnected, Request

Headers = list[tuple[bytes, bytes]]

_CLIENT_GONE = 499  # in the metrics only: nobody is there to read it
_encode = msgspec.json.Encoder().encode


class Response(NamedTuple):
    status: int
    headers: Headers
    body: bytes


class Operation(NamedTuple):
    run: Callable[[Request], Awaitable[Response]]
    histogram: Histogram


class Authentication:
    """Decides before the router: without the bearer token nothing is found; an encoded slash separates nothing."""

    def __init__(self, router: Router, not_found: ASGIApp, unauthorized: ASGIApp, token: str | None) -> None:
        self.router, self._not_found, self._unauthorized = router, not_found, unauthorized
        self._token = None if token is None else token.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        app: ASGIApp = self.router
        if scope["type"] == "http":
            if self._token is not None and not _bears(scope["headers"], self._token):
                app = self._unauthorized
            elif scope["raw_path"].count(b"/") != scope["path"].count("/"):
                app = self._not_found
        await app(scope, receive, send)


def _bears(headers: Headers, token: bytes) -> bool:
    sent = [value for name, value in headers if name == b"authorization"]
    scheme, _, credentials = sent[0].partition(b" ") if len(sent) == 1 else (b"", b"", b"")
    return scheme.lower() == b"bearer" and compare_digest(credentials.strip(), token)


class Refusing:
    """Answers everything with one refusal."""

    def __init__(self, refusal: Refusal, histogram: Histogram) -> None:
        self._response, self._histogram = _problem(refusal), histogram

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.close"})
            return
        self._histogram.observe(self._response.status, 0.0)
        await _respond(scope, send, self._response)


class Resource:
    """One path of the contract and its operations by method."""

    def __init__(self, **operations: Operation) -> None:
        self._operations = operations
        if "GET" in operations:
            self._operations["HEAD"] = operations["GET"]
        self._allow = (b"allow", ", ".join(sorted(self._operations)).encode())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started_s = perf_counter()
        operation = self._operations.get(scope["method"])
        if operation is None:
            response = _problem(MethodNotAllowed("This route has other methods; see Allow."))
            response.headers.append(self._allow)
            await _respond(scope, send, response)
            return
        status = 500
        try:
            try:
                request = Request(scope)
                await request.receive(receive)
                response = await operation.run(request)
            except Refusal as refusal:
                response = _problem(refusal)
            status = response.status
            await _respond(scope, send, response)
        except Disconnected:
            status = _CLIENT_GONE
        finally:
            operation.histogram.observe(status, perf_counter() - started_s)


def _problem(refusal: Refusal) -> Response:
    headers: Headers = [(b"content-type", b"application/problem+json")]
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


async def _respond(scope: Scope, send: Send, response: Response) -> None:
    headers = [*response.headers, (b"content-length", str(len(response.body)).encode())]
    await send({"type": "http.response.start", "status": response.status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else response.body})
