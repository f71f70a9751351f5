"""The ledger: every operation as its client saw it and every fault, kept in order and on disk."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import msgspec
from msgspec import Struct

Outcome = Literal["ok", "refused", "unknown"]
COMMANDS = ("register", "rename", "add", "reprice", "deliver", "place", "pay", "ship", "cancel")


class Operation(Struct, frozen=True, omit_defaults=True):
    """One request. Times are seconds since the start; `status` 0 is no answer, `version` what the answer said.

    `value` is what tells this command's effect from others on the same thing: a delivery's id, a name, a price.
    """

    client: str
    kind: str
    id: str
    sent_s: float
    done_s: float
    status: int
    value: str | int = ""
    body: dict[str, Any] = {}
    version: int | None = None
    tokens: bool = False  # whether the client sends back every token it was given
    problem: str = ""

    @property
    def outcome(self) -> Outcome:
        """A 503 may follow a commit whose reply was lost, so it tells nothing; a 4xx promises that nothing happened."""
        if self.status in (200, 201):
            return "ok"
        return "refused" if 400 <= self.status < 500 else "unknown"

    @property
    def thing(self) -> str:
        if self.kind in ("register", "rename", "customer", "orders"):
            return "customer"
        return "product" if self.kind in ("add", "reprice", "deliver", "product") else "order"


class Fault(Struct, frozen=True):
    """One fault, from its start until it was over, and what came back when; None where it never did."""

    kind: str
    where: str
    start_s: float
    end_s: float
    recovery_s: float | None
    convergence_s: float | None


class Finding(Struct, frozen=True):
    """A broken promise: lost, phantom, duplicate, differing, stale (despite a token), or trouble (anything else)."""

    kind: str
    what: str
    phase: str = ""


def effect_of(command: Operation) -> tuple[str, str, str | int]:
    """What a command does if it takes effect; a repeat has the same effect."""
    return command.kind, command.id, command.value


def write_lines(path: Path, entries: Iterable[Struct]) -> None:
    with path.open("wb") as file:
        file.writelines(msgspec.json.encode(entry) + b"\n" for entry in entries)
