"""A write model, its views and their projector in one process, and the keys of a namespace: what may move apart."""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Any, NamedTuple
from uuid import NAMESPACE_OID, uuid4, uuid5

import httpx
import psycopg
import redis

from contract.errors import StoreGone
from contract.http.app import make_app
from contract.messages import OrderPlaced, Query, QueryResult
from cqrs_impl.checkpoint import AnotherHistory
from cqrs_impl.documents.memory import MemoryDocuments
from cqrs_impl.event_store.events import OfStock, StoredEvent, decode
from cqrs_impl.event_store.history import state_of
from cqrs_impl.event_store.streams import Stock
from cqrs_impl.fold import fold
from cqrs_impl.queries import DocumentQueries
from ladder.environment import Environment
from ladder.rung import rung


class Promise(NamedTuple):
    path: str
    version: int  # at least
    token: str


class Folded:
    """What the events of a database say, folded anew for each query: the truth of a rung without tables."""

    def __init__(self, database: str, namespace: str) -> None:
        self.database, self.read = database, f"SELECT body FROM {namespace}.outbox ORDER BY xid, id"

    async def answer(self, query: Query) -> QueryResult:
        documents, streams, wanted = MemoryDocuments(), defaultdict[str, list[StoredEvent]](list), Counter[str]()
        for event in (decode(body) for (body,) in sql(self.database, self.read)):
            streams[event.stream].append(event)
            if isinstance(event, OrderPlaced):
                wanted.update({line.product_id: line.quantity for line in event.lines})
            if not isinstance(event, OfStock):
                await fold(event, documents)
        states = map(state_of, streams.values())  # an error where a version is missing
        assert {state.id: state.taken for state in states if isinstance(state, Stock)} == wanted
        return await DocumentQueries(documents).answer(query)

    async def close(self) -> None:
        pass


class World:
    """A write model, its views, their projector and their service, in this process."""

    def __init__(self, one: str, database: str, store: str, namespace: str, *, prepare: bool = True) -> None:
        self.rung, self.database, self.namespace, self.runner = rung(one), database, namespace, asyncio.Runner()
        self.env = Environment({"DATABASE_URL": database, "REDIS_URL": store, "CROSSOVER_NAMESPACE": namespace})
        if prepare:
            self.rung.prepare(self.env)
        truth: Any = rung("crud").system(self.env) if one == "cqrs" else Folded(database, namespace)
        self.systems = [self.rung.system(self.env), truth]
        self.views, self.truth = (
            httpx.AsyncClient(transport=httpx.ASGITransport(make_app(system)), base_url="http://here")
            for system in self.systems
        )
        self.projector = self.rung.workers(self.env)["projector"]

    def close(self) -> None:
        for system in self.systems:
            self.runner.run(system.close())
        self.runner.run(self.projector.close())
        self.runner.close()

    def sent(self, client: httpx.AsyncClient, method: str, path: str, **settings: Any) -> httpx.Response:
        for _ in range(10):  # a connection to a server that was restarted is found out by its use
            answer = self.runner.run(client.request(method, path, **settings))
            if answer.status_code != 503 or (client is self.views and method == "GET"):
                break
        return answer

    def write(self, count: int) -> list[Promise]:
        """Orders of new customers, all of one product."""
        product, promises = str(uuid5(NAMESPACE_OID, self.namespace)), list[Promise]()

        def does(path: str, shows: str, version: int, method: str = "PUT", **body: Any) -> None:
            answer = self.sent(self.views, method, path, json=body)
            assert answer.status_code in (200, 201), answer.text
            if answer.status_code == 200 and method == "PUT":
                return  # the product was there
            promises.append(Promise(shows, version, answer.headers["consistency-token"]))

        does(shown := f"/products/{product}", shown, 1, name="Tea", price_cents=100, stock=100)
        for _ in range(count):
            customer, order = str(uuid4()), str(uuid4())
            does(shown := f"/customers/{customer}", shown, 1, name="Ann Lee")
            line = {"product_id": product, "quantity": 1}
            does(shown := f"/orders/{order}", shown, 1, customer_id=customer, lines=[line])
            does(f"/orders/{order}/pay", shown, 2, method="POST")
        return promises

    def read(self, promise: Promise) -> httpx.Response:
        return self.sent(
            self.views, "GET", promise.path, headers={"Consistency-Token": promise.token, "Prefer": "wait=0"}
        )

    def steps(self) -> Iterator[None]:
        """Each step of the projector until nothing moves; a projector that gave its store up is started again."""
        for _ in range(200):
            try:
                moved = self.runner.run(self.projector.step())
            except AnotherHistory:
                self.runner.run(self.projector.close())
                self.projector = self.rung.workers(self.env)["projector"]
                continue
            except StoreGone:
                self.runner.run(self.projector.close())
                continue
            yield
            if not any(moved):
                return
        raise AssertionError("the projector comes to rest")

    def project(self) -> None:
        for _ in self.steps():
            pass

    def holds(self, promise: Promise) -> bool:
        shown = self.sent(self.truth, "GET", promise.path)
        return shown.status_code == 200 and shown.json()["version"] >= promise.version

    def is_ready(self) -> bool:
        answer = self.sent(self.views, "GET", "/ready")
        assert answer.status_code == 200 or answer.json()["type"] == "urn:crossover:unavailable"
        return answer.status_code == 200 and answer.json()["lag_events"] == 0

    def check(self, promises: list[Promise]) -> None:
        """What must hold at any time."""
        if self.is_ready():
            paths = {promise.path for promise in promises}
            paths |= {f"{path}/orders" for path in paths if path.startswith("/customers")}
            paths |= {f"{path}/history" for path in paths if path.startswith("/orders")}
            for path in (*paths, "/reports/top-products", "/reports/daily-sales", "/search/orders?q=ann"):
                shown, true = (self.sent(client, "GET", path) for client in (self.views, self.truth))
                assert (shown.status_code, shown.content) == (true.status_code, true.content), path
        for promise in promises:
            shown = self.read(promise)
            assert shown.status_code == 503 or shown.json().get("version", 0) >= promise.version, promise


class Store:
    """The keys of a namespace in Redis."""

    def __init__(self, client: redis.Redis, namespace: str) -> None:
        self.client, self.namespace = client, namespace

    def save(self) -> dict[bytes, Any]:
        return {key[len(self.namespace) :]: self.client.dump(key) for key in self.client.keys(f"{self.namespace}:*")}

    def put(self, contents: dict[bytes, Any]) -> None:
        if keys := self.client.keys(f"{self.namespace}:*"):
            self.client.delete(*keys)
        for key, value in contents.items():
            self.client.restore(self.namespace.encode() + key, 0, value)


def sql(url: str, *statements: str) -> list[Any]:
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in statements:
            cursor = connection.execute(statement.encode())
        return cursor.fetchall() if cursor.description else []
