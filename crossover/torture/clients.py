"""The clients: each sends one operation after the other, chooses its ids itself, and books what came of it."""

import asyncio
import json
import math
import random
import time
import uuid
from collections.abc import Callable, Sequence
from itertools import count
from typing import Any, NamedTuple

from crossover.torture.history import COMMANDS, Operation
from crossover.torture.wire import Wire

THINK_S, PROBE_S = 0.04, 0.05
RECOVER_S_MAX = 15.0
CUSTOMERS, PRODUCTS = 30, 24
NAMES = ("Ada", "Ben", "Cleo", "Dan", "Eva", "Finn")
GOODS = ("tea", "pot", "cup", "jar", "box")
MIX = {"place": 26, "pay": 12, "ship": 6, "cancel": 7, "deliver": 5, "rename": 3, "reprice": 3, "register": 1, "add": 1}
MIX |= {
    "order": 16,
    "history": 3,
    "customer": 6,
    "product": 5,
    "orders": 5,
    "top": 2,
    "days": 2,
    "search": 2,
    "ready": 2,
}
READS = {
    "order": "/orders/{}",
    "history": "/orders/{}/history",
    "customer": "/customers/{}",
    "orders": "/customers/{}/orders",
    "product": "/products/{}",
    "top": "/reports/top-products",
    "days": "/reports/daily-sales",
    "search": "/search/orders?q={}",
    "ready": "/ready",
}


class Wish(NamedTuple):
    """An operation to be sent; `value` is what tells its effect from others on the same thing."""

    kind: str
    id: str
    value: str | int = ""
    body: dict[str, Any] | None = None
    expected_version: int | None = None

    @property
    def request(self) -> tuple[str, str]:
        """Method and path."""
        match self.kind:
            case "register":
                return "PUT", f"/customers/{self.id}"
            case "add":
                return "PUT", f"/products/{self.id}"
            case "place":
                return "PUT", f"/orders/{self.id}"
            case "deliver":
                return "PUT", f"/products/{self.id}/deliveries/{self.value}"
            case "rename":
                return "POST", f"/customers/{self.id}/rename"
            case "reprice":
                return "POST", f"/products/{self.id}/reprice"
            case "pay" | "ship" | "cancel":
                return "POST", f"/orders/{self.id}/{self.kind}"
        return "GET", READS[self.kind].format(self.id)


class Shop:
    """What all clients know together: the ids they chose, and numbers that make each name and price unique."""

    def __init__(self, seed: int, now_s: Callable[[], float]) -> None:
        self.seed, self.now_s = seed, now_s
        self.customers: list[str] = []
        self.products: list[str] = []
        self.operations: list[Operation] = []
        self.late: set[asyncio.Task[Client | None]] = set()  # probes that nobody waits for, but the books do
        self._numbers = count(1)

    def register(self, rng: random.Random, names: Sequence[str] = NAMES) -> Wish:
        name = f"{rng.choice(names)} {next(self._numbers)}"
        return Wish("register", fresh_id(rng), "", {"name": name})

    def add(self, rng: random.Random) -> Wish:
        number = next(self._numbers)
        name = f"{rng.choice(GOODS)} {number}"
        return Wish("add", fresh_id(rng), "", {"name": name, "price_cents": number, "stock": rng.randint(20, 90)})

    def rename(self, rng: random.Random, id: str) -> Wish:
        name = f"{rng.choice(NAMES)} {next(self._numbers)}"
        return Wish("rename", id, name, {"name": name})

    def reprice(self, id: str) -> Wish:
        price = next(self._numbers)
        return Wish("reprice", id, price, {"price_cents": price})

    async def fill(self, port: int) -> None:
        """The first customers and products, before anything goes wrong."""
        client = Client("filler", self, port, tokens=False)
        for wish in [
            *(self.register(client.rng) for _ in range(CUSTOMERS)),
            *(self.add(client.rng) for _ in range(PRODUCTS)),
        ]:
            await client.perform(wish)
        client.wire.close()


