"""Before any load: do the targets answer the same? In lockstep, byte for byte, times and cursors aside.

In two tempos: settled after each command, and all commands in a burst before the queries. Reports cover whatever else
a target holds, so of them only this conversation's part is compared.
"""

import random
import re
from collections.abc import Callable, Collection, Sequence

import msgspec
from msgspec import Struct

from loadtests.http import HttpClient, HttpResponse
from loadtests.script import DEAR_CENTS, Script, Step, operation_of

TEMPOS = ("settled", "burst")
SETTLE_S = 30.0
_TIME = re.compile(rb'"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z"')
_CURSOR = re.compile(rb'("next":)"[^"]+"')
Progress = Callable[[int, int, str], None]


class Conformance(Struct, frozen=True):
    ok: bool
    operations: int
    tempos: tuple[str, ...] = TEMPOS
    first_difference: str | None = None


class _Difference(Exception):
    pass


class _Target(Struct):
    name: str
    client: HttpClient
    sales: tuple[int, int] = (0, 0)  # orders and cents before the conversation
    token: str = ""  # the last a command answered


# What filling a target and keeping its books take, whatever the load asks.
ALWAYS = frozenset(("register", "add_product", "place", "pay", "ship", "cancel", "order", "customer", "product"))


def check(
    targets: Sequence[tuple[str, HttpClient]],
    *,
    seed: int,
    nonce: str,
    only: Collection[str] | None = None,
    progress: Progress = lambda done, total, note: None,
) -> Conformance:
    """Every target against the first one; `only` these operations (and ALWAYS) where a service has no others."""
    wanted = None if only is None else ALWAYS | set(only)
    talk = _Talk([_Target(name, client) for name, client in targets], wanted, progress)
    try:
        for tempo in TEMPOS:
            talk.hold(Script(seed, nonce, tempo), tempo, random.Random(f"{seed}/{nonce}/{tempo}/lookups"))
    except _Difference as difference:
        return Conformance(False, talk.done, TEMPOS, str(difference))
    return Conformance(True, talk.done)


class _Talk:
    """One conversation with all targets at once."""

    def __init__(self, targets: list[_Target], wanted: Collection[str] | None, progress: Progress) -> None:
        self.targets, self.wanted, self.progress = targets, wanted, progress
        self.done, self.total, self.tempo = 0, 0, ""

    def is_wanted(self, step: Step) -> bool:
        """Routes and methods that do not exist belong to every service."""
        name = operation_of(step.method, step.path)
        return self.wanted is None or name is None or name in self.wanted

    def hold(self, script: Script, tempo: str, rng: random.Random) -> None:
        self.tempo = tempo
        if self.is_wanted(Step("GET", "/reports/daily-sales")):
            for target in self.targets:
                target.sales = _sales(target.client.get("/reports/daily-sales?days=366").body)
        commands = list(filter(self.is_wanted, script.commands()))
        queries = list(filter(self.is_wanted, script.queries()))
        self.total = self.done + len(commands) + len(queries) + len(script.clean_up())
        for command in commands:
            self.step(command)
            if tempo == "settled":
                self.settle()
                self.step(rng.choice(queries))
        # Read your own writes, while a projection may still be on its way.
        self.step(Step("GET", f"/orders/{script.orders[0]}"), with_token=True)
        self.settle()
        for query in queries:
            self.step(query)
        if self.is_wanted(Step("GET", f"/customers/{script.customers[0]}/orders")):
            self.follow(script)
        for command in script.clean_up():
            self.step(command)
        self.settle()
        for query in filter(self.is_wanted, [Step("GET", "/reports/top-products?limit=100")]):
            self.step(query)

    def settle(self) -> None:
        for target in self.targets:
            if not target.client.settle(SETTLE_S):
                raise _Difference(f"{self.tempo}: {target.name} has not settled after {SETTLE_S:g} s.")

    def step(self, step: Step, *, with_token: bool = False) -> list[HttpResponse]:
        answers = []
        for target in self.targets:
            headers = step.headers | ({"Consistency-Token": target.token, "Prefer": "wait=5"} if with_token else {})
            answer = target.client.request(step.method, step.path, step.body, headers)
            if step.method in ("PUT", "POST"):
                target.token = answer.headers.get("consistency-token", target.token)
            answers.append(answer)
        first, seen = self.targets[0], _comparable(step, answers[0], self.targets[0])
        for target, answer in zip(self.targets[1:], answers[1:], strict=True):
            other = _comparable(step, answer, target)
            if other != seen:
                asked = f"{step.method} {step.path}" + (f" {step.body.decode()}" if step.body else "")
                raise _Difference(f"{self.tempo}: {asked}: {_contrast(first.name, seen, target.name, other)}")
        self.done += 1
        self.progress(self.done, max(self.total, self.done), self.tempo)
        return answers

    def follow(self, script: Script) -> None:
        """Pages through one customer's orders, each target by its own cursors."""
        path = f"/customers/{script.customers[0]}/orders?limit=2"
        cursors = [_next(answer) for answer in self.step(Step("GET", path))]
        while any(cursors):
            answers = []
            for target, cursor in zip(self.targets, cursors, strict=True):
                answers.append(target.client.get(f"{path}&after={cursor}"))
            seen = _comparable(Step("GET", path), answers[0], self.targets[0])
            for target, answer in zip(self.targets[1:], answers[1:], strict=True):
                other = _comparable(Step("GET", path), answer, target)
                if other != seen:
                    where = f"GET {path} and a cursor"
                    raise _Difference(
                        f"{self.tempo}: {where}: {_contrast(self.targets[0].name, seen, target.name, other)}"
                    )
            self.done += 1
            cursors = [_next(answer) for answer in answers]


