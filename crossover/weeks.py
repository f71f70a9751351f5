"""A view that nobody had thought of when the events were recorded: the orders of each product in each week.

Nothing was prepared for it. It reads the feed of every view from the first event on.
"""

from collections import Counter
from collections.abc import Mapping

import polars as pl

from contract.messages import Event, OrderCancelled, OrderPlaced
from cqrs_impl.ports import FeedOfLog
from crossover.history import recorded
from crossover.parked import ask_log
from crossover.targets import Progress, quiet


class Weeks:
    """Orders that are not cancelled, by product and ISO week."""

    def __init__(self) -> None:
        self.orders, self._placed = Counter[tuple[str, str]](), dict[str, OrderPlaced]()

    def fold(self, event: Event) -> None:
        match event:
            case OrderPlaced() as order:
                self._placed[order.id] = order
                self._count(order, 1)
            case OrderCancelled(id):
                self._count(self._placed[id], -1)

    def _count(self, order: OrderPlaced, sign: int) -> None:
        year, week, _ = order.at.isocalendar()
        for line in order.lines:
            self.orders[line.product_name, f"{year}-W{week:02}"] += sign


def by_product_and_week(rung_name: str, env: Mapping[str, str], progress: Progress = quiet) -> pl.DataFrame:
    async def read(log: FeedOfLog) -> Weeks:
        weeks = Weeks()
        async for event, _at in recorded(log, progress):
            weeks.fold(event)
        return weeks

    orders = ask_log(rung_name, env, read).orders
    rows = [(product, week, count) for (product, week), count in orders.items() if count]
    return pl.DataFrame(rows, schema=["product", "week", "orders"], orient="row").sort("product", "week")
