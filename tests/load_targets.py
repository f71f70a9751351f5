"""Targets for tests of the harness: the contract over memory, honest or with one lie told on purpose."""

import asyncio
import datetime
import itertools
import math
import re
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from contract.http.app import make_app
from contract.ports import Clock, utc_now
from ladder.noop.system import MemoryOrders
from tests.service import in_thread

Lie = Callable[[str, int, bytes], bytes]  # "METHOD /path", status, body → body


def honest(clock: Clock = utc_now) -> ASGIApp:
    return make_app(MemoryOrders(clock))


def steps() -> Clock:
    """A clock that every target can have alike."""
    number = itertools.count()
    return lambda: datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC) + datetime.timedelta(milliseconds=next(number))


def lying(lie: Lie, clock: Clock = utc_now) -> ASGIApp:
    """Every answer's body passes through the lie."""
    app = honest(clock)

    async def liar(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await app(scope, receive, send)
        status, body = 0, b""
        start: Message = {}

        async def altered(message: Message) -> None:
            nonlocal status, body, start
            if message["type"] == "http.response.start":
                start, status = message, message["status"]
            else:
                body += message.get("body", b"")
                if not message.get("more_body"):
                    told = lie(f"{scope['method']} {scope['path']}", status, body)
                    headers = [pair for pair in start["headers"] if pair[0].lower() != b"content-length"]
                    await send(start | {"headers": [*headers, (b"content-length", str(len(told)).encode())]})
                    await send({"type": "http.response.body", "body": told})

        await app(scope, receive, altered)

    return liar


def forgetting(every: int) -> ASGIApp:
    """Acknowledges every n-th order without placing it."""
    app, seen = honest(), 0

    async def forgetful(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal seen
        if scope["type"] == "http" and scope["method"] == "PUT" and scope["path"].startswith("/orders/"):
            seen += 1
            if seen % every == 0:
                await receive()
                identity = scope["path"].split("/")[2].encode()
                body = b'{"id":"' + identity + b'","version":1}'
                headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
                await send({"type": "http.response.start", "status": 201, "headers": headers})
                return await send({"type": "http.response.body", "body": body})
        await app(scope, receive, send)

    return forgetful


def two_faced(every: int) -> ASGIApp:
    """Places every n-th order but tells the client that it was refused."""
    app, seen = honest(), 0

    async def face(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal seen
        refuse = False
        if scope["type"] == "http" and scope["method"] == "PUT" and scope["path"].startswith("/orders/"):
            seen += 1
            refuse = seen % every == 0

        async def altered(message: Message) -> None:
            if refuse and message["type"] == "http.response.start":
                message = message | {"status": 409}
            await send(message)

        await app(scope, receive, altered)

    return face


def late(seconds: float, *, heeds_tokens: bool = True) -> ASGIApp:
    """Shows a new order only some time after it was acknowledged; who sends a token waits for it."""
    app = honest()
    shown_from: dict[str, float] = {}

    async def behind(scope: Scope, receive: Receive, send: Send) -> None:
        order = scope["type"] == "http" and scope["path"].startswith("/orders/")
        if heeds_tokens and asks_by_token(scope):
            await asyncio.sleep(shown_from.get(scope["path"], 0) - time.monotonic())
        elif order and scope["method"] == "GET" and time.monotonic() < shown_from.get(scope["path"], 0):
            await send({"type": "http.response.start", "status": 404, "headers": [(b"content-length", b"0")]})
            return await send({"type": "http.response.body", "body": b""})
        await app(scope, receive, send)
        if order and scope["method"] == "PUT":
            shown_from[scope["path"]] = time.monotonic() + seconds

    return behind


def asks_by_token(scope: Scope) -> bool:
    return scope["type"] == "http" and any(name == b"consistency-token" for name, _ in scope["headers"])


def limited(served_per_s: float, applied_per_s: float) -> ASGIApp:
    """Answers one request at a time, so many a second, and shows so many writes a second; the backlog is told."""
    app = honest()
    free = applied = 0.0
    shown_from: dict[str, float] = {}

    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal free, applied
        if scope["type"] != "http" or scope["path"] == "/health":
            return await app(scope, receive, send)
        if scope["path"] == "/ready":
            behind = max(0, math.ceil((applied - time.monotonic()) * applied_per_s))
            body = b'{"lag_events":%d,"lag_seconds":0,"parked_events":0}' % behind
            await send(
                {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]}
            )
            return await send({"type": "http.response.body", "body": body})
        free = max(free, time.monotonic()) + 1 / served_per_s  # a schedule without drift, however late a sleep ends
        await asyncio.sleep(free - time.monotonic())
        thing = "/".join(scope["path"].split("/")[:3])
        if asks_by_token(scope):
            await asyncio.sleep(shown_from.get(thing, 0) - time.monotonic())
        elif scope["method"] == "GET" and time.monotonic() < shown_from.get(thing, 0):
            await send({"type": "http.response.start", "status": 404, "headers": [(b"content-length", b"0")]})
            return await send({"type": "http.response.body", "body": b""})
        await app(scope, receive, send)
        if scope["method"] in ("PUT", "POST"):
            applied = max(applied, time.monotonic()) + 1 / applied_per_s
            shown_from.setdefault(thing, applied)

    return slow


@contextmanager
def serving(*apps: ASGIApp) -> Iterator[list[str]]:
    """URLs of the apps, each in a thread."""
    with ExitStack() as stack:
        yield [stack.enter_context(in_thread(app)) for app in apps]


# Lies about orders, by name.


def wrong_total(asked: str, status: int, body: bytes) -> bytes:
    return re.sub(rb'"total_cents":(\d+)', lambda m: b'"total_cents":%d' % (int(m[1]) + 1), body)


def other_order_of_bytes(asked: str, status: int, body: bytes) -> bytes:
    return re.sub(rb'("id":"[^"]+"),("version":\d+)', rb"\2,\1", body)


def white_space(asked: str, status: int, body: bytes) -> bytes:
    return body.replace(b'":', b'": ', 1)


def wrong_stock(asked: str, status: int, body: bytes) -> bytes:
    return re.sub(rb'"stock":(\d+)', lambda m: b'"stock":%d' % (int(m[1]) + 5), body) if status == 200 else body


def wrong_spending(asked: str, status: int, body: bytes) -> bytes:
    return re.sub(rb'"spent_cents":\d+', b'"spent_cents":7', body)


def wrong_price(asked: str, status: int, body: bytes) -> bytes:
    """Consistent in itself: only the price the product had tells it."""
    if not asked.startswith("GET /orders/") or b'"unit_price_cents"' not in body:
        return body
    doubled = rb'"(unit_price_cents|amount_cents|total_cents)":(\d+)'
    return re.sub(doubled, lambda m: b'"%s":%d' % (m[1], 2 * int(m[2])), body)


def unpaid(asked: str, status: int, body: bytes) -> bytes:
    return body.replace(b'"status":"paid"', b'"status":"placed"')


def wrong_day(asked: str, status: int, body: bytes) -> bytes:
    return re.sub(rb'"orders":(\d+),"rev', lambda m: b'"orders":%d,"rev' % (2 * int(m[1])), body)


def wrong_top(asked: str, status: int, body: bytes) -> bytes:
    return body.replace(b'"sold":', b'"sold":1') if asked == "GET /reports/top-products" else body


def found_nothing(asked: str, status: int, body: bytes) -> bytes:
    return b'{"orders":[]}' if asked == "GET /search/orders" and status == 200 else body


def other_code(asked: str, status: int, body: bytes) -> bytes:
    return body.replace(b"urn:crossover:wrong-state", b"urn:crossover:conflict")


def wrong_time(asked: str, status: int, body: bytes) -> bytes:
    return body.replace(b'"placed_at":"2026-', b'"placed_at":"2025-') if asked.startswith("GET /customers/") else body


def other_cursor(asked: str, status: int, body: bytes) -> bytes:
    return body.replace(b'"next":"', b'"next":"A')
