"""A position in the history of events. Opaque to everyone except the feed that issued it.

A position has one component for each ordered source of events: one for an outbox, one per partition for a broker.
A component is a pair of numbers, compared in that order, such as the (transaction, sequence) of an outbox.

The numbers mean something in one history only. A database that is restored to earlier, copied or promoted goes on from
a point that others also go on from, and gives the same numbers to other events: it begins a new history there. Whether
a position of another history lies on the way to this one, only the log can tell.
"""

import re
from functools import lru_cache
from itertools import zip_longest
from typing import NamedTuple

Components = tuple[tuple[int, int], ...]


class Position(NamedTuple):
    """Sorts by its components, which is the order of the feed among positions that lead to one history."""

    components: Components
    history: str = ""  # where nothing can lag there is only one, without a name


BEGINNING: Components = ((0, 0),)
START = Position(BEGINNING)

_TOKEN = re.compile(
    r"(?:([0-9A-Za-z]{1,32})\.)?([0-9]{1,19}-[0-9]{1,19}(?:\.[0-9]{1,19}-[0-9]{1,19}){0,255})", re.ASCII
)


def covers(position: Position, wanted: Position) -> bool:
    """Whether `position` includes everything up to `wanted`, in each component; a missing component is at its start.
    Both must lead to the same history."""
    own, asked = position[0], wanted[0]
    if len(own) == len(asked) == 1:  # the usual case, asked several times an event
        return own >= asked
    return all(one >= other for one, other in zip_longest(own, asked, fillvalue=(0, 0)))


@lru_cache(maxsize=256)  # every answer of a read store carries one, and most of them the same
def token_of(position: Position) -> str:
    """The `Consistency-Token` of a position."""
    numbers = ".".join(f"{high}-{low}" for high, low in position.components)
    return f"{position.history}.{numbers}" if position.history else numbers


@lru_cache(maxsize=256)
def position_of(token: str) -> Position:
    """The position of a `Consistency-Token`; ValueError if it is not one."""
    if not (found := _TOKEN.fullmatch(token)):
        raise ValueError("not a consistency token")
    numbers = (part.partition("-") for part in found[2].split("."))
    return Position(tuple((int(high), int(low)) for high, _, low in numbers), found[1] or "")
