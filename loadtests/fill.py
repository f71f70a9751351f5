"""Fills a target over HTTP with a data set, transitions of orders included; filling twice changes nothing."""

import time
from collections.abc import Callable

import msgspec

from loadtests.dataset import Dataset, OrderRow
from loadtests.http import HttpClient, HttpResponse, concurrently, one_line

BUSY_S = 30.0  # how long a target may answer 503 before the fill gives up
Progress = Callable[[int, int, str], None]  # done, total, note


class FillRefused(Exception):
    """The target refused data of the set; the message is one sentence."""


def require_data(client: HttpClient, dataset: Dataset, size: str) -> None:
    """Raises FillRefused unless the target answers for the last order of this data set."""
    if client.get(f"/orders/{dataset.order_id(dataset.size.orders - 1)}").status != 200:
        raise FillRefused(
            f"{client.url} does not hold the data set of size {size} and seed {dataset.seed}: load it with "
            f"`crossover serve RUNG --size {size} --seed {dataset.seed}`, or give Locust the --size it holds."
        )


def fill(client: HttpClient, dataset: Dataset, progress: Progress = lambda done, total, note: None) -> None:
    """Orders are placed in the order of the data set, as nearly as concurrent requests allow."""
    size, total = dataset.size, sum(dataset.size)
    concurrently(
        lambda row: _put(client, f"/customers/{row[0]}", {"name": row[1]}),
        dataset.customers(),
        progress=lambda done: progress(done, total, "customers"),
    )
    concurrently(
        lambda row: _put(client, f"/products/{row[0]}", {"name": row[1], "price_cents": row[2], "stock": row[3]}),
        dataset.products(),
        progress=lambda done: progress(size.customers + done, total, "products"),
    )
    concurrently(
        lambda row: _order(client, row),
        dataset.orders(),
        progress=lambda done: progress(size.customers + size.products + done, total, "orders"),
    )


def _order(client: HttpClient, row: OrderRow) -> None:
    lines = [{"product_id": product, "quantity": quantity} for product, quantity in row.lines]
    _put(client, f"/orders/{row.id}", {"customer_id": row.customer_id, "lines": lines})
    for change in row.changes:
        verb = {"paid": "pay", "shipped": "ship", "cancelled": "cancel"}[change]
        _patiently(client, "POST", f"/orders/{row.id}/{verb}", None)


def _put(client: HttpClient, path: str, content: dict[str, object]) -> None:
    _patiently(client, "PUT", path, msgspec.json.encode(content))


def _patiently(client: HttpClient, method: str, path: str, body: bytes | None) -> HttpResponse:
    """Retry while the target is busy: its backlog limit is there to slow the client down."""
    deadline, pause_s = time.monotonic() + BUSY_S, 0.05
    while True:
        answer = client.request(method, path, body)
        if answer.status in (200, 201):
            return answer
        if answer.status != 503 or time.monotonic() > deadline:
            told = f"{answer.status} {one_line(answer.body[:200])}"
            raise FillRefused(f"{client.url} refused to be filled: {method} {path} got {told}")
        time.sleep(pause_s)
        pause_s = min(pause_s * 2, 1.0)
