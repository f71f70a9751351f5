"""How far the documents are: one value in their store, written in one atomic unit with them."""

from secrets import randbits
from typing import NamedTuple

from contract.errors import WorkerError
from contract.position import START, Position, position_of, token_of

CLEARING = b"clearing "


class Checkpoint(NamedTuple):
    """`low_water` is the position that answers may claim, below the first event that waits as a dead letter; it comes
    first, so that queries read no further. `position` is how far the feed was read. `writes` tells any two states of
    the documents apart, also those at one position. `source` is the log that they follow."""

    low_water: Position
    position: Position
    writes: int
    source: str

    @property
    def text(self) -> bytes:
        return f"{token_of(self.low_water)} {token_of(self.position)} {self.writes} {self.source}".encode()

    @classmethod
    def of(cls, text: bytes) -> "Checkpoint":
        low_water, position, writes, source = text.decode().split(" ")
        return cls(position_of(low_water), position_of(position), int(writes), source)

    @classmethod
    def begin(cls, source: str) -> "Checkpoint":
        """Of an empty store; its writes are counted from a random number, so that they are like no other store's."""
        return cls(START, START, randbits(48), source)


def clearing(source: str) -> bytes:
    """In place of a checkpoint: the store is being emptied, for this source, and nothing may be applied. Whoever finds
    it goes on emptying, because whoever set it may have been killed; the number tells it from an earlier one."""
    return CLEARING + f"{randbits(48)} {source}".encode()


class AnotherSource(WorkerError):
    """The store follows another log than ours."""

    def __init__(self) -> None:
        super().__init__("The read store follows another database by now: give each database a read store of its own.")
