"""A deadline for requests to arrive: uvicorn has none, so half a request would hold its connection forever."""

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

ARRIVE_S_MAX = 10.0  # from the connect or the previous response to the last byte; uvicorn closes idle ones sooner


class Arrival(HttpToolsProtocol):
    """Closes a connection whose request did not arrive in time; the time of the service does not count."""

    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._expect()

    def on_message_complete(self) -> None:
        super().on_message_complete()
        if self.cycle.response_complete:  # refused before the body arrived: the next request may come
            self._expect()
        else:
            self._stop()

    def on_response_complete(self) -> None:
        another_waits = bool(self.pipeline)
        super().on_response_complete()
        if not another_waits:
            self._expect()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop()
        super().connection_lost(exc)

    def _expect(self) -> None:
        self._stop()
        self._deadline = self.loop.call_later(ARRIVE_S_MAX, self.timeout_keep_alive_handler)

    def _stop(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
