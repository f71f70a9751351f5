"""The checkpoint: how far the feed has been applied. It is stored with the documents, in one atomic write."""

from secrets import randbits
from typing import NamedTuple

from contract.errors import WorkerError
from contract.position import START, Position, position_of, token_of

CLEARING = b"clearing "


class Checkpoint(NamedTuple):
    """`low_water` is the position that answers report, before the first dead letter; it is first in the text, so that
    queries parse no further. `position` is how far the feed was processed. `writes` counts the writes: it differs
    between any two states of the documents. `source` is the id of the log that they follow."""

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
        """For an empty store. `writes` starts at a random number, so that no other store has the same values."""
        return cls(START, START, randbits(48), source)


def clearing(source: str) -> bytes:
    """Replaces the checkpoint while the store is emptied for this source; no event may be applied then. A process that
    finds it continues the emptying, as the one that set it may have been killed. The number makes it unique."""
    return CLEARING + f"{randbits(48)} {source}".encode()


class AnotherSource(WorkerError):
    """The store now follows another log."""

    def __init__(self) -> None:
        super().__init__("The read store follows another database by now: give each database a read store of its own.")