class Client:
    """Keeps tokens, if it is one that does, and remembers what it may repeat, pay, ship or cancel."""

    def __init__(self, name: str, shop: Shop, port: int, *, tokens: bool) -> None:
        self.name, self.shop, self.tokens = name, shop, tokens
        self.rng = random.Random(f"{shop.seed} {name}")
        self.wire = Wire(port)
        self.token = ""
        self._orders: list[str] = []
        self._recent: list[Wish] = []  # commands that are safe to repeat
        self._versions: dict[str, int] = {}

    async def run(self, until_s: float) -> None:
        """Operations with pauses between them; the last one is finished."""
        while self.shop.now_s() < until_s:
            await self.perform(self._choose())
            await asyncio.sleep(self.rng.expovariate(1 / THINK_S))
        self.wire.close()

    async def perform(self, wish: Wish) -> Operation:
        method, path = wish.request
        headers = {"Consistency-Token": self.token} if self.tokens and self.token else {}
        if wish.expected_version is not None:
            headers["Expected-Version"] = str(wish.expected_version)
        sent_s = self.shop.now_s()
        reply = await self.wire.ask(method, path, wish.body, headers)
        said = json.loads(reply.body) if reply.body else {}
        if reply.status in (200, 201):
            self.token = reply.headers.get("consistency-token", self.token)
            version = len(said["changes"]) if wish.kind == "history" else said.get("version")
            if wish.kind == "ready":
                version = min(said["lag_events"], math.ceil(said["lag_seconds"]))
        else:
            version = 0 if reply.status == 404 and method == "GET" else None
        done = Operation(
            self.name,
            wish.kind,
            wish.id,
            sent_s,
            self.shop.now_s(),
            reply.status,
            wish.value,
            wish.body or {},
            version,
            self.tokens,
            str(said.get("type", "")).removeprefix("urn:crossover:") if reply.status >= 400 else "",
        )
        self.shop.operations.append(done)
        self._remember(wish, done)
        return done

    def _remember(self, wish: Wish, done: Operation) -> None:
        if done.outcome == "refused" or wish.kind not in COMMANDS:
            return
        if wish.kind == "register":
            self.shop.customers.append(wish.id)
        elif wish.kind == "add":
            self.shop.products.append(wish.id)
        elif wish.kind == "place":
            self._orders.append(wish.id)
        if wish.kind not in ("rename", "reprice"):  # those undo a later one when repeated late
            self._recent = [*self._recent[-19:], wish]
        if done.version is not None:
            self._versions[wish.id] = done.version

    def _choose(self) -> Wish:
        rng, shop = self.rng, self.shop
        if self._recent and rng.random() < 0.3:  # look at what was just written, or write it once more
            last = self._recent[-1]
            if rng.random() < 0.25:
                return rng.choice(self._recent)
            return Wish(
                {"register": "customer", "add": "product", "deliver": "product"}.get(last.kind, "order"), last.id
            )
        kind = rng.choices(list(MIX), list(MIX.values()))[0]
        order = rng.choice(self._orders[-40:]) if self._orders else fresh_id(rng)
        customer, product = rng.choice(shop.customers), rng.choice(shop.products)
        match kind:
            case "register":
                return shop.register(rng)
            case "add":
                return shop.add(rng)
            case "rename":
                return self._guarded(shop.rename(rng, customer))
            case "reprice":
                return self._guarded(shop.reprice(product))
            case "deliver":
                return Wish("deliver", product, fresh_id(rng), {"quantity": rng.randint(5, 30)})
            case "place":
                return self._order(customer)
            case "customer" | "orders":
                return Wish(kind, customer)
            case "product":
                return Wish(kind, product)
            case "search":
                return Wish(kind, rng.choice(NAMES + GOODS))
            case "top" | "days" | "ready":
                return Wish(kind, "")
        return Wish(kind, order)

    def _guarded(self, wish: Wish) -> Wish:
        """Half of what changes a thing at will does so only at the version last seen."""
        seen = self._versions.get(wish.id)
        return wish._replace(expected_version=seen) if seen and self.rng.random() < 0.5 else wish

    def _order(self, customer: str) -> Wish:
        rng = self.rng
        chosen = rng.sample(self.shop.products, rng.randint(1, 4))
        if rng.random() < 0.03:
            chosen.append(fresh_id(rng))  # must be refused, and all of it
        lines = [{"product_id": product, "quantity": rng.randint(1, 6)} for product in chosen]
        return Wish("place", fresh_id(rng), "", {"customer_id": customer, "lines": lines})


async def recover(shop: Shop, port: int, end_s: float) -> tuple[float | None, float | None]:
    """Send a fresh write every so often, each on a connection of its own, until one is acknowledged and visible.

    None of them waits for the one before it, so that one that hangs does not hide that others get through. Returns
    after how many seconds since `end_s` one was acknowledged, and a reader with its token saw it; None for never.
    """
    product = shop.products[0]
    tries: set[asyncio.Task[Client | None]] = set()

    async def attempt(client: Client) -> Client | None:
        done = await client.perform(Wish("deliver", product, fresh_id(client.rng), {"quantity": 1}))
        if done.outcome == "ok":
            return client
        client.wire.close()
        return None

    for turn in count():
        client = Client(f"probe {end_s} {turn}", shop, port, tokens=True)
        tries.add(asyncio.create_task(attempt(client)))
        shop.late |= tries
        finished, tries = await asyncio.wait(tries, timeout=PROBE_S, return_when=asyncio.FIRST_COMPLETED)
        for through in filter(None, (task.result() for task in finished)):
            written_s = shop.now_s() - end_s
            while (await through.perform(Wish("product", product))).outcome != "ok":
                if shop.now_s() - end_s > RECOVER_S_MAX:
                    return written_s, None
                await asyncio.sleep(0.01)
            return written_s, shop.now_s() - end_s
        if shop.now_s() - end_s > RECOVER_S_MAX:
            break
        if finished:  # refused at once
            await asyncio.sleep(PROBE_S)
    return None, None


def fresh_id(rng: random.Random) -> str:
    return str(uuid.UUID(int=rng.getrandbits(128), version=4))


def clock() -> Callable[[], float]:
    start = time.monotonic()
    return lambda: time.monotonic() - start
