"""A broker in memory, which promises no more than `cqrs_impl.feeds.transport` asks of one."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from contract.errors import StoreGone
from cqrs_impl.feeds.transport import Delivered

AHEAD = 10  # messages at most that are given and not acknowledged: few, so that a test meets the end of them


class MemoryBroker:
    def __init__(self) -> None:
        self.partitions = defaultdict[int, dict[int, bytes]](dict)  # by offset: those that nobody has acknowledged
        self.last, self.starts = 0, 1

    def empty(self) -> None:
        """As after a restart: connections are lost, and offsets begin again."""
        self.partitions.clear()
        self.last, self.starts = 0, self.starts + 1


class MemoryPublisher:
    def __init__(self, broker: MemoryBroker) -> None:
        self.broker = broker

    async def publish(self, messages: Sequence[tuple[int, bytes]]) -> None:
        for partition, body in messages:
            self.broker.last += 1
            self.broker.partitions[partition][self.broker.last] = body

    async def close(self) -> None:
        pass


class MemoryReader:
    def __init__(self, broker: MemoryBroker, partition: int) -> None:
        self.broker, self.partition, self.last, self.connected = broker, partition, 0, 0

    def check(self) -> None:
        self.connected = self.connected or self.broker.starts
        if self.connected != self.broker.starts:
            raise StoreGone("The broker was started again.")

    async def read(self, limit: int) -> Sequence[Delivered]:
        self.check()
        there = self.broker.partitions[self.partition].items()
        given = sum(offset <= self.last for offset, _ in there)
        found = [Delivered(offset, body) for offset, body in there if offset > self.last][
            : max(0, min(limit, AHEAD - given))
        ]
        self.last = found[-1].offset if found else self.last
        return found

    async def wait(self, timeout_s: float) -> None:
        self.check()

    async def acknowledge(self, offset: Any) -> None:
        self.check()
        for kept in [kept for kept in self.broker.partitions[self.partition] if kept <= offset]:
            del self.broker.partitions[self.partition][kept]

    async def close(self) -> None:
        self.last = self.connected = 0
