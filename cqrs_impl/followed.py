"""What the checkpoint of a read store stands for in the log that it follows: the position that answers report, and how
far the store is behind."""

from collections.abc import Iterator
from contextlib import contextmanager

from contract.errors import Unavailable
from contract.position import Position, position_of
from cqrs_impl.checkpoint import AnotherHistory, Checkpoint
from cqrs_impl.ports import Backlog

TOKENS_MAX = 1000
FOREIGN = "The read store shows another history of the data than the database has: its projector must rebuild it."


class Followed:
    def __init__(self, backlog: Backlog) -> None:
        self._backlog = backlog
        self._known = set[str]()  # histories in which the store's checkpoint was found to be the log's
        self._counted: bytes | None = None  # the checkpoint whose events were counted last
        self._lead = set[tuple[Position, str]]()  # tokens of earlier histories that lead to these

    async def shown(self, text: bytes) -> Position:
        """The position that an answer reports: the low-water mark, which is the first word of the checkpoint."""
        low_water = position_of(text.split(b" ", 1)[0].decode())
        if low_water.history not in self._known:  # once for each history
            checkpoint = Checkpoint.of(text)
            with self._of_its_history():
                await self._backlog.history(checkpoint.position, checkpoint.counted)
            self._known.add(low_water.history)
        return low_water

    async def behind(self, text: bytes) -> tuple[int, float]:
        """How many events the store has not applied, and the age of the oldest in seconds."""
        checkpoint = Checkpoint.of(text)
        with self._of_its_history():
            counted = None if text == self._counted else checkpoint.counted
            behind = await self._backlog.behind(checkpoint.position, counted)
            self._counted = text
        return behind

    async def leads(self, token: Position, shown: Position) -> bool:
        """Whether a token leads to the same history as the position of an answer. Both can be of earlier ones."""
        if (token, shown.history) in self._lead:
            return True
        try:
            present = await self._backlog.history(token)
        except AnotherHistory:
            return False
        if present == shown.history:
            self._lead = {*self._lead, (token, present)} if len(self._lead) < TOKENS_MAX else {(token, present)}
        else:  # nothing was projected since the present history began
            with self._of_its_history():
                await self._backlog.history(shown)
        return True

    @contextmanager
    def _of_its_history(self) -> Iterator[None]:
        try:
            yield
        except AnotherHistory:
            self._known.clear()
            raise Unavailable(FOREIGN) from None
