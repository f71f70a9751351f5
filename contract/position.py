"""A position in the history of events. Opaque to everyone except the feed that issued it.

A position has one component for each ordered source of events: one for an outbox, one per partition for a broker.
A component is a pair of numbers, compared in that order, such as the (transaction, sequence) of an outbox.
"""

import re
from functools import lru_cache
from itertools import zip_longest

Position = tuple[tuple[int, int], ...]

START: Position = ((0, 0),)

_TOKEN = re.compile(r"[0-9]{1,19}-[0-9]{1,19}(?:\.[0-9]{1,19}-[0-9]{1,19}){0,255}", re.ASCII)


def covers(position: Position, wanted: Position) -> bool:
    """Whether `position` includes everything up to `wanted`, in each component; a missing component is at its start."""
    if len(position) == len(wanted) == 1:  # the usual case, asked several times an event
        return position[0] >= wanted[0]
    return all(own >= asked for own, asked in zip_longest(position, wanted, fillvalue=(0, 0)))


@lru_cache(maxsize=256)  # every answer of a read store carries one, and most of them the same
def token_of(position: Position) -> str:
    """The `Consistency-Token` of a position."""
    return ".".join(f"{high}-{low}" for high, low in position)


@lru_cache(maxsize=256)
def position_of(token: str) -> Position:
    """The position of a `Consistency-Token`; ValueError if it is not one."""
    if not _TOKEN.fullmatch(token):
        raise ValueError("not a consistency token")
    return tuple((int(high), int(low)) for high, _, low in (part.partition("-") for part in token.split(".")))
