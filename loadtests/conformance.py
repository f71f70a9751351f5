"""The check before any load that all targets give the same answers: byte for byte, times and cursors aside.

What they agree on must be what the contract says: the status, the code of a refusal, the form of an answer. All targets
get the same requests in lockstep, in two tempos: settled after each command, and all commands in a burst before the
queries. Reports include other data of a target, so only this conversation's part of them is compared.
"""

import random
import re
from collections.abc import Callable, Collection, Sequence
from urllib.parse import quote

import msgspec
from msgspec import Struct

from loadtests.format import Conformance
from loadtests.http import HttpClient, HttpResponse, one_line
from loadtests.script import DEAR_CENTS, NOT_FOUND, Script, Step

TEMPOS = ("settled", "burst")
SETTLE_S = 30.0
_TIME = re.compile(rb'"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z"')
_CURSOR = re.compile(rb'("next":)"([^"]+)"')
URN = "urn:crossover:"
_PROSE = ("title", "detail", "errors")  # of a refusal: for people, in words of the service's own
FIELDS = {  # of the answer to a query, by operation; of the answer to a command those of ""
    "": ("id", "version"),
    "order": ("id", "version", "status", "placed_at", "customer", "lines", "total_cents"),
    "history": ("changes",),
    "customer": ("id", "version", "name", "orders", "spent_cents", "last_order_at"),
    "customer_orders": ("orders", "next"),
    "product": ("id", "version", "name", "price_cents", "stock", "sold"),
    "top_products": ("products",),
    "daily_sales": ("days",),
    "search": ("orders",),
}
Progress = Callable[[int, int, str], None]

# What filling a target and verifying its ledger take, whatever the load asks; "" are routes that do not exist.
ALWAYS = frozenset(("", "register", "add_product", "place", "pay", "ship", "cancel", "order", "customer", "product"))


class _Difference(Exception):
    pass


class _Target(Struct):
    name: str
    client: HttpClient
    sales: tuple[int, int] = (0, 0)  # orders and cents before the conversation
    token: str = ""  # of the last command


def check(
    targets: Sequence[tuple[str, HttpClient]],
    *,
    seed: int,
    nonce: str,
    only: Collection[str] | None = None,
    one_clock: bool = False,
    progress: Progress = lambda done, total, note: None,
) -> Conformance:
    """Every target against the first one; `only` these operations (and ALWAYS) where a service has no others.

    Targets that are empty and share `one_clock` must agree on times, cursors and whole reports too.
    """
    conversation = _Conversation([_Target(name, client) for name, client in targets], one_clock, progress)
    try:
        for tempo in TEMPOS:
            conversation.hold(Script(seed, nonce, tempo), tempo, None if only is None else ALWAYS | set(only))
    except _Difference as difference:
        return Conformance(False, conversation.done, TEMPOS, str(difference))
    return Conformance(True, conversation.done, TEMPOS)


