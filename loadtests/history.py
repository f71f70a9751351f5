"""The history of one target as its clients saw it: requests, responses, and the effects that follow from them."""

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, Literal, NamedTuple

from msgspec import Struct

Outcome = Literal["ok", "refused", "unknown"]
Value = str | int
CREATIONS = {"register": "customers", "add_product": "products", "place": "orders"}
TRANSITIONS = ("pay", "ship", "cancel")
CHANGES = {"rename": "name", "reprice": "price_cents"}  # the last one wins: each has a value, and a version counts it
COMMANDS = (*CREATIONS, *TRANSITIONS, *CHANGES, "deliver")


class Entry(Struct, frozen=True, omit_defaults=True):
    """One request. Times are seconds of any one clock; `status` 0 is no answer, `version` is the one in the answer."""

    name: str  # the operation of the contract
    path: str
    status: int
    sent_s: float
    done_s: float
    body: dict[str, Any] = {}
    version: int | None = None
    client: str = ""
    tokens: bool = False  # whether this client sends the last token it received with every request
    code: str = ""  # of a refusal
    sent_history: str = ""  # the history of the data that the token it sent names; "" for none
    received_history: str = ""  # the same of the token in the answer

    @property
    def outcome(self) -> Outcome:
        """A 4xx promises that nothing happened; a 5xx or a lost answer may follow a commit, so it tells nothing."""
        if 200 <= self.status < 300:
            return "ok"
        return "refused" if 400 <= self.status < 500 else "unknown"

    @property
    def collection(self) -> str:
        return self.path.split("/")[1]

    @property
    def id(self) -> str:
        return [*self.path.partition("?")[0].split("/"), ""][2]

    @property
    def value(self) -> Value:
        """Tells the effect of this command from others on the same resource: a delivery's id, a name, a price."""
        if self.name == "deliver":
            return self.path.split("/")[4]
        field = CHANGES.get(self.name)
        return "" if field is None else self.body[field]


class Effect(NamedTuple):
    """What a command does if it takes effect; a repeat has the same effect."""

    name: str
    id: str
    value: Value = ""

    @property
    def path(self) -> str:
        """Of the resource that it creates."""
        return f"/{CREATIONS[self.name]}/{self.id}"

    def __str__(self) -> str:
        return f"{self.name} of {self.id}" + (f" ({self.value})" if self.value else "")


class History:
    """The commands of one target by their effects. What was refused has none."""

    def __init__(self) -> None:
        self.counts: dict[Outcome, int] = {"ok": 0, "refused": 0, "unknown": 0}
        self.effects: dict[Effect, list[Entry]] = {}  # that may have happened
        self.changes: defaultdict[str, list[Entry]] = defaultdict(list)  # renames and reprices, by resource
        self.deliveries: defaultdict[str, dict[Value, Effect]] = defaultdict(dict)  # by product
        self.created: dict[str, dict[str, None]] = {kind: {} for kind in CREATIONS.values()}  # ids asked for, in order

    def record(self, entries: Iterable[Entry]) -> None:
        for entry in entries:
            if entry.name not in COMMANDS:
                continue
            self.counts[entry.outcome] += 1
            if entry.name in CREATIONS:
                self.created[entry.collection][entry.id] = None
            if entry.outcome == "refused":
                continue
            effect = Effect(entry.name, entry.id, entry.value)
            self.effects.setdefault(effect, []).append(entry)
            if entry.name in CHANGES:
                self.changes[entry.id].append(entry)
            elif entry.name == "deliver":
                self.deliveries[entry.id][entry.value] = effect

    def is_acknowledged(self, effect: Effect) -> bool:
        return any(entry.outcome == "ok" for entry in self.effects.get(effect, ()))

    def body(self, effect: Effect) -> dict[str, Any]:
        return self.effects[effect][0].body

    def window(self, effect: Effect) -> tuple[float, float]:
        """When it took effect, if it did: after the first request was sent, before the first was acknowledged."""
        entries = self.effects[effect]
        done = min((entry.done_s for entry in entries if entry.outcome == "ok"), default=math.inf)
        return min(entry.sent_s for entry in entries), done


def may_hold(first: Value, changes: Sequence[Entry], start_s: float, end_s: float) -> set[Value]:
    """The values that a resource may have had at some moment of this window.

    Commands that overlap may have taken effect in either order. A value is ruled out once another one was sent after
    its acknowledgement, and acknowledged before the window; an unknown command may take effect at any later time.
    """
    over = [change.sent_s for change in changes if change.outcome == "ok" and change.done_s < start_s]
    replaced_s = max(over, default=-math.inf)
    held = {c.value for c in changes if c.sent_s < end_s and (c.outcome != "ok" or c.done_s >= replaced_s)}
    return held if over else held | {first}
