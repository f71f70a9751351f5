"""The interface of the documents to Redis. The clients that implement it are in `cqrs_impl.documents.clients`.

No client resends a command: one without a reply may have been executed. `StoreGone` means that there was no reply or
that Redis is unusable now; redis-py's ResponseError means that a command was refused.
"""

from typing import Any, Protocol

Command = tuple[str | bytes | int, ...]
AWAY = "The read store cannot be asked right now."
# How a store begins its refusal of everything: full, starting, closed to us, read-only, or without its master.
GONE = ("OOM", "LOADING", "NOAUTH", "WRONGPASS", "MISCONF", "READONLY", "MASTERDOWN", "ERR max number of clients")


class RedisClient(Protocol):
    async def ask(self, *commands: Command) -> list[Any]:
        """Send commands together and return their replies: bytes, integers, None, or lists of them."""

    async def watch(self, key: str, *commands: Command) -> list[Any]:
        """Watch this key and no other, then ask, on the connection that the next `write` uses."""

    async def write(self, *commands: Command) -> bool:
        """Run all in one transaction. False if the watched key was written meanwhile: nothing was changed then."""

    async def close(self) -> None: ...
