"""What the routes do: ask the system, wait for the position that a token asks for, refuse over the backlog limit."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from time import monotonic
from typing import TypeVar

import msgspec
from msgspec.structs import replace
from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4

from contract.errors import Behind, NotFound, StoreGone, Unavailable
from contract.http import docs
from contract.http.metrics import Metrics
from contract.http.operation import Operation, Response
from contract.http.request import Request
from contract.messages import (
    AsOf,
    BestOrders,
    Command,
    GetCustomer,
    GetEvents,
    GetOrder,
    GetProduct,
    Query,
    QueryResult,
    SearchOrders,
)
from contract.ports import CAPABILITIES, Audit, Following, Leading, OrderSystem, RankedSearch, TimeTravel
from contract.position import START, Position, covers, token_of

Q = TypeVar("Q")
Run = Callable[[Request], Awaitable[Response]]

_JSON = (b"content-type", b"application/json")
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.002, 0.020
_encode = msgspec.json.Encoder().encode


class Service:
    def __init__(self, system: OrderSystem, metrics: Metrics, backlog_limit: int) -> None:
        self._system, self._metrics, self._backlog = system, metrics, Backlog(system, backlog_limit)

    def query(self, name: str, read: Callable[[Request], Query]) -> Operation:
        following = self._system.answer_at if isinstance(self._system, Following) else None
        return Operation(self._reading(read, self._system.answer, following), self._metrics.histogram(name))

    def dated_query(self, name: str, read: Callable[[Request], GetOrder | GetCustomer | GetProduct]) -> Operation:
        """A query that can ask for the past by `as_of`."""
        present = self.query(name, read)
        past: Run = _lacking
        if isinstance(self._system, TimeTravel):
            past = self._reading(
                lambda r: AsOf(read(r), r.moment("as_of")),
                self._system.answer_as_of,
                nothing="There was no such resource then.",
            )

        return _or_else(present, "as_of", past)

    def search(self, name: str) -> Operation:
        """Of all words, or by `mode` of what fits best."""
        exact = self.query(name, lambda r: SearchOrders(*_searched(r)))
        best: Run = _lacking
        if isinstance(self._system, RankedSearch):

            def ranked(request: Request) -> BestOrders:
                request.choice("mode", ("best",))
                return BestOrders(*_searched(request))

            best = self._reading(ranked, self._system.best)
        return _or_else(exact, "mode", best)

    def events(self, name: str) -> Operation:
        system = self._system
        run: Run = _lacking
        if isinstance(system, Audit):
            run = self._reading(lambda r: GetEvents(r.id()), system.events_of)
        return Operation(run, self._metrics.histogram(name))

    def _reading(
        self,
        read: Callable[[Request], Q],
        answer: Callable[[Q], Awaitable[QueryResult]],
        following: Callable[[Q, Position], Awaitable[QueryResult]] | None = None,
        nothing: str = "There is no such resource.",
    ) -> Run:
        async def run(request: Request) -> Response:
            asked, wanted = read(request), request.token()
            request.finish()
            if wanted is None:
                result = await answer(asked)
            else:
                again = partial(following, asked, wanted) if following else partial(answer, asked)
                result = await again()
                if not _reflects(result, wanted):
                    result = await self._catch_up(again, result, wanted, request.wait_s())
            if result.body is None:
                raise NotFound(nothing)
            return Response(200, [_JSON, _token(result.position or wanted or START)], result.body)

        return run

    async def _catch_up(
        self, again: Callable[[], Awaitable[QueryResult]], result: QueryResult, wanted: Position, wait_s: int
    ) -> QueryResult:
        """Ask again until the answer reflects the wanted position, or refuse after `wait_s`."""
        loop = asyncio.get_running_loop()
        deadline, pause_s = loop.time() + wait_s, _FIRST_PAUSE_S
        while not _reflects(result, await self._led(wanted, result)):
            if (left_s := deadline - loop.time()) <= 0:
                raise Behind("The read side has not caught up with the Consistency-Token yet.")
            await asyncio.sleep(min(pause_s, left_s))
            result = await again()
            pause_s = min(pause_s * 1.5, _LONGEST_PAUSE_S)
        return result

    async def _led(self, wanted: Position, result: QueryResult) -> Position:
        """A token as a position of the answer's history, to which it must lead."""
        shown, system = result.position, self._system
        if shown is None or shown.history == wanted.history:
            return wanted
        if not covers(START, wanted) and not (isinstance(system, Leading) and await system.leads(wanted, shown)):
            raise Behind("The Consistency-Token belongs to another history of the data, such as before a restore.")
        return wanted._replace(history=shown.history)

    def command(self, name: str, read: Callable[[Request], Command]) -> Operation:
        async def run(request: Request) -> Response:
            command = read(request)
            request.finish()
            self._backlog.check()
            result = await self._system.execute(command)
            headers = [_JSON, _token(result.position)]
            if result.created:
                headers.append((b"location", f"/{request.collection}/{result.receipt.id}".encode()))
            return Response(201 if result.created else 200, headers, _encode(result.receipt))

        return Operation(run, self._metrics.histogram(name))

    def page(self, name: str, run: Callable[[], Awaitable[Response]]) -> Operation:
        return Operation(lambda _: run(), self._metrics.histogram(name))

    async def about(self, rung: str) -> Response:
        has = [name for name, port in CAPABILITIES.items() if isinstance(self._system, port)]
        found = {"rung": rung, "contract": docs.openapi()["info"]["version"], "capabilities": has, "docs": "/docs"}
        return Response(200, [_JSON], _encode(found))

    async def health(self) -> Response:
        return Response(200, [_JSON], b'{"status":"ok"}')

    async def ready(self) -> Response:
        try:
            readiness = await self._system.readiness()
        except StoreGone as gone:
            raise Unavailable(gone.detail, reason=gone.reason or gone.detail) from gone
        if readiness.unwritable is not None:
            raise Unavailable("The read store takes no writes right now.", reason=readiness.unwritable)
        self._backlog.update(readiness.lag_events)
        return Response(200, [_JSON], _encode(replace(readiness, applied=None, counts=None)))

    async def scrape(self) -> Response:
        readiness = None
        with suppress(Unavailable):
            readiness = await self._system.readiness()
        body = self._metrics.text(readiness, self._system.pool_use())
        return Response(200, [(b"content-type", CONTENT_TYPE_PLAIN_0_0_4.encode())], body)

    async def openapi(self) -> Response:
        return Response(200, [_JSON], docs.openapi_json())

    async def docs(self) -> Response:
        return Response(200, [(b"content-type", b"text/html; charset=utf-8"), docs.POLICY], docs.page())