class _Conversation:
    """The same requests to all targets at once."""

    def __init__(self, targets: list[_Target], one_clock: bool, progress: Progress) -> None:
        self.targets, self.one_clock, self.progress = targets, one_clock, progress
        self.done, self.total, self.tempo, self.word = 0, 0, "", ""

    def hold(self, script: Script, tempo: str, only: Collection[str] | None) -> None:
        def wanted(steps: Sequence[Step]) -> list[Step]:
            return [step for step in steps if only is None or step.name in only]

        commands, queries, rng = wanted(script.commands()), wanted(script.queries()), random.Random(script.word)
        self.tempo, self.word = tempo, script.word
        self.total = self.done + len(commands) * (1 + (tempo == "settled")) + len(queries)
        if not self.one_clock and wanted([Step("daily_sales", "GET", "")]):
            for target in self.targets:
                target.sales = _sales(target.client.get("/reports/daily-sales?days=366").body)
        for command in commands:
            self.step(command)
            if tempo == "settled":
                self.settle()
                query = rng.choice(queries)  # of what may not be there yet
                self.step(query._replace(right=(*query.right, NOT_FOUND)))
        # Read your own writes, while a projection may still be on its way.
        self.step(Step("order", "GET", f"/orders/{script.orders[0]}"), with_token=True)
        self.settle()
        for query in queries:
            self.pages(query) if "limit=2" in query.path else self.step(query)
        for command in script.clean_up():
            self.step(command)
        self.settle()
        for query in wanted([Step("top_products", "GET", "/reports/top-products?limit=100")]):
            self.step(query)

    def settle(self) -> None:
        for target in self.targets:
            if not target.client.settle(SETTLE_S):
                raise _Difference(f"{self.tempo}: {target.name} has not settled after {SETTLE_S:g} s.")

    def pages(self, query: Step) -> None:
        """All of a list, each target by its own cursors."""
        cursors = ["" for _ in self.targets]
        while any(cursors := self.step(query, cursors)):
            pass

    def step(self, step: Step, cursors: Sequence[str] = (), *, with_token: bool = False) -> list[str]:
        """Ask all targets and compare their answers; gives the cursors of the next page."""
        seen, following = list[bytes](), list[str]()
        for target, cursor in zip(self.targets, cursors or [""] * len(self.targets), strict=True):
            token = {"Consistency-Token": target.token, "Prefer": "wait=5"} if with_token else {}
            path = f"{step.path}&after={cursor}" if cursor else step.path
            answer = target.client.request(step.method, path, step.body, {**step.headers, **token})
            if step.method != "GET":
                target.token = answer.headers.get("consistency-token", target.token)
            cursor_found = _CURSOR.search(answer.body) if answer.status == 200 else None
            following.append(quote(cursor_found[2]) if cursor_found else "")
            seen.append(self.comparable(step, answer, target))
        asked = f"{step.method} {step.path}" + " and a cursor" * any(cursors) + f" {(step.body or b'').decode()}"
        for target, other in zip(self.targets, seen, strict=True):
            if other != seen[0]:
                contrast = _contrast(self.targets[0].name, seen[0], target.name, other)
                raise _Difference(f"{self.tempo}: {asked.strip()}: {contrast}")
        if (reported := _reported(step, answer)) not in step.right:  # of the last target, and so of all
            right = " or ".join(step.right)
            raise _Difference(f"{self.tempo}: {asked.strip()}: {target.name} answered {reported}, not {right}")
        self.done += 1
        self.progress(self.done, max(self.total, self.done), self.tempo)
        return following

    def comparable(self, step: Step, answer: HttpResponse, target: _Target) -> bytes:
        """What of an answer must be the same everywhere, as one line of text."""
        headers = answer.headers
        parts = [str(answer.status), headers.get("content-type", "").split(";")[0].strip()]
        if answer.status in (200, 201):
            parts.append("token" if "consistency-token" in headers else "no token")
        if answer.status == 201:
            parts.append(headers.get("location", "no location"))
        if answer.status == 405:
            parts.append(",".join(sorted(headers.get("allow", "").replace(" ", "").split(","))))
        return " ".join(parts).encode() + b" " + self.comparable_body(step, answer, target)

    def comparable_body(self, step: Step, answer: HttpResponse, target: _Target) -> bytes:
        if answer.status >= 400:
            return _problem(answer.body)
        if self.one_clock:
            return answer.body
        if step.name == "daily_sales":
            orders, cents = _sales(answer.body)
            return f"{orders - target.sales[0]} orders and {cents - target.sales[1]} cents more than before".encode()
        if step.name == "top_products":
            return _dear(answer.body, self.word.encode())
        return _CURSOR.sub(rb'\1"<cursor>"', _TIME.sub(b'"<time>"', answer.body))


def _reported(step: Step, answer: HttpResponse) -> str:
    """The status, of a refusal with its code; and whether fields or their form are not the contract's."""
    media_type = answer.headers.get("content-type", "").split(";")[0].strip().lower()
    try:
        found = msgspec.json.decode(answer.body, type=dict[str, object])
    except ValueError:
        return f"{answer.status} without a JSON object"
    if answer.status in (200, 201):
        sound = tuple(found) == FIELDS.get(step.name, FIELDS[""]) and msgspec.json.encode(found) == answer.body
        return f"{answer.status}" + " in another form" * (not sound or media_type != "application/json")
    sound = media_type == "application/problem+json" and found.get("status") == answer.status
    return f"{answer.status} {str(found.get('type')).removeprefix(URN)}" + " in another form" * (not sound)


def _problem(body: bytes) -> bytes:
    """The code and the members of a refusal."""
    try:
        found = msgspec.json.decode(body, type=dict[str, object])
    except ValueError:
        return b"no problem document"
    return msgspec.json.encode({k: v for k, v in found.items() if k not in _PROSE}, order="deterministic")


def _sales(body: bytes) -> tuple[int, int]:
    """Orders and cents over all days: on which day they fall depends on when the target was filled."""
    try:
        days = msgspec.json.decode(body, type=_Days).days
    except ValueError:
        return -1, -1
    return sum(day.orders for day in days), sum(day.revenue_cents for day in days)


def _dear(body: bytes, word: bytes) -> bytes:
    """The report's entries of this conversation that are surely among the best, as they were written."""
    try:
        products = msgspec.json.decode(body, type=_Top).products
    except ValueError:
        return b"unreadable: " + body
    revenue = msgspec.json.Decoder(_Sales).decode
    mine = [bytes(product) for product in products if word in bytes(product)]
    return b"".join(product for product in mine if revenue(product).revenue_cents >= DEAR_CENTS - 10)


def _contrast(one: str, seen: bytes, other: str, found: bytes) -> str:
    """Both answers from shortly before the first byte that differs."""
    at = next((i for i, (a, b) in enumerate(zip(seen, found, strict=False)) if a != b), min(len(seen), len(found)))
    start = max(0, at - 60)

    def shown(text: bytes) -> str:
        return "…" * (start > 0) + one_line(text[start : at + 100]) + "…" * (len(text) > at + 100)

    return f"{one} answered {shown(seen)} but {other} answered {shown(found)}"


class _Sales(Struct):
    revenue_cents: int
    orders: int = 0


class _Days(Struct):
    days: list[_Sales]


class _Top(Struct):
    products: list[msgspec.Raw]
