"""The ORM sends the statements that were planned, and no more; its naive variant is right all the same.

The fifth notebook quotes these numbers.
"""

import asyncio
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import Engine, event

from contract import messages as m
from contract.ports import utc_now
from crud_impl.orm.naive import NaiveOrders
from ladder.environment import NAMESPACE, Environment
from ladder.rung import rung
from loadtests.conformance import check
from loadtests.http import HttpClient
from servers.postgres import POSTGRES

CUSTOMER, PRODUCT, OTHER, ORDER, SHIPPED = (str(uuid4()) for _ in range(5))
LINES = (m.Wanted(PRODUCT, 2), m.Wanted(OTHER, 1))
# Each in its turn, with how many statements it takes of the ORM and of plain SQL, BEGIN and COMMIT not counted.
PLANNED: list[tuple[m.Command | m.Query, int, int]] = [
    (m.RegisterCustomer(CUSTOMER, "Ada"), 1, 1),
    (m.AddProduct(PRODUCT, "Small Green Kettle", 1999, 50), 1, 1),
    (m.AddProduct(OTHER, "Tea", 300, 50), 1, 1),
    (m.PlaceOrder(ORDER, CUSTOMER, LINES), 6, 2),  # products, customer, order; order, lines, stock
    (m.PlaceOrder(ORDER, CUSTOMER, LINES), 4, 2),  # a repeat: the lines of the order too
    (m.PayOrder(ORDER), 2, 2),
    (m.CancelOrder(ORDER), 5, 4),
    (m.PlaceOrder(SHIPPED, CUSTOMER, LINES), 6, 2),
    (m.PayOrder(SHIPPED), 2, 2),
    (m.ShipOrder(SHIPPED), 2, 2),
    (m.RenameCustomer(CUSTOMER, "Ada L."), 2, 2),
    (m.RepriceProduct(PRODUCT, 2100), 2, 2),
    (m.DeliverStock(PRODUCT, str(uuid4()), 5), 4, 4),
    (m.GetOrder(ORDER), 1, 1),
    (m.GetHistory(ORDER), 1, 1),
    (m.GetCustomer(CUSTOMER), 1, 1),
    (m.GetProduct(PRODUCT), 1, 1),
    (m.ListOrders(CUSTOMER, 10), 1, 1),
    (m.TopProducts(10), 1, 1),
    (m.DailySales(30), 1, 1),
    (m.SearchOrders(("ada", "tea"), 10), 1, 1),
]


BY_NAME = {
    **{"place": m.PlaceOrder, "pay": m.PayOrder, "ship": m.ShipOrder, "cancel": m.CancelOrder},
    **{"rename": m.RenameCustomer, "reprice": m.RepriceProduct, "deliver": m.DeliverStock},
    **{"order": m.GetOrder, "customer_orders": m.ListOrders, "product": m.GetProduct, "customer": m.GetCustomer},
    "history": m.GetHistory,
}
NOTEBOOK = Path(__file__).parent.parent / "notebooks" / "06_what_people_try_first.py"


@pytest.fixture
def statements() -> Any:
    """What the driver was given since it was last cleared."""
    sent: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        sent.append(statement)

    event.listen(Engine, "before_cursor_execute", note)
    yield sent
    event.remove(Engine, "before_cursor_execute", note)


@pytest.mark.parametrize("name", ["orm", "crud"])
def test_every_command_and_query_sends_the_statements_that_were_planned(
    name: str, postgres_url: str, namespace: Callable[[], str], statements: list[str]
) -> None:
    one, env = rung(name), Environment({POSTGRES.variable: postgres_url, NAMESPACE: namespace()})
    one.prepare(env)

    async def run() -> list[tuple[Any, int]]:
        system, found = one.system(env), []
        for asked, *_ in PLANNED:
            statements.clear()
            if isinstance(asked, m.Query):
                await system.answer(asked)
            else:
                await system.execute(asked)
            found.append((asked, len(statements)))
        await system.close()
        return found

    assert asyncio.run(run()) == [(asked, orm if name == "orm" else crud) for asked, orm, crud in PLANNED]


def test_the_notebook_shows_the_statements_that_are_counted_here() -> None:
    cell: dict[str, Any] = {}
    exec("\n".join(re.findall(r"^STATEMENTS .*", NOTEBOOK.read_text("utf-8"), re.MULTILINE)), cell)
    counted = {type(asked): (crud, orm) for asked, orm, crud in reversed(PLANNED)}  # of a repeat, what came first
    assert cell["STATEMENTS"] == {name: counted[kind] for name, kind in BY_NAME.items()}


@pytest.mark.long
def test_the_naive_variant_asks_for_every_product_by_itself_and_answers_with_the_same_bytes(
    fresh_target: Any, postgres_url: str, statements: list[str]
) -> None:
    tuned, naive = fresh_target("orm"), fresh_target("orm:naive")
    verdict = check([(each.name, HttpClient(each.url)) for each in (tuned, naive)], seed=1, nonce="naive")
    assert verdict.ok, verdict.first_difference

    async def run(system: NaiveOrders) -> None:
        for asked, *_ in PLANNED[:4]:
            await system.execute(asked)  # type: ignore[arg-type]
        statements.clear()
        await system.answer(m.GetOrder(ORDER))
        await system.close()

    asyncio.run(run(NaiveOrders(postgres_url, naive.env[NAMESPACE], utc_now)))
    assert len(statements) == 3 + len(LINES)
