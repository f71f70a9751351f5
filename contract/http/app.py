"""HTTP in, HTTP out: the same answers whichever system stands behind."""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from time import monotonic

import msgspec
from msgspec.structs import replace
from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4
from starlette.routing import Route, Router

from contract.errors import Behind, NotFound, Unauthorized, Unavailable
from contract.http import bodies, docs
from contract.http.metrics import Metrics
from contract.http.operation import Authentication, Operation, Refusing, Resource, Response
from contract.http.request import Request
from contract.messages import (
    CancelOrder,
    Command,
    DailySales,
    GetCustomer,
    GetHistory,
    GetOrder,
    GetProduct,
    ListOrders,
    PayOrder,
    Query,
    QueryResult,
    Readiness,
    SearchOrders,
    ShipOrder,
    TopProducts,
)
from contract.ports import OrderSystem
from contract.position import START, Position, covers, token_of

Hook = Callable[[], Awaitable[None]]

_JSON = (b"content-type", b"application/json")
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.002, 0.020
_encode = msgspec.json.Encoder().encode


def make_app(
    system: OrderSystem,
    *,
    token: str | None = None,
    rung: str = "",
    backlog_limit: int = 50_000,
    on_start: Hook | None = None,
    on_stop: Hook | None = None,
) -> Authentication:
    """The contract's HTTP side over a system. With a `token`, every request must bear it; `/ready` and
    commands are refused over `backlog_limit` events."""
    metrics, backlog = Metrics(rung), Backlog(system, backlog_limit)

    def query(name: str, read: Callable[[Request], Query]) -> Operation:
        async def run(request: Request) -> Response:
            asked, wanted = read(request), request.token()
            request.finish()
            answer = await system.answer(asked)
            if wanted is not None and answer.position is not None and not covers(answer.position, wanted):
                answer = await _catch_up(system, asked, wanted, request.wait_s())
            if answer.body is None:
                raise NotFound("There is no such thing.")
            return Response(200, [_JSON, _token(answer.position or wanted or START)], answer.body)

        return Operation(run, metrics.histogram(name))

    def command(name: str, read: Callable[[Request], Command], home: bytes = b"", has_body: bool = True) -> Operation:
        async def run(request: Request) -> Response:
            asked = read(request)
            request.finish()
            backlog.check()
            done = await system.execute(asked)
            headers = [_JSON, _token(done.position)]
            if done.created:
                headers.append((b"location", home + done.receipt.id.encode()))
            return Response(201 if done.created else 200, headers, _encode(done.receipt))

        return Operation(run, metrics.histogram(name), has_body)

    def transition(name: str, kind: type[PayOrder | ShipOrder | CancelOrder]) -> Operation:
        return command(name, lambda r: kind(r.path_id("id"), r.expected_version()), has_body=False)

    def page(name: str, run: Callable[[Request], Awaitable[Response]]) -> Operation:
        return Operation(run, metrics.histogram(name))

    async def health(_: Request) -> Response:
        return Response(200, [_JSON], b'{"status":"ok"}')

    async def ready(_: Request) -> Response:
        now = await system.readiness()
        backlog.note(now)
        return Response(200, [_JSON], _encode(replace(now, applied=None)))

    async def scrape(_: Request) -> Response:
        try:
            readiness = await system.readiness()
        except Unavailable:
            readiness = None
        body = metrics.text(readiness, system.pool_use())
        return Response(200, [(b"content-type", CONTENT_TYPE_PLAIN_0_0_4.encode())], body)

    async def openapi(_: Request) -> Response:
        return Response(200, [_JSON], docs.openapi_json())

    async def browse(_: Request) -> Response:
        return Response(200, [(b"content-type", b"text/html; charset=utf-8"), docs.POLICY], docs.page())

    resources = {  # the busiest first: Starlette asks one after the other
        "/orders/{id}": Resource(
            GET=query("order", lambda r: GetOrder(r.path_id("id"))),
            PUT=command("place", bodies.place_order, b"/orders/"),
        ),
        "/customers/{id}/orders": Resource(
            GET=query(
                "customer_orders", lambda r: ListOrders(r.path_id("id"), r.number("limit", 20, 100), r.cursor("after"))
            )
        ),
        "/products/{id}": Resource(
            GET=query("product", lambda r: GetProduct(r.path_id("id"))),
            PUT=command("add_product", bodies.add_product, b"/products/"),
        ),
        "/customers/{id}": Resource(
            GET=query("customer", lambda r: GetCustomer(r.path_id("id"))),
            PUT=command("register", bodies.register_customer, b"/customers/"),
        ),
        "/orders/{id}/pay": Resource(POST=transition("pay", PayOrder)),
        "/orders/{id}/ship": Resource(POST=transition("ship", ShipOrder)),
        "/orders/{id}/cancel": Resource(POST=transition("cancel", CancelOrder)),
        "/orders/{id}/history": Resource(GET=query("history", lambda r: GetHistory(r.path_id("id")))),
        "/search/orders": Resource(
            GET=query("search", lambda r: SearchOrders(r.words("q"), r.number("limit", 20, 100)))
        ),
        "/reports/top-products": Resource(GET=query("top_products", lambda r: TopProducts(r.number("limit", 10, 100)))),
        "/reports/daily-sales": Resource(GET=query("daily_sales", lambda r: DailySales(r.number("days", 30, 366)))),
        "/products/{id}/deliveries/{delivery_id}": Resource(
            PUT=command("deliver", bodies.deliver_stock, b"/products/")
        ),
        "/products/{id}/reprice": Resource(POST=command("reprice", bodies.reprice_product)),
        "/customers/{id}/rename": Resource(POST=command("rename", bodies.rename_customer)),
        "/health": Resource(GET=page("health", health)),
        "/ready": Resource(GET=page("ready", ready)),
        "/metrics": Resource(GET=page("metrics", scrape)),
        "/openapi.json": Resource(GET=page("openapi", openapi)),
        "/docs": Resource(GET=page("docs", browse)),
    }
    elsewhere = Refusing(NotFound("There is no such route."), metrics.histogram("no_route"))
    routes = [Route(path, resource, name=path) for path, resource in resources.items()]
    for route in routes:  # a `$` would forgive a line feed at the end of the path
        route.path_regex = re.compile(route.path_regex.pattern.removesuffix("$") + r"\Z")
    router = Router(routes, redirect_slashes=False, default=elsewhere, lifespan=_lifespan(on_start, on_stop))
    stranger = Refusing(Unauthorized("A bearer token is needed."), metrics.histogram("unauthorized"))
    return Authentication(router, elsewhere, stranger, token)


