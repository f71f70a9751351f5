"""The HTTP side of the contract: its routes, the same over every system."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from starlette.routing import Route, Router

from contract import messages as m
from contract.errors import NotFound, Unauthorized
from contract.http.bodies import DELIVERY, NAME, ORDER, PRICE, PRODUCT
from contract.http.metrics import Metrics
from contract.http.operation import Authentication, Refusing, Resource
from contract.http.service import Service
from contract.ports import OrderSystem


def make_app(
    system: OrderSystem, *, token: str | None = None, rung: str = "", backlog_limit: int = 50_000
) -> Authentication:
    """The ASGI app over a system. With a `token`, every request must bear it; commands and `/ready` are refused while
    more than `backlog_limit` events are not projected."""
    metrics = Metrics(rung)
    service = Service(system, metrics, backlog_limit)
    query, dated, command, page = service.query, service.dated_query, service.command, service.page
    resources = {  # the busiest first: Starlette tries one after the other
        "/orders/{id}": Resource(
            GET=dated("order", lambda r: m.GetOrder(r.id())),
            PUT=command("place", lambda r: m.PlaceOrder(r.id(), **r.body(ORDER))),
        ),
        "/customers/{id}/orders": Resource(
            GET=query("customer_orders", lambda r: m.ListOrders(r.id(), r.number("limit", 20, 100), r.cursor("after")))
        ),
        "/products/{id}": Resource(
            GET=dated("product", lambda r: m.GetProduct(r.id())),
            PUT=command("add_product", lambda r: m.AddProduct(r.id(), **r.body(PRODUCT))),
        ),
        "/customers/{id}": Resource(
            GET=dated("customer", lambda r: m.GetCustomer(r.id())),
            PUT=command("register", lambda r: m.RegisterCustomer(r.id(), **r.body(NAME))),
        ),
        "/orders/{id}/pay": Resource(POST=command("pay", lambda r: m.PayOrder(r.id(), r.version()))),
        "/orders/{id}/ship": Resource(POST=command("ship", lambda r: m.ShipOrder(r.id(), r.version()))),
        "/orders/{id}/cancel": Resource(POST=command("cancel", lambda r: m.CancelOrder(r.id(), r.version()))),
        "/orders/{id}/history": Resource(GET=query("history", lambda r: m.GetHistory(r.id()))),
        "/orders/{id}/events": Resource(GET=service.events("events")),
        "/search/orders": Resource(GET=service.search("search")),
        "/reports/top-products": Resource(
            GET=query("top_products", lambda r: m.TopProducts(r.number("limit", 10, 100)))
        ),
        "/reports/daily-sales": Resource(GET=query("daily_sales", lambda r: m.DailySales(r.number("days", 30, 366)))),
        "/products/{id}/deliveries/{delivery_id}": Resource(
            PUT=command("deliver", lambda r: m.DeliverStock(r.id(), r.id("delivery_id"), **r.body(DELIVERY)))
        ),
        "/products/{id}/reprice": Resource(
            POST=command("reprice", lambda r: m.RepriceProduct(r.id(), expected_version=r.version(), **r.body(PRICE)))
        ),
        "/customers/{id}/rename": Resource(
            POST=command("rename", lambda r: m.RenameCustomer(r.id(), expected_version=r.version(), **r.body(NAME)))
        ),
        "/": Resource(GET=page("about", partial(service.about, rung))),
        "/health": Resource(GET=page("health", service.health)),
        "/ready": Resource(GET=page("ready", service.ready)),
        "/metrics": Resource(GET=page("metrics", service.scrape)),
        "/openapi.json": Resource(GET=page("openapi", service.openapi)),
        "/docs": Resource(GET=page("docs", service.docs)),
    }
    routes = [Route(path, resource, name=path) for path, resource in resources.items()]
    for route in routes:  # `$` would accept a line feed at the end of the path
        route.path_regex = re.compile(route.path_regex.pattern.removesuffix("$") + r"\Z")
    not_found = Refusing(NotFound("There is no such route."), metrics.histogram("no_route"))
    unauthorized = Refusing(Unauthorized("A bearer token is needed."), metrics.histogram("unauthorized"))

    @asynccontextmanager
    async def lifespan(_: object) -> AsyncIterator[None]:
        yield
        await system.close()

    router = Router(routes, redirect_slashes=False, default=not_found, lifespan=lifespan)
    return Authentication(router, not_found, unauthorized, token)
