"""What a target's answers show, held against the history of what its clients sent: the findings of the oracle."""

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TypeVar

import msgspec
from msgspec import Struct

from loadtests.answers import STEPS, TIME, Customer, Order, Product, Totals, expected_answers
from loadtests.history import CREATIONS, TRANSITIONS, Effect, History, Value, may_hold
from loadtests.http import HttpResponse

KINDS = ("lost", "phantom", "duplicate", "differing", "stale", "trouble")
T = TypeVar("T", Order, Customer, Product)


class Finding(Struct, frozen=True):
    """A broken promise: lost, phantom, duplicate, differing, stale (despite a token), or trouble (anything else)."""

    kind: str
    what: str
    phase: str = ""


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


def judge_rebuild(before: Mapping[str, HttpResponse], after: Mapping[str, HttpResponse]) -> list[Finding]:
    """Views that were rebuilt from nothing answer what the live ones did: the event log is whole."""
    return [
        Finding("differing", f"GET {path} answered {_text(before[path].body)}, after a rebuild {_text(answer.body)}")
        for path, answer in after.items()
        if (answer.status, answer.body) != (before[path].status, before[path].body)
    ]


def _text(body: bytes) -> str:
    return body.decode("utf-8", "replace")


def _or(values: Iterable[object]) -> str:
    return " or ".join(sorted(map(str, values))) or "impossible"
