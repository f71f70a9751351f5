"""How far the views are: one value in the read store, written in one unit with the data it speaks of."""

from secrets import randbits
from typing import NamedTuple

from contract.errors import WorkerError
from contract.position import START, Position, position_of, token_of

CLEARING = b"clearing "


class Checkpoint(NamedTuple):
    """`reflected` is what answers may claim; it comes first, so that the queries read no further. `writes` tells
    any two states of the views apart, also those at one position. `source` is the outbox they follow."""

    reflected: Position
    reached: Position
    writes: int
    source: str

    @property
    def text(self) -> bytes:
        return f"{token_of(self.reflected)} {token_of(self.reached)} {self.writes} {self.source}".encode()

    @classmethod
    def of(cls, text: bytes) -> "Checkpoint":
        reflected, reached, writes, source = text.decode().split(" ")
        return cls(position_of(reflected), position_of(reached), int(writes), source)

    @classmethod
    def begin(cls, source: str) -> "Checkpoint":
        """Of views without anything in them; their writes are counted from anywhere, so that none are like others'."""
        return cls(START, START, randbits(48), source)


def clearing(source: str) -> bytes:
    """In place of a checkpoint: the views are being emptied, for this source, and nothing may be applied. Who finds it
    goes on emptying, because who set it may have been killed; the number tells it from an earlier one."""
    return CLEARING + f"{randbits(48)} {source}".encode()


class AnotherSource(WorkerError):
    """The read store follows another outbox than ours."""

    def __init__(self) -> None:
        super().__init__("The read store at REDIS_URL follows another database by now: give each database its own.")
