"""The checkpoint: how far the feed has been applied. It is stored with the documents, in one atomic write."""

from secrets import randbits
from typing import NamedTuple

from contract.errors import WorkerError
from contract.position import BEGINNING, Position, position_of, token_of

CLEARING = b"clearing "


class Checkpoint(NamedTuple):
    """`low_water` is the position that answers report, before the first dead letter; it is first in the text, so that
    queries parse no further. `position` is how far the feed was processed. `writes` counts the writes: it differs
    between any two states of the documents. `counted` is the number of events up to the position: with its history it
    tells whether a log is the one that was followed. `version` is that of the documents: a live rebuild makes the
    next, and the checkpoint that answers are read with names the one that they come from."""

    low_water: Position
    position: Position
    writes: int
    counted: int
    version: int = 1

    @property
    def text(self) -> bytes:
        positions = f"{token_of(self.low_water)} {token_of(self.position)}"
        return f"{positions} {self.writes} {self.counted} {self.version}".encode()

    @classmethod
    def of(cls, text: bytes) -> "Checkpoint":
        """That of a store which is being emptied, or was filled by an earlier version, is the beginning."""
        try:
            low_water, position, *numbers = text.decode().split(" ")
            writes, counted, version = map(int, numbers)
            return cls(position_of(low_water), position_of(position), writes, counted, version)
        except ValueError:
            return cls.begin(history_of(text) if text.startswith(CLEARING) else "")

    @classmethod
    def begin(cls, history: str, version: int = 1) -> "Checkpoint":
        """For an empty store. `writes` starts at a random number, so that no other store has the same values."""
        return cls(Position(BEGINNING, history), Position(BEGINNING, history), randbits(48), 0, version)

    def of_history(self, history: str) -> "Checkpoint":
        """The same in a history that its position leads to."""
        return self._replace(position=self.position._replace(history=history))


def clearing(history: str) -> bytes:
    """Replaces the checkpoint while the store is emptied for this history; no event may be applied then. A process that
    finds it continues the emptying, as the one that set it may have been killed. The number makes it unique."""
    return CLEARING + f"{randbits(48)} {history}".encode()


def history_of(mark: bytes) -> str:
    """The history that a store is emptied for."""
    return mark.split(b" ")[2].decode()


class AnotherHistory(WorkerError):
    """A position, or the read store with its checkpoint, belongs to another history than the log's present one."""

    def __init__(self) -> None:
        super().__init__("The read store follows another database by now: give each database a read store of its own.")
