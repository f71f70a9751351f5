"""The client-side oracle: judges a target only by what its clients sent and by the responses they received.

Every acknowledged command took effect exactly once, every refused one left no trace, every unknown one resolves to one
of the two. It shares no code with the systems, so it cannot share their mistakes. `verify` checks samples, for runs
under load; `examine` checks everything, for torture.
"""

import math
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import NamedTuple, TypeVar

import msgspec
from msgspec import Struct

from loadtests.answers import STEPS, TIME, Customer, Order, Product, Totals, expected_answers
from loadtests.format import Ledger
from loadtests.history import COMMANDS, CREATIONS, TRANSITIONS, Effect, Entry, History, Value, may_hold
from loadtests.http import HttpClient, HttpResponse, concurrently

Progress = Callable[[int, int], None]
KINDS = ("lost", "phantom", "duplicate", "differing", "stale", "trouble")
STATUSES = (0, 200, 201, 404, 409, 412, 422, 503)  # what well-formed requests are answered; 0 is no answer
PATIENCE_S = 10.0  # after it settled
Span = tuple[float, float]  # from, to
T = TypeVar("T", Order, Customer, Product)


class NotFilled(Exception):
    """The target does not hold the data the run is about; the message is one sentence."""


class Finding(Struct, frozen=True):
    """A broken promise: lost, phantom, duplicate, differing, stale (despite a token), or trouble (anything else)."""

    kind: str
    what: str
    phase: str = ""


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
        concurrently(
            lambda path: answers.update(
                {path: self._whole_list(path) if path.endswith("/orders") else self._get(path)}
            ),
            paths,
            progress=lambda done: progress(done, len(paths)),
        )
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


