"""A position: how much of the history of events something reflects. Opaque to all but the feed that gave it.

A position is a tuple of components, one for each source of events that is ordered in itself; a component is two
numbers, compared in that order. An outbox has one component, (transaction, sequence); a broker has one a partition.
"""

import re
from itertools import zip_longest

Position = tuple[tuple[int, int], ...]

START: Position = ((0, 0),)

_TOKEN = re.compile(r"[0-9]{1,19}-[0-9]{1,19}(?:\.[0-9]{1,19}-[0-9]{1,19}){0,255}", re.ASCII)


def covers(position: Position, wanted: Position) -> bool:
    """Whether everything up to `wanted` is reflected: in each component, where a missing one is at its start."""
    return all(own >= asked for own, asked in zip_longest(position, wanted, fillvalue=(0, 0)))


def token_of(position: Position) -> str:
    """The `Consistency-Token` of a position."""
    return ".".join(f"{high}-{low}" for high, low in position)


def position_of(token: str) -> Position:
    """The position of a `Consistency-Token`; ValueError if it is none."""
    if not _TOKEN.fullmatch(token):
        raise ValueError("not a consistency token")
    return tuple((int(high), int(low)) for high, _, low in (part.partition("-") for part in token.split(".")))
