"""Where a reader of a broker goes on, beside the documents of its part: it is dropped with them."""

from cqrs_impl.documents.redis_client import RedisClient
from cqrs_impl.documents.redis_parts import layout
from cqrs_impl.part import Part


class RedisOffsets:
    def __init__(self, client: RedisClient, namespace: str, part: Part, purpose: str) -> None:
        self._client, self._key = client, f"{layout(namespace, part.of)}:offset:{purpose}:{part.number}"

    async def read(self) -> int | None:
        (found,) = await self._client.ask(("GET", self._key))
        return None if found is None else int(found)

    async def write(self, offset: int) -> None:
        await self._client.ask(("SET", self._key, offset))

    async def close(self) -> None:
        await self._client.close()