class Judge:
    """Compares answers with the history, given what customers and products were before it.

    `shown` are the effects that the answers name, with the version of their resource.
    """

    def __init__(
        self,
        history: History,
        customers: Mapping[str, Customer],
        products: Mapping[str, Product],
        answers: dict[str, HttpResponse],
    ) -> None:
        self.history, self.answers = history, answers
        self.findings: list[Finding] = []
        self.shown: dict[Effect, int] = {}
        self._judged: set[str] = set()  # paths that there is a finding about
        self._before = products
        self._orders = self._found("place", Order, ())
        for order in self._orders:
            self._order(order)
        for effect in history.effects:
            is_placed = effect.name not in TRANSITIONS or effect.id in history.created["orders"]
            if not is_placed and history.is_acknowledged(effect):
                self._find("phantom", f"/orders/{effect.id}", f"{effect.name} was acknowledged, of no order")
        totals = Totals(self._orders)
        self._products = self._found("add_product", Product, products)
        self._customers = self._found("register", Customer, customers)
        for product in self._products:
            self._product(products.get(product.id, product), product, totals)
        for customer in self._customers:
            self._customer(customers.get(customer.id, customer), customer, totals)

    def bytes(self, words: Collection[str]) -> None:
        """Everything else that was read, byte for byte."""
        expected = expected_answers(self._orders, self._customers, self._products, self.answers, words)
        for path, answer in self.answers.items():
            if path in self._judged:
                continue
            if answer.status not in (200, 404):
                self._find("trouble", path, f"answers {answer.status}")
            elif path in expected and answer.status == 404:
                self._find("lost", path, "answers 404, but it is there")
            elif path in expected and answer.body != expected[path]:
                self._find("differing", path, f"answers {_text(answer.body)}, not {_text(expected[path])}")
            elif path not in expected and answer.status == 200:
                self._find("phantom", path, "answers 200, but it is not there")

    def repeats(self, answers: Mapping[Effect, HttpResponse]) -> None:
        for effect, answer in answers.items():
            expected = msgspec.json.encode({"id": effect.id, "version": self.shown.get(effect, 0)})
            if answer.status == 201:
                self.findings.append(Finding("lost", f"{effect} is shown by reads, but its repeat created it anew"))
            elif (answer.status, answer.body) != (200, expected):
                what = f"the repeat of {effect} answers {answer.status} {_text(answer.body)}, not {_text(expected)}"
                self.findings.append(Finding("differing", what))

    def _found(self, name: str, kind: type[T], before: Collection[str]) -> list[T]:
        """What the target shows of one kind, after judging whether each may be there and whether it must."""
        found = []
        for id in dict.fromkeys((*self.history.created[CREATIONS[name]], *before)):
            effect = Effect(name, id)
            if (path := effect.path) not in self.answers:
                continue
            answer, is_possible = self.answers[path], effect in self.history.effects or id in before
            if answer.status == 404:
                steps = (Effect(step, id) for step in (name, *TRANSITIONS))
                if any(map(self.history.is_acknowledged, steps)) or (
                    is_possible and effect not in self.history.effects
                ):
                    self._find("lost", path, "answers 404, but it was acknowledged")
            elif answer.status != 200:
                self._find("trouble", path, f"answers {answer.status}")
            else:
                if not is_possible:
                    self._find("phantom", path, "answers 200, but the command was refused")
                try:
                    found.append(msgspec.json.decode(answer.body, type=kind))
                    self.shown[effect] = found[-1].version
                except ValueError as error:
                    self._find("differing", path, f"answers what cannot be read ({error})")
        return found

    def _order(self, order: Order) -> None:
        path = f"/orders/{order.id}"
        steps = STEPS.get((order.status, order.version))
        if steps is None:
            return self._find("differing", path, f"is {order.status} at version {order.version}, which cannot be")
        for step in TRANSITIONS:
            effect = Effect(step, order.id)
            if step in steps:
                self.shown[effect] = order.version
                if effect not in self.history.effects:
                    self._find("phantom", path, f"is {order.status}, but no {step} was sent and not refused")
            elif self.history.is_acknowledged(effect):
                self._find("lost", path, f"is {order.status}, but {step} was acknowledged")
        if (placing := Effect("place", order.id)) in self.history.effects and (problem := self._wrong(order, placing)):
            self._find("differing", path, problem)

    def _wrong(self, order: Order, placing: Effect) -> str | None:
        """How the order shown cannot be the one that was placed."""
        sent, (start_s, end_s) = self.history.body(placing), self.history.window(placing)
        wanted = [(line["product_id"], line["quantity"]) for line in sent["lines"]]
        if order.customer.id != sent["customer_id"]:
            return f"customer is {order.customer.id}, {sent['customer_id']} placed it"
        if (lines := [(line.product_id, line.quantity) for line in order.lines]) != wanted:
            return f"lines are {lines}, placed were {wanted}"
        for line in order.lines:
            prices = self._prices(line.product_id, start_s, end_s)
            if prices is not None and line.unit_price_cents not in prices:
                return f"{line.product_id} costs {line.unit_price_cents}, its price was {_or(prices)}"
            if line.amount_cents != line.quantity * line.unit_price_cents:
                return f"{line.quantity} pieces at {line.unit_price_cents} amount to {line.amount_cents}"
        if order.total_cents != (total := sum(line.amount_cents for line in order.lines)):
            return f"total_cents is {order.total_cents}, its lines add up to {total}"
        return None if TIME.fullmatch(order.placed_at) else f"placed_at is {order.placed_at}"

    def _prices(self, product: str, start_s: float, end_s: float) -> set[Value] | None:
        """None where nobody watched the product."""
        before = self._before.get(product)
        return None if before is None else may_hold(before.price_cents, self.history.changes[product], start_s, end_s)

    def _product(self, before: Product, now: Product, totals: Totals) -> None:
        path, sold = f"/products/{now.id}", totals.pieces[now.id]
        if now.name != before.name:
            self._find("differing", path, f"name is {now.name!r}, it was added as {before.name!r}")
        if now.sold != before.sold + sold:
            self._find("differing", path, f"sold is {now.sold}, the orders make it {before.sold + sold}")
        deliveries = [
            (self.history.body(e)["quantity"], self.history.is_acknowledged(e))
            for e in self.history.deliveries[now.id].values()
        ]
        sure = [quantity for quantity, is_sure in deliveries if is_sure]
        unknown = [quantity for quantity, is_sure in deliveries if not is_sure]
        least = before.stock + sum(sure) - sold
        happened = [len(sure) + count for count in counts_that_sum_to(unknown, now.stock - least)]
        if now.stock < 0 or not happened:
            maybe = f" and up to {sum(unknown)} more" if unknown else ""
            self._find("differing", path, f"stock is {now.stock}, the acknowledged commands make it {least}{maybe}")
        self._changes(path, before, now, happened or range(len(sure), len(deliveries) + 1))

    def _customer(self, before: Customer, now: Customer, totals: Totals) -> None:
        path = f"/customers/{now.id}"
        for field, more in (("orders", totals.orders[now.id]), ("spent_cents", totals.spent_cents[now.id])):
            shown, wanted = getattr(now, field), getattr(before, field) + more
            if shown != wanted:
                self._find("differing", path, f"{field} is {shown}, the orders make it {wanted}")
        self._changes(path, before, now, (0,))

    def _changes(self, path: str, before: Customer | Product, now: Customer | Product, others: Sequence[int]) -> None:
        """Renames or reprices: the version counts them beside so many `others`, and the last of them stands."""
        field = "name" if isinstance(now, Customer) else "price_cents"
        first, stands, changes = getattr(before, field), getattr(now, field), self.history.changes[now.id]
        versions: dict[int, Value] = {}
        for change in changes:
            if change.version is not None and versions.setdefault(change.version, change.value) != change.value:
                what = f"{change.value!r} was acknowledged with the version of {versions[change.version]!r}"
                self._find("lost", path, what)
        possible = may_hold(first, changes, math.inf, math.inf)
        if stands not in possible or versions.get(now.version, stands) != stands:
            last = versions.get(now.version)
            self._find("lost", path, f"{field} is {stands!r}, it was last set to {_or({last} if last else possible)}")
        sure = len({change.value for change in changes if change.outcome == "ok"} - {first})
        counted = [now.version - before.version - other for other in others]
        if not any(sure <= count <= len(changes) for count in counted):
            kind = "lost" if max(counted) < sure else "duplicate"
            counts = f"version {now.version} counts {_or(set(counted))} changes of {field}"
            self._find(kind, path, f"{counts}, {sure} were acknowledged and {len(changes)} sent")

    def _find(self, kind: str, path: str, what: str) -> None:
        self._judged.add(path)
        self.findings.append(Finding(kind, f"GET {path}: {what}"))