class Backlog:
    """Refuses while the read side is too far behind. For commands it looks in the background and only while some come:
    once a second, ten times as often above half the limit; none waits for that, and none pays for a query."""

    def __init__(self, system: OrderSystem, limit: int) -> None:
        self._system, self._limit = system, limit
        self._lag_events, self._next_look_s = 0, 0.0
        self._looking: asyncio.Task[None] | None = None  # kept: the loop itself forgets tasks

    def check(self) -> None:
        if (now_s := monotonic()) >= self._next_look_s:
            self._next_look_s = now_s + (1.0 if self._lag_events <= self._limit // 2 else 0.1)
            self._looking = asyncio.create_task(self._look())
        self._refuse()

    def note(self, now: Readiness) -> None:
        self._lag_events = now.lag_events
        self._refuse()

    def _refuse(self) -> None:
        if self._lag_events > self._limit:
            raise Unavailable("The read side is too far behind.")

    async def _look(self) -> None:
        with suppress(Unavailable):  # the last word holds until there is another
            self._lag_events = (await self._system.readiness()).lag_events


async def _catch_up(system: OrderSystem, query: Query, wanted: Position, wait_s: int) -> QueryResult:
    """Ask again until the answer reflects the wanted position, or refuse after `wait_s`."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + wait_s
    pause_s = _FIRST_PAUSE_S
    while (left_s := deadline - loop.time()) > 0:
        await asyncio.sleep(min(pause_s, left_s))
        answer = await system.answer(query)
        if answer.position is None or covers(answer.position, wanted):
            return answer
        pause_s = min(pause_s * 1.5, _LONGEST_PAUSE_S)
    raise Behind("The read side has not caught up with the Consistency-Token yet.")


def _token(position: Position) -> tuple[bytes, bytes]:
    return (b"consistency-token", token_of(position).encode())


def _lifespan(on_start: Hook | None, on_stop: Hook | None) -> Callable[[object], AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def lifespan(_: object) -> AsyncIterator[None]:
        if on_start is not None:
            await on_start()
        try:
            yield
        finally:
            if on_stop is not None:
                await on_stop()

    return lifespan
