"""The HTTP client of the harness for everything but load: filling, checking, waiting for an empty backlog."""

import socket
import ssl
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import NamedTuple, TypeVar

import msgspec

from loadtests.address import address_of, authorization
from loadtests.plan import BadPlan
from loadtests.response import BadResponse, Response, fields, parse

T = TypeVar("T")
TIMEOUT_S = 15.0
WORKERS = 16  # concurrent requests of a fill or a check


class Unreachable(Exception):
    """The target did not respond; the message is one sentence."""


class HttpResponse(NamedTuple):
    status: int
    headers: dict[str, str]  # names in lower case
    body: bytes


class HttpClient:
    """One target; each thread keeps a connection of its own. No proxy stands between, and no redirect is followed."""

    def __init__(
        self, url: str, *, token: str | None = None, timeout_s: float = TIMEOUT_S, resend: bool = True
    ) -> None:
        self._timeout_s, self._attempts = timeout_s, 2 if resend else 1
        self._headers = authorization(token)
        self.move_to(url)

    def move_to(self, url: str) -> None:
        """The same target at another address, after a restart."""
        self._address = address_of(url)
        self.url = self._address.url
        self._tls = ssl.create_default_context() if self._address.tls else None
        self._local = threading.local()

    def request(
        self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> HttpResponse:
        """Retry once when a keep-alive connection turns out closed, unless told not to `resend`: every command of the
        contract is idempotent, though a rename or reprice that is sent late undoes the one in between."""
        request = self._address.request(method, path, self._headers | (headers or {}), body)
        for attempt in range(1, self._attempts + 1):
            try:
                response = self._exchange(request, method == "HEAD")
            except BadResponse as error:
                raise Unreachable(f"{self.url} sends what is no whole HTTP/1.1 response: {error}.") from error
            except OSError as error:
                if attempt == self._attempts or isinstance(error, ConnectionRefusedError | TimeoutError):
                    raise Unreachable(f"{self.url} does not answer ({error or type(error).__name__}).") from error
            else:
                return HttpResponse(response.status, fields(response.head), response.body)
        raise AssertionError("the last attempt returns or raises")

    def _exchange(self, request: bytes, bodiless: bool) -> Response:
        """Within the time for one request, however slowly the bytes come."""
        deadline_s, received, response = time.monotonic() + self._timeout_s, b"", None
        connection: socket.socket | None = self._local.__dict__.pop("connection", None)
        try:
            connection = connection or self._connect()
            connection.settimeout(self._timeout_s)
            connection.sendall(request)
            while response is None:
                connection.settimeout(max(1e-3, deadline_s - time.monotonic()))
                part = connection.recv(65536)
                received += part
                if not received:
                    raise ConnectionResetError("it closed the connection")
                response = parse(received, ended=not part, bodiless=bodiless)
                if response is None and time.monotonic() > deadline_s:
                    raise TimeoutError("timed out")
            if response.reusable:
                self._local.connection = connection
            return response
        finally:
            if connection is not None and (response is None or not response.reusable):
                connection.close()

    def _connect(self) -> socket.socket:
        connection = socket.create_connection((self._address.host, self._address.port), self._timeout_s)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return self._tls.wrap_socket(connection, server_hostname=self._address.host) if self._tls else connection

    def get(self, path: str, headers: dict[str, str] | None = None) -> HttpResponse:
        return self.request("GET", path, headers=headers)

    def lag_events(self) -> int | None:
        """The backlog; None when the target does not report it now."""
        answer = self.get("/ready")
        return lag_in(answer.status, answer.body)

    def settle(self, timeout_s: float) -> bool:
        """Wait until the backlog is empty; False if it is not in time."""
        return drained(self.lag_events, timeout_s) == 0


def one_line(body: bytes) -> str:
    """What a target answered, to be quoted: line breaks and other controls as escapes."""
    text = body.decode("utf-8", "replace")
    return "".join(mark if mark.isprintable() else mark.encode("unicode_escape").decode() for mark in text)


class _Lag(msgspec.Struct):
    lag_events: int


def lag_in(status: int, body: bytes) -> int | None:
    """The backlog as `GET /ready` tells it; above its limit a target answers 503 with the same body."""
    try:
        return msgspec.json.decode(body, type=_Lag).lag_events if status in (200, 503) else None
    except ValueError:
        return None


def drained(lag_events: Callable[[], int | None], timeout_s: float) -> int:
    """Wait for an empty backlog; returns what is left. A target that reports no backlog counts as behind."""
    deadline, pause_s = time.monotonic() + timeout_s, 0.001
    while (lag := lag_events()) != 0 and time.monotonic() < deadline:
        time.sleep(pause_s)  # cooperative, where Locust has patched it
        pause_s = min(pause_s * 2, 0.05)
    return 1 if lag is None else lag


def require_contract(name: str, client: HttpClient, operations: Collection[str] = ()) -> None:
    """Whether a target can be measured at all: it is healthy, reports its backlog, and speaks the contract.

    Raises BadPlan unless the target answers one query of each kind that a run with these operations sends.
    """
    who = f"Target {name} at {client.url}"
    try:
        health, ready = client.get("/health"), client.get("/ready")
        report = client.get("/reports/top-products?limit=1") if "top_products" in operations else None
        lag = client.lag_events()
    except Unreachable as error:
        raise BadPlan(f"Target {name}: {error} Start it, or correct its URL.") from error
    if 401 in (health.status, ready.status):
        raise BadPlan(f"{who} requires a token: set CROSSOVER_TOKEN to it.")
    if 300 <= health.status < 400:
        raise BadPlan(f"{who} redirects: GET /health answers {health.status}. Give the address that it leads to.")
    if health.status != 200:
        raise BadPlan(f"{who} cannot serve: GET /health answers {health.status}.")
    if lag is None:
        raise BadPlan(f"{who} does not speak the contract: GET /ready answers {ready.status} without lag_events.")
    if report and (report.status != 200 or not report.body.startswith(b'{"products":[')):
        raise BadPlan(f"{who} does not speak the contract: GET /reports/top-products answers {report.status}.")


def concurrently(
    work: Callable[[T], None],
    items: Iterable[T],
    *,
    workers: int = WORKERS,
    progress: Callable[[int], None] = lambda done: None,
) -> None:
    """Do the work for every item, a batch at a time: memory stays bounded, and an interrupt waits for one batch."""
    rest, done = iter(items), 0
    with ThreadPoolExecutor(workers) as pool:
        for batch in _batches(rest, workers * 16):
            for _ in pool.map(work, batch):
                pass
            done += len(batch)
            progress(done)


def _batches(items: Iterator[T], size: int) -> Iterator[list[T]]:
    while batch := list(islice(items, size)):
        yield batch
