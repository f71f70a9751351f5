"""The HTTP client of a search engine: OpenSearch and Elasticsearch answer the same requests.

aiohttp, and no library of either's: each of those refuses or warns of the other's servers, and one brings gRPC along.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from contract import stores

if TYPE_CHECKING:
    import aiohttp

AWAY = "The search engine cannot be asked right now."
PLAIN = {"accept-encoding": "identity"}
JSON, LINES = PLAIN | {"content-type": "application/json"}, PLAIN | {"content-type": "application/x-ndjson"}
# Expected by who asks: there is no such index or document, there is one already, or it was written meanwhile. A request
# that is refused for what it holds is for who asks, too.
OUTCOMES = (400, 404, 409)
BUSY = (429, 503)  # too much at once; an index that was just made or removed has no shard
TRIES_MAX, TRY_AGAIN_S = 4, 0.05

_encode = msgspec.json.Encoder().encode


class Reply(NamedTuple):
    status: int
    body: bytes

    @property
    def reason(self) -> str:
        return reason_of(self.status, self.body)


class SearchClient:
    """Resends only what was answered, by BUSY: a request without an answer may have been executed."""

    def __init__(self, url: str, settings: Callable[[], Mapping[str, Any]], *, timeout_s: float) -> None:
        """`settings`: further ones of the session, made where an event loop runs."""
        self._url, self._settings, self._timeout_s = url, settings, timeout_s
        self._session: aiohttp.ClientSession | None = None

    async def ask(self, method: str, path: str, body: object | None = None) -> Reply:
        """`StoreGone` unless it succeeds or has one of the OUTCOMES."""
        return await self._ask(method, path, None if body is None else _encode(body), JSON)

    async def bulk(self, lines: Sequence[bytes], path: str) -> Reply:
        return await self._ask("POST", path, b"\n".join([*lines, b""]), LINES)

    async def _ask(self, method: str, path: str, data: bytes | None, headers: Mapping[str, str]) -> Reply:
        import aiohttp

        try:
            reply = await self._once(method, path, data, headers)
            for again in range(1, TRIES_MAX):
                if reply.status not in BUSY:
                    break
                await asyncio.sleep(TRY_AGAIN_S * again)
                reply = await self._once(method, path, data, headers)
            if reply.status >= 300 and reply.status not in OUTCOMES:
                raise aiohttp.ClientError(reply.reason)
        except TimeoutError as error:
            raise stores.gone(AWAY, f"no answer within {self._timeout_s:g} s") from error
        except (aiohttp.ClientError, OSError) as error:
            raise stores.gone(AWAY, str(error) or type(error).__name__) from error
        return reply

    async def _once(self, method: str, path: str, data: bytes | None, headers: Mapping[str, str]) -> Reply:
        if self._session is None:
            self._session = self._opened()
        async with self._session.request(method, self._url + path, data=data, headers=headers) as answer:
            return Reply(answer.status, await answer.read())

    def _opened(self) -> "aiohttp.ClientSession":
        import aiohttp

        timeout, no_cookies = aiohttp.ClientTimeout(self._timeout_s), aiohttp.DummyCookieJar()
        return aiohttp.ClientSession(**self._settings(), timeout=timeout, cookie_jar=no_cookies)

    async def close(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()


def reason_of(status: int, body: bytes) -> str:
    """What the engine said, in its own words."""
    try:
        error = msgspec.json.decode(body)["error"]
        return f"{error['type']}: {error['reason']}"
    except (msgspec.DecodeError, KeyError, TypeError):
        return f"status {status}"
