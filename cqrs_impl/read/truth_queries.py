"""The query side over the tables of the truth: parted from the commands in code alone."""

from contract.connections import Reader
from contract.messages import Readiness
from contract.truth_reads import TruthReads


class TruthQueries(TruthReads):
    def __init__(self, reader: Reader) -> None:
        super().__init__(reader.rows)
        self._reader = reader

    async def readiness(self) -> Readiness:
        await self._reader.rows("SELECT 1", {})
        return Readiness(0, 0.0, 0)

    def in_use(self) -> tuple[int, int]:
        return self._reader.in_use()
