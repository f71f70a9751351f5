"""How far the views are: one value in the read store, written in one unit with the data it speaks of."""

from typing import NamedTuple

from contract.messages import Position
from contract.text import token_position, token_text


class Checkpoint(NamedTuple):
    """`reflected` is what answers may claim; it comes first, so that the queries read no further. `writes` tells
    any two states of the views apart, also those at one position."""

    reflected: Position
    reached: Position
    writes: int

    @property
    def text(self) -> bytes:
        return f"{token_text(self.reflected)} {token_text(self.reached)} {self.writes}".encode()

    @classmethod
    def of(cls, text: bytes) -> "Checkpoint":
        reflected, reached, writes = text.decode().split()
        return cls(token_position(reflected), token_position(reached), int(writes))
