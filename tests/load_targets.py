"""Targets for tests of the harness: the contract over memory, honest or with one lie told on purpose."""

import asyncio
import datetime
import itertools
import math
import re
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp

from contract.http.app import make_app
from contract.ports import Clock, utc_now
from ladder.noop.system import MemoryOrders
from tests.service import in_thread

Lie = Callable[[str, int, bytes], bytes]  # "METHOD /path", status, body → body
Ask = Callable[[Request], Awaitable[Any]]  # the honest target
Dispatch = Callable[[Request, Ask], Awaitable[Response]]


def honest(clock: Clock = utc_now) -> ASGIApp:
    return make_app(MemoryOrders(clock))


def steps() -> Clock:
    """A clock that every target can have alike."""
    number = itertools.count()
    return lambda: datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC) + datetime.timedelta(milliseconds=next(number))


def answering(dispatch: Dispatch, clock: Clock = utc_now) -> ASGIApp:
    """An honest target behind `dispatch`, which may answer instead of it, or change its answer."""
    return BaseHTTPMiddleware(honest(clock), dispatch)


def lying(lie: Lie, clock: Clock = utc_now) -> ASGIApp:
    """Every answer's body passes through the lie."""

    async def lied(request: Request, ask: Ask) -> Response:
        response = await ask(request)
        body = b"".join([part async for part in response.body_iterator])
        told = Response(lie(f"{request.method} {request.url.path}", response.status_code, body), response.status_code)
        told.raw_headers += [pair for pair in response.raw_headers if pair[0].lower() != b"content-length"]
        return told

    return answering(lied, clock)


def places(request: Request) -> bool:
    return request.method == "PUT" and request.url.path.startswith("/orders/")


def busy_when_asked() -> ASGIApp:
    """Refuses each query, and each repeat of a command, the first time."""
    asked = Counter[str]()

    async def refuse(request: Request, ask: Ask) -> Response:
        asked[key := f"{request.method} {request.url}"] += 1
        if asked[key] == (1 if request.method == "GET" else 2):
            return JSONResponse({"detail": "busy"}, 503)
        return await ask(request)

    return answering(refuse, utc_now)


def forgetting(every: int) -> ASGIApp:
    """Acknowledges every n-th order without placing it."""
    number = itertools.count(1)

    async def forget(request: Request, ask: Ask) -> Response:
        if places(request) and next(number) % every == 0:
            return JSONResponse({"id": request.url.path.split("/")[2], "version": 1}, 201)
        return await ask(request)

    return answering(forget)


def two_faced(every: int) -> ASGIApp:
    """Places every n-th order but tells the client that it was refused."""
    number = itertools.count(1)

    async def face(request: Request, ask: Ask) -> Response:
        response = await ask(request)
        if places(request) and next(number) % every == 0:
            response.status_code = 409
        return response

    return answering(face)


class Views:
    """What a projector that is late shows: of a thing written, nothing until its time; a token waits for it."""

    def __init__(self) -> None:
        self.shown_from: dict[str, float] = {}

    async def hidden(self, request: Request) -> bool:
        still_s = self.shown_from.get(thing_of(request), 0) - time.monotonic()
        if "consistency-token" in request.headers:
            await asyncio.sleep(still_s)
            return False
        return request.method == "GET" and still_s > 0


def thing_of(request: Request) -> str:
    return "/".join(request.url.path.split("/")[:3])


def late(seconds: float) -> ASGIApp:
    """Shows a new order only some time after it was acknowledged, and says so; who sends a token waits for it."""
    views = Views()

    async def behind(request: Request, ask: Ask) -> Response:
        if request.url.path == "/ready":
            lag = sum(shown > time.monotonic() for shown in views.shown_from.values())
            return JSONResponse({"lag_events": lag, "lag_seconds": seconds * bool(lag), "parked_events": 0})
        if await views.hidden(request):
            return Response(status_code=404)
        response = await ask(request)
        if places(request):
            views.shown_from[thing_of(request)] = time.monotonic() + seconds
        return response

    return answering(behind)