def _comparable(step: Step, answer: HttpResponse, target: _Target) -> bytes:
    """What of an answer must be the same everywhere, as one line of text."""
    kind = answer.headers.get("content-type", "").split(";")[0].strip()
    parts = [str(answer.status), kind]
    if answer.status in (200, 201):
        parts.append("token" if "consistency-token" in answer.headers else "no token")
    if answer.status == 201:
        parts.append(answer.headers.get("location", "no location"))
    if answer.status == 405:
        parts.append(",".join(sorted(answer.headers.get("allow", "").replace(" ", "").split(","))))
    return " ".join(parts).encode() + b" " + _comparable_body(step, answer, target)


def _comparable_body(step: Step, answer: HttpResponse, target: _Target) -> bytes:
    if answer.status >= 400:
        return _problem(answer.body)
    if step.path.startswith("/reports/daily-sales"):
        orders, cents = _sales(answer.body)
        return f"{orders - target.sales[0]} orders and {cents - target.sales[1]} cents more than before".encode()
    if step.path.startswith("/reports/top-products"):
        return _dear(answer.body)
    return _CURSOR.sub(rb'\1"<cursor>"', _TIME.sub(b'"<time>"', answer.body))


def _problem(body: bytes) -> bytes:
    """The code and the members of a refusal; its title and detail are for people, in words of the service's own."""
    try:
        found = msgspec.json.decode(body, type=dict[str, object])
    except msgspec.DecodeError:
        return b"no problem document"
    for prose in ("title", "detail", "errors"):
        found.pop(prose, None)
    return msgspec.json.encode(found, order="deterministic")


def _sales(body: bytes) -> tuple[int, int]:
    """Orders and cents over all days: on which day they fall depends on when the target was filled."""
    try:
        days = msgspec.json.decode(body, type=_Days).days
    except msgspec.DecodeError:
        return -1, -1
    return sum(day.orders for day in days), sum(day.revenue_cents for day in days)


def _dear(body: bytes) -> bytes:
    """The report's entries of this conversation, known by what they cost, as they were written."""
    try:
        products = msgspec.json.decode(body, type=_Top).products
    except msgspec.DecodeError:
        return b"unreadable: " + body
    return b"".join(
        bytes(product)
        for product in products
        if msgspec.json.decode(product, type=_Revenue).revenue_cents >= DEAR_CENTS - 10
    )


def _next(answer: HttpResponse) -> str | None:
    try:
        return msgspec.json.decode(answer.body, type=_Page).next
    except msgspec.DecodeError:
        return None


def _contrast(one: str, seen: bytes, other: str, found: bytes) -> str:
    """Both answers from shortly before the first byte that differs."""
    at = next((i for i, (a, b) in enumerate(zip(seen, found, strict=False)) if a != b), min(len(seen), len(found)))
    start = max(0, at - 60)
    lead = "…" if start else ""

    def shown(text: bytes) -> str:
        return lead + text[start : at + 100].decode("utf-8", "replace") + ("…" if len(text) > at + 100 else "")

    return f"{one} answered {shown(seen)} but {other} answered {shown(found)}"


class _Day(Struct):
    orders: int
    revenue_cents: int


class _Days(Struct):
    days: list[_Day]


class _Revenue(Struct):
    revenue_cents: int


class _Top(Struct):
    products: list[msgspec.Raw]


class _Page(Struct):
    next: str | None
