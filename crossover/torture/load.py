"""The load of a torture: an open loop of clients that choose ids, keep tokens, repeat commands and record all of it."""

import json
import random
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import count
from typing import Any

import msgspec

from contract.position import position_of
from loadtests.history import COMMANDS, CREATIONS, Entry
from loadtests.http import HttpClient, HttpResponse, Unreachable
from loadtests.script import Step

RATE_PER_S = 80.0
SESSIONS, SESSIONS_MAX = 10, 64  # one more whenever all wait for an answer
TIMEOUT_S = 2.5
CUSTOMERS, PRODUCTS = 30, 24
NAMES = ("Ada", "Ben", "Cleo", "Dan", "Eva", "Finn")
GOODS = ("tea", "pot", "cup", "jar", "box")
WORDS = NAMES + GOODS
MIX = {
    **{"place": 26, "pay": 12, "ship": 6, "cancel": 7, "deliver": 5, "rename": 3, "reprice": 3},
    **{"register": 1, "add_product": 1, "order": 16, "history": 3, "customer": 6, "product": 5},
    **{"customer_orders": 5, "top_products": 2, "daily_sales": 2, "search": 2, "ready": 2},
}
READS = {
    "order": "/orders/{}",
    "history": "/orders/{}/history",
    "customer": "/customers/{}",
    "customer_orders": "/customers/{}/orders",
    "product": "/products/{}",
    "top_products": "/reports/top-products",
    "daily_sales": "/reports/daily-sales",
    "search": "/search/orders?q={}",
    "ready": "/ready",
}
SHOWN_BY = {"customers": "customer", "products": "product", "orders": "order"}


class Shop:
    """What all sessions know together: the ids they chose, and numbers that make each name and price unique."""

    def __init__(self) -> None:
        self.customers: list[str] = []
        self.products: list[str] = []
        self._numbers = count(1)

    def register(self, rng: random.Random, names: Sequence[str] = NAMES) -> Step:
        return command("register", f"/customers/{fresh_id(rng)}", name=f"{rng.choice(names)} {next(self._numbers)}")

    def add_product(self, rng: random.Random) -> Step:
        number = next(self._numbers)
        body = {"name": f"{rng.choice(GOODS)} {number}", "price_cents": number, "stock": rng.randint(20, 90)}
        return command("add_product", f"/products/{fresh_id(rng)}", **body)

    def rename(self, rng: random.Random, id: str) -> Step:
        return command("rename", f"/customers/{id}/rename", name=f"{rng.choice(NAMES)} {next(self._numbers)}")

    def reprice(self, id: str) -> Step:
        return command("reprice", f"/products/{id}/reprice", price_cents=next(self._numbers))


class Session:
    """One client, which sends one request after the other; with `tokens` it always sends the last it received."""

    def __init__(self, name: str, load: "Load", *, tokens: bool) -> None:
        self.name, self.tokens, self._load = name, tokens, load
        self.rng = random.Random(f"{load.seed} {name}")
        self._token = ""
        self._orders: list[str] = []
        self._recent: list[Step] = []  # commands that are safe to repeat
        self._versions: dict[str, int] = {}
        self._written_s: dict[str, float] = {}  # when the last acknowledged command on a resource was sent

    def perform(self, step: Step) -> Entry:
        headers = dict(step.headers) | ({"Consistency-Token": self._token} if self.tokens and self._token else {})
        sent_s = self._load.now_s()
        try:
            answer = self._load.client.request(step.method, step.path, step.body, headers)
        except Unreachable:
            answer = HttpResponse(0, {}, b"")
        shown = json.loads(answer.body) if answer.body else {}
        entry = Entry(
            step.name,
            step.path,
            answer.status,
            sent_s,
            self._load.now_s(),
            msgspec.json.decode(step.body) if step.body else {},
            version_in(step, answer.status, shown),
            self.name,
            self.tokens,
            str(shown.get("type", "")).removeprefix("urn:crossover:") if answer.status >= 400 else "",
            history_of(headers.get("Consistency-Token")),
            history_of(answer.headers.get("consistency-token")),
        )
        if entry.outcome == "ok":
            self._token = answer.headers.get("consistency-token", self._token)
        self._load.entries.append(entry)
        self._remember(step, entry)
        return entry

    def _remember(self, step: Step, entry: Entry) -> None:
        if entry.name not in COMMANDS:
            written_s = self._written_s.get(entry.id)
            if self.tokens and entry.outcome == "ok" and written_s is not None:
                self._load.seen.append((written_s, entry.done_s))
        elif entry.outcome != "refused":
            if entry.name in CREATIONS:
                known = {"customers": self._load.shop.customers, "products": self._load.shop.products}
                known.get(entry.collection, self._orders).append(entry.id)
            if entry.name not in ("rename", "reprice"):  # those undo a later one when repeated late
                self._recent = [*self._recent[-19:], step]
            if entry.outcome == "ok":
                self._load.acknowledged.append((entry.sent_s, entry.done_s))
                self._written_s[entry.id] = entry.sent_s
            if entry.version is not None:
                self._versions[entry.id] = entry.version

    def choose(self) -> Step:
        rng, shop = self.rng, self._load.shop
        if self._recent and rng.random() < 0.3:  # read what was just written, or write it once more
            if rng.random() < 0.25:
                return rng.choice(self._recent)
            _, collection, id, *_ = self._recent[-1].path.split("/")
            return read(SHOWN_BY[collection], id)
        name = rng.choices(list(MIX), list(MIX.values()))[0]
        order = rng.choice(self._orders[-40:]) if self._orders else fresh_id(rng)
        customer, product = rng.choice(shop.customers), rng.choice(shop.products)
        match name:
            case "register":
                return shop.register(rng)
            case "add_product":
                return shop.add_product(rng)
            case "rename":
                return self._guarded(shop.rename(rng, customer), customer)
            case "reprice":
                return self._guarded(shop.reprice(product), product)
            case "deliver":
                return deliver(rng, product, rng.randint(5, 30))
            case "place":
                return self._place(customer)
            case "pay" | "ship" | "cancel":
                return Step(name, "POST", f"/orders/{order}/{name}")
            case "customer" | "customer_orders":
                return read(name, customer)
            case "product":
                return read(name, product)
            case "search":
                return read(name, rng.choice(WORDS))
        return read(name, order)

    def _guarded(self, step: Step, id: str) -> Step:
        """Half of what changes a resource at will does so only at the version last seen."""
        version = self._versions.get(id)
        guard = {"Expected-Version": str(version)} if version and self.rng.random() < 0.5 else {}
        return step._replace(headers=guard)

    def _place(self, customer: str) -> Step:
        rng = self.rng
        products = rng.sample(self._load.shop.products, rng.randint(1, 4))
        if rng.random() < 0.03:
            products.append(fresh_id(rng))  # must be refused, and all of it
        lines = [{"product_id": product, "quantity": rng.randint(1, 6)} for product in products]
        return command("place", f"/orders/{fresh_id(rng)}", customer_id=customer, lines=lines)