def counts_that_sum_to(quantities: Sequence[int], total: int) -> list[int]:
    """How many of these can be chosen so that they add up to this total: of unknown deliveries, those that happened.

    Every choice is one bit: count and sum are the two digits of its place.
    """
    base = sum(quantities) + 1
    reached = 1
    for quantity in quantities:
        reached |= reached << (base + quantity)
    return [n for n in range(len(quantities) + 1) if 0 <= total < base and reached >> (base * n + total) & 1]


def judge_sessions(entries: Iterable[Entry], restored: Sequence[Span] = ()) -> tuple[list[Finding], int, int]:
    """With a token a client reads its own writes, and never goes back. Returns the violations, and of the reads
    without a token how many went back and how many could have.

    What was seen in one of the spans may have been restored away since: then only a token of its own history still
    asks for it.
    """
    findings: list[Finding] = []
    stale = reads = 0
    seen: defaultdict[tuple[str, str, str, str], int] = defaultdict(int)  # by the only history that must show it; or ""
    for entry in entries:
        resource, histories = (entry.client, entry.collection, entry.id), dict.fromkeys(("", entry.sent_history))
        if entry.version is None or not entry.id:
            continue
        before = max(seen[*resource, history] for history in histories)
        if entry.name not in COMMANDS and before:
            went_back = entry.version < before
            if entry.tokens and went_back:
                what = f"{entry.client} saw version {before} of {entry.collection}/{entry.id}, then {entry.version}"
                findings.append(Finding("stale", what))
            reads += not entry.tokens
            stale += went_back and not entry.tokens
        if not within(entry, restored):
            seen[*resource, ""] = max(seen[*resource, ""], entry.version)
        elif entry.received_history:
            seen[*resource, entry.received_history] = max(seen[*resource, entry.received_history], entry.version)
    return findings, stale, reads


def within(entry: Entry, spans: Sequence[Span]) -> bool:
    """Whether any moment of it falls into one of these spans of time."""
    return any(entry.sent_s < end_s and entry.done_s > start_s for start_s, end_s in spans)


def uncertain(entry: Entry, restored: Sequence[Span]) -> Entry:
    """What was acknowledged within such a span may have been restored away since, so its outcome is unknown."""
    may_be_gone = entry.outcome == "ok" and within(entry, restored)
    return msgspec.structs.replace(entry, status=0, version=None) if may_be_gone else entry


def judge_statuses(entries: Iterable[Entry]) -> list[Finding]:
    """Whatever goes wrong, an answer is one of the contract's, and neither a version nor a lag is negative."""
    return [
        Finding("trouble", f"{e.name} {e.path} answered {e.status}, {e.version}")
        for e in entries
        if e.status not in STATUSES or (e.version or 0) < 0
    ]


def judge_rebuild(before: Mapping[str, HttpResponse], after: Mapping[str, HttpResponse]) -> list[Finding]:
    """Views that were rebuilt from nothing answer what the live ones did: the event log is whole."""
    return [
        Finding("differing", f"GET {path} answered {_text(before[path].body)}, after a rebuild {_text(answer.body)}")
        for path, answer in after.items()
        if (answer.status, answer.body) != (before[path].status, before[path].body)
    ]


class _Page(Struct):
    orders: list[msgspec.Raw]
    next: str | None


def _text(body: bytes) -> str:
    return body.decode("utf-8", "replace")


def _or(values: Iterable[object]) -> str:
    return " or ".join(sorted(map(str, values))) or "impossible"
