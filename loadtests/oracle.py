"""The client-side oracle: judges a target only by what its clients sent and by the responses they received.

Every acknowledged command took effect exactly once, every refused one left no trace, every unknown one resolves to one
of the two. It shares no code with the systems, so it cannot share their mistakes. `verify` checks samples, for runs
under load; `examine` checks everything, for torture.
"""

import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import NamedTuple, TypeVar

import msgspec
from msgspec import Struct

from loadtests.answers import Customer, Product
from loadtests.format import Ledger
from loadtests.history import CREATIONS, Effect, Entry, History
from loadtests.http import HttpClient, HttpResponse, concurrently
from loadtests.judge import KINDS, Finding, Judge

Progress = Callable[[int, int], None]
PATIENCE_S = 10.0  # after it settled
T = TypeVar("T", Customer, Product)


class NotFilled(Exception):
    """The target does not hold the data the run is about; the message is one sentence."""


class Evidence(NamedTuple):
    """Everything that a settled target answered: to queries by path, and to repeated creations."""

    answers: dict[str, HttpResponse]
    repeats: dict[Effect, HttpResponse]


class Oracle:
    """Records what one target was sent, and asks what became of it once the target has settled."""

    def __init__(self, client: HttpClient) -> None:
        self.history = History()
        self._client = client
        self._customers: dict[str, Customer] = {}  # watched ones, as they were before the load
        self._products: dict[str, Product] = {}
        self._patient_until_s = 0.0

    def baseline(self, customers: Iterable[str], products: Iterable[str]) -> None:
        """Read the resources to watch before the load; the target must have settled."""
        concurrently(lambda id: self._customers.update({id: self._before(f"/customers/{id}", Customer)}), customers)
        concurrently(lambda id: self._products.update({id: self._before(f"/products/{id}", Product)}), products)

    def record(self, entries: Iterable[Entry]) -> None:
        self.history.record(entries)

    def verify(self, progress: Progress = lambda done, total: None) -> Ledger:
        """Read every order that was placed and every watched resource, and judge them."""
        paths = [f"/orders/{id}" for id in self.history.created["orders"]]
        paths += [f"/products/{id}" for id in self._products] + [f"/customers/{id}" for id in self._customers]
        judge = Judge(self.history, self._customers, self._products, self._read(paths, progress))
        found, counts = Counter(finding.kind for finding in judge.findings), self.history.counts
        first = min(judge.findings, key=lambda finding: KINDS.index(finding.kind), default=None)
        return Ledger(
            ok=first is None,
            operations=sum(counts.values()),
            acknowledged=counts["ok"],
            unknown=counts["unknown"],
            lost=found["lost"],
            phantom=found["phantom"],
            differing=found.total() - found["lost"] - found["phantom"],
            first=None if first is None else first.what,
        )

    def ask_everything(self, words: Collection[str]) -> Evidence:
        """Ask for all that the history names, these words searched, and repeat each creation that may have happened.

        A creation that is there must be answered as a repeat: so the write side is seen without looking into it.
        """
        self._patient_until_s = time.monotonic() + PATIENCE_S
        created = self.history.created
        paths = [f"/{kind}/{id}" for kind, ids in created.items() for id in ids]
        paths += [f"/orders/{id}/history" for id in created["orders"]]
        paths += [f"/customers/{id}/orders" for id in created["customers"]]
        paths += ["/reports/top-products?limit=100", "/reports/daily-sales?days=366"]
        paths += [f"/search/orders?q={word}&limit=100" for word in words]
        answers, repeats = self._read(paths), dict[Effect, HttpResponse]()
        there = [
            effect for effect in self.history.effects if effect.name in CREATIONS and answers[effect.path].status == 200
        ]
        concurrently(lambda effect: repeats.update({effect: self._repeat(effect)}), there)
        return Evidence(answers, repeats)

    def _repeat(self, effect: Effect) -> HttpResponse:
        return self._request("PUT", effect.path, msgspec.json.encode(self.history.body(effect)))

    def _read(self, paths: Sequence[str], progress: Progress = lambda done, total: None) -> dict[str, HttpResponse]:
        answers: dict[str, HttpResponse] = {}

        def ask(path: str) -> None:
            answers[path] = self._whole_list(path) if path.endswith("/orders") else self._get(path)

        concurrently(ask, paths, progress=lambda done: progress(done, len(paths)))
        return answers

    def _get(self, path: str) -> HttpResponse:
        return self._request("GET", path)

    def _request(self, method: str, path: str, body: bytes | None = None) -> HttpResponse:
        """A target that is well may still be busy, as many ask at once: a 503 says to ask again."""
        while (answer := self._client.request(method, path, body)).status == 503:
            if time.monotonic() > self._patient_until_s:
                break
            time.sleep(0.05)
        return answer

    def _whole_list(self, path: str) -> HttpResponse:
        """All pages of a list as one."""
        orders: list[msgspec.Raw] = []
        after = ""
        while True:
            answer = self._get(f"{path}?limit=100{after}")
            if answer.status != 200:
                return answer
            try:
                page = msgspec.json.decode(answer.body, type=_Page)
            except ValueError:  # it differs from whatever it is compared with
                return answer
            orders += page.orders
            if page.next is None:
                return answer._replace(body=msgspec.json.encode(_Page(orders, None)))
            after = f"&after={page.next}"

    def _before(self, path: str, kind: type[T]) -> T:
        answer = self._get(path)
        if answer.status != 200:
            raise NotFilled(
                f"{self._client.url} does not hold the data of this run (GET {path} answers {answer.status}): "
                "fill it, or choose the size and seed it was filled with."
            )
        try:
            return msgspec.json.decode(answer.body, type=kind)
        except ValueError as error:
            raise NotFilled(f"{self._client.url} does not speak the contract: GET {path}: {error}.") from error


def judge_everything(history: History, evidence: Evidence, words: Collection[str]) -> tuple[list[Finding], int]:
    """The findings, and how many commands of unknown outcome turned out to have happened."""
    customers, products = dict[str, Customer](), dict[str, Product]()
    for effect in history.effects:
        if effect.name == "register":
            customers[effect.id] = Customer(effect.id, 1, history.body(effect)["name"], 0, 0, None)
        elif effect.name == "add_product":
            products[effect.id] = Product(id=effect.id, version=1, sold=0, **history.body(effect))
    judge = Judge(history, customers, products, evidence.answers)
    judge.bytes(words)
    judge.repeats(evidence.repeats)
    unknown = (e for effect in judge.shown for e in history.effects.get(effect, ()) if e.outcome == "unknown")
    return judge.findings, sum(1 for _ in unknown)


def together(ledgers: Sequence[Ledger]) -> Ledger:
    """The ledgers of all targets as one."""
    counted = ("operations", "acknowledged", "unknown", "lost", "phantom", "differing")
    sums = {field: sum(getattr(ledger, field) for ledger in ledgers) for field in counted}
    first = next((ledger.first for ledger in ledgers if ledger.first), None)
    return Ledger(ok=all(ledger.ok for ledger in ledgers), first=first, **sums)


class _Page(Struct):
    orders: list[msgspec.Raw]
    next: str | None