class Load:
    """Operations are sent at the times of a Poisson process, whatever became of those before.

    `acknowledged` are the commands that were, (sent, done); `seen` the reads of a session's own writes, (write sent,
    read done): recovery and convergence follow from them.
    """

    def __init__(self, url: str, seed: int, rate_per_s: float) -> None:
        self.seed, self.shop, self._rate_per_s = seed, Shop(), rate_per_s
        self.client = HttpClient(url, timeout_s=TIMEOUT_S, resend=False)  # what was not answered is unknown
        self.entries: list[Entry] = []
        self.acknowledged: list[tuple[float, float]] = []
        self.seen: list[tuple[float, float]] = []
        self._start_s = time.monotonic()
        self._names = count(1)
        self._threads = ThreadPoolExecutor(2 * SESSIONS_MAX)
        self._over = threading.Event()
        self._sent: list[Future[Any]] = []

    def close(self) -> None:
        self._over.set()
        self._threads.shutdown(cancel_futures=True)

    def now_s(self) -> float:
        return time.monotonic() - self._start_s

    def done(self) -> tuple[int, int]:
        """How many samples there are of `acknowledged` and `seen`."""
        return len(self.acknowledged), len(self.seen)

    def session(self, *, tokens: bool) -> Session:
        return Session(f"client {next(self._names)}", self, tokens=tokens)

    def fill(self) -> None:
        """The first customers and products, before anything goes wrong."""
        session = self.session(tokens=False)
        for _ in range(CUSTOMERS):
            session.perform(self.shop.register(session.rng))
        for _ in range(PRODUCTS):
            session.perform(self.shop.add_product(session.rng))

    def during(self, work: Callable[[], object]) -> None:
        """Send operations while the work is done, and wait for their answers."""
        self._over.clear()
        playing = self._threads.submit(self._play, random.Random(f"{self.seed} {len(self.entries)}"))
        try:
            work()
        finally:
            self._over.set()
        playing.result()  # it sends no more after this
        for sent in self._sent:
            sent.result()
        self._sent.clear()

    def probe(self) -> None:
        """A fresh write and reads of it with its token, on a session that nobody else waits for."""
        self._sent.append(self._threads.submit(self._probe, self.session(tokens=True)))

    def _probe(self, session: Session) -> None:
        product = self.shop.products[0]
        if session.perform(deliver(session.rng, product, 1)).outcome == "ok":
            while session.perform(read("product", product)).outcome != "ok" and not self._over.wait(0.01):
                pass

    def _play(self, rng: random.Random) -> None:
        idle = [self.session(tokens=number % 2 == 0) for number in range(SESSIONS)]
        sessions, due_s = len(idle), self.now_s()
        while not self._over.wait(max(0.0, due_s - self.now_s())):
            due_s += rng.expovariate(self._rate_per_s)
            if not idle and sessions < SESSIONS_MAX:
                sessions += 1
                idle.append(self.session(tokens=sessions % 2 == 0))
            if idle:
                session = idle.pop(rng.randrange(len(idle)))
                self._sent.append(self._threads.submit(self._perform, session, idle))

    @staticmethod
    def _perform(session: Session, idle: list[Session]) -> None:
        try:
            session.perform(session.choose())
        finally:
            idle.append(session)


def command(name: str, path: str, /, **body: Any) -> Step:
    return Step(name, "POST" if name in ("rename", "reprice") else "PUT", path, msgspec.json.encode(body))


def deliver(rng: random.Random, product: str, quantity: int) -> Step:
    return command("deliver", f"/products/{product}/deliveries/{fresh_id(rng)}", quantity=quantity)


def read(name: str, key: str) -> Step:
    return Step(name, "GET", READS[name].format(key))


def history_of(token: str | None) -> str:
    """The history of the data that a token belongs to, if it names one."""
    return position_of(token).history if token else ""


def version_in(step: Step, status: int, shown: dict[str, Any]) -> int | None:
    """The version that an answer shows of its resource; of the backlog, the least of its figures."""
    if step.method == "GET" and status == 404:
        return 0
    if status not in (200, 201):
        return None
    if step.name == "history":
        return len(shown["changes"])
    return min(shown["lag_events"], int(shown["lag_seconds"] // 1)) if step.name == "ready" else shown.get("version")


def fresh_id(rng: random.Random) -> str:
    return str(uuid.UUID(int=rng.getrandbits(128), version=4))
