"""What the documents ask of Redis, whichever client carries it: `cqrs_impl.documents.clients` holds the clients.

Nothing is sent again by itself: what got no answer may have been carried out. `StoreGone` says that there is no answer,
redis-py's ResponseError that a command was refused.
"""

from typing import Any, Protocol

Command = tuple[str | bytes | int, ...]
AWAY = "The read store cannot be asked right now."


class RedisClient(Protocol):
    async def ask(self, *commands: Command) -> list[Any]:
        """The answers to commands that are sent together: bytes, integers, None, or lists of them."""

    async def watch(self, key: str, *commands: Command) -> list[Any]:
        """Watch this key and no other, then ask; on the connection that `write` will use."""

    async def write(self, *commands: Command) -> bool:
        """All of them in one transaction; False, and nothing done, when somebody wrote the watched key meanwhile."""

    async def close(self) -> None: ...
