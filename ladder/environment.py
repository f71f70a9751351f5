"""The configuration of a served rung: the addresses of its servers, its namespace, clients, token and clock.

The environment variables of a served rung are read only here.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property
from itertools import count

from contract.ports import Clock, utc_now
from contract.stores import HIDDEN
from servers.server import Server, Unusable, secrets_of

NAMESPACE, TOKEN, CLOCK, RUNGS = "CROSSOVER_NAMESPACE", "CROSSOVER_TOKEN", "CROSSOVER_CLOCK", "CROSSOVER_RUNGS"
CLIENTS = "CROSSOVER_CLIENTS"
PRIVATE = "private"  # said to the step that prepares servers which were started for a rung alone
LEVELS = ("idiomatic", "lean")  # of the client libraries of every rung; the first is the default


@dataclass(frozen=True)
class Environment:
    variables: Mapping[str, str] = field(default_factory=lambda: os.environ, repr=False)
    in_bulk: bool = False  # a step fills or rebuilds: it is busy for long between a question and its answer

    def url(self, server: Server) -> str:
        """The address of a server; `Unusable` if none is given."""
        if not (url := self.variables.get(server.variable)):
            raise Unusable(f"Set {server.variable}: this rung needs {server.title}.")
        HIDDEN.update(secrets_of(url))
        return url

    @property
    def namespace(self) -> str:
        return self.variables.get(NAMESPACE, "crossover")

    @property
    def token(self) -> str | None:
        token = self.variables.get(TOKEN, "").strip()
        if re.search(r"[^!-~]", token):
            raise Unusable(f"{TOKEN} is printable ASCII without spaces, and this one is not.")
        return token or None

    @property
    def clients(self) -> str:
        """One of LEVELS."""
        if (level := self.variables.get(CLIENTS, LEVELS[0])) not in LEVELS:
            raise Unusable(f"{CLIENTS} must be {' or '.join(LEVELS)}, not '{level}'.")
        return level

    @cached_property
    def clock(self) -> Clock:
        return clock_of(self.variables.get(CLOCK))


def clock_of(setting: str | None) -> Clock:
    """The system clock or, for tests, one of two others: `step:<time>` starts at that time and gains a millisecond per
    call; `shift:<seconds>` is wrong by that much."""
    if setting is None:
        return utc_now
    kind, _, start = setting.partition(":")
    if kind == "shift":
        wrong_by = timedelta(seconds=float(start))
        return lambda: utc_now() + wrong_by
    if kind != "step":
        raise Unusable(f"{CLOCK} must be step:<RFC 3339 time> or shift:<seconds>.")
    first, steps = datetime.fromisoformat(start), count()
    return lambda: first + timedelta(milliseconds=next(steps))


def rung_folders() -> list[str]:
    """Further folders that contain rungs."""
    return [folder for folder in os.environ.get(RUNGS, "").split(os.pathsep) if folder]