class Backlog:
    """Refuses while the read side is too far behind. Commands have it measured in the background, so that none waits:
    once a second, ten times as often above half the limit, and never while no commands come."""

    def __init__(self, system: OrderSystem, limit: int) -> None:
        self._system, self._limit = system, limit
        self._lag_events, self._next_s = 0, 0.0
        self._measuring: asyncio.Task[None] | None = None  # kept: the event loop itself holds tasks weakly

    def check(self) -> None:
        if (now_s := monotonic()) >= self._next_s:
            self._next_s = now_s + (1.0 if self._lag_events <= self._limit // 2 else 0.1)
            self._measuring = asyncio.create_task(self._measure())
        self.update(self._lag_events)

    def update(self, lag_events: int) -> None:
        self._lag_events = lag_events
        if lag_events > self._limit:
            raise Unavailable("The read side is too far behind.")

    async def _measure(self) -> None:
        with suppress(Unavailable):  # then the last measurement holds
            self._lag_events = (await self._system.readiness()).lag_events


def _or_else(operation: Operation, parameter: str, other: Run) -> Operation:
    """The same operation, but where a parameter is given."""

    async def run(request: Request) -> Response:
        return await (other(request) if request.gives(parameter) else operation.run(request))

    return Operation(run, operation.histogram)


def _searched(request: Request) -> tuple[tuple[str, ...], int]:
    return request.words("q"), request.number("limit", 20, 100)


async def _lacking(_: Request) -> Response:
    raise NotFound("This service does not have that capability: GET / names those that it has.")


def _reflects(result: QueryResult, wanted: Position) -> bool:
    shown = result.position
    return shown is None or (shown.history == wanted.history and covers(shown, wanted))


def _token(position: Position) -> tuple[bytes, bytes]:
    return (b"consistency-token", token_of(position).encode())