def ignoring_tokens() -> ASGIApp:
    """Does not show a new order to the first reader who brings a token; who asks to wait, as the check before the load
    does and the load does not, is shown it."""
    new = set[str]()

    async def ignore(request: Request, ask: Ask) -> Response:
        thing, brought = thing_of(request), {"consistency-token", "prefer"} & {*request.headers}
        if request.method == "GET" and brought == {"consistency-token"} and thing in new:
            new.remove(thing)
            return Response(status_code=404)
        response = await ask(request)
        if places(request):
            new.add(thing)
        return response

    return answering(ignore)


def limited(served_per_s: float, applied_per_s: float) -> ASGIApp:
    """Answers one request at a time, so many a second, and shows so many writes a second; the backlog is told."""
    views, free, applied = Views(), 0.0, 0.0

    async def slow(request: Request, ask: Ask) -> Response:
        nonlocal free, applied
        if request.url.path == "/health":
            return await ask(request)
        if request.url.path == "/ready":
            behind = max(0, math.ceil((applied - time.monotonic()) * applied_per_s))
            return JSONResponse({"lag_events": behind, "lag_seconds": 0, "parked_events": 0})
        free = max(free, time.monotonic()) + 1 / served_per_s  # a schedule without drift, however late a sleep ends
        await asyncio.sleep(free - time.monotonic())
        if await views.hidden(request):
            return Response(status_code=404)
        response = await ask(request)
        if request.method != "GET":
            applied = max(applied, time.monotonic()) + 1 / applied_per_s
            views.shown_from.setdefault(thing_of(request), applied)
        return response

    return answering(slow)


@contextmanager
def serving(*apps: ASGIApp) -> Iterator[list[str]]:
    """URLs of the apps, each in a thread."""
    with ExitStack() as stack:
        yield [stack.enter_context(in_thread(app)) for app in apps]


def replacing(pattern: bytes, new: bytes | Callable[[re.Match[bytes]], bytes], *, asked: str = "") -> Lie:
    """A lie in the bodies of what is asked; empty: of everything."""
    return lambda what, status, body: re.sub(pattern, new, body) if what.startswith(asked) else body


def changed(pattern: bytes, change: Callable[[int], int], *, asked: str = "") -> Lie:
    """A lie about a number, which follows the pattern."""
    return replacing(b"(" + pattern + rb")(\d+)", lambda m: b"%s%d" % (m[1], change(int(m[2]))), asked=asked)


wrong_total = changed(b'"total_cents":', lambda cents: cents + 1)
wrong_stock = changed(b'"stock":', lambda pieces: pieces + 5, asked="GET ")
wrong_spending = changed(b'"spent_cents":', lambda _: 7)
wrong_day = replacing(rb'"orders":(\d+),"rev', lambda m: b'"orders":%d,"rev' % (2 * int(m[1])))
wrong_top = replacing(b'"sold":', b'"sold":1', asked="GET /reports/top-products")
wrong_time = replacing(b'"placed_at":"2026-', b'"placed_at":"2025-', asked="GET /customers/")
unpaid = replacing(b'"status":"paid"', b'"status":"placed"')
found_nothing = replacing(rb"(?s)\A.*\Z", b'{"orders":[]}', asked="GET /search/orders")
other_code = replacing(b"urn:crossover:wrong-state", b"urn:crossover:conflict")
other_cursor = replacing(b'"next":"', b'"next":"A')
other_order_of_bytes = replacing(rb'("id":"[^"]+"),("version":\d+)', rb"\2,\1")
white_space = replacing(rb'\A(.*?":)', rb"\1 ")


def wrong_price(asked: str, status: int, body: bytes) -> bytes:
    """Consistent in itself: only the price the product had tells it."""
    if b'"unit_price_cents"' not in body:
        return body
    cents = b'"(?:unit_price_cents|amount_cents|total_cents)":'
    return changed(cents, lambda found: 2 * found, asked="GET /orders/")(asked, status, body)
