"""The data set: the same from a seed, in order, and shaped like a real shop's."""

import uuid
from collections import Counter
from itertools import pairwise

import pytest

from loadtests.dataset import FIRST_STOCK, SIZES, SPREAD_US, Dataset

SMALL = Dataset(1, *SIZES["s"])


def test_a_seed_gives_the_same_data_even_across_versions_and_another_seed_other_data() -> None:
    """Targets that were filled by an earlier version must stay readable by this one."""
    data, again, other = Dataset(1, 50, 30, 200), Dataset(1, 50, 30, 200), Dataset(2, 50, 30, 200)
    assert list(data.orders()) == list(again.orders()) and list(data.customers()) == list(again.customers())
    assert {order.id for order in data.orders()}.isdisjoint(order.id for order in other.orders())
    assert next(data.customers()) == ("019b76da-a800-74ce-878b-f67782ecd75d", "Mina Williams")
    assert next(data.products()) == ("019b76da-a800-77f9-80de-41d41af6f1a0", "Travel Bowl XS", 10549, FIRST_STOCK)
    assert data.order_id(0) == next(data.orders()).id


def test_ids_are_uuids_of_version_7_that_grow_with_the_index() -> None:
    for of in (SMALL.customer_id, SMALL.product_id, SMALL.order_id):
        ids = [of(index) for index in range(500)]
        assert ids == sorted(set(ids))
        assert all(str(uuid.UUID(one)) == one and uuid.UUID(one).version == 7 for one in ids)
        assert all(uuid.UUID(one).variant == uuid.RFC_4122 for one in ids)


def test_orders_are_valid_oldest_first_and_more_frequent_towards_the_end() -> None:
    orders, customers = list(SMALL.orders()), {one for one, _ in SMALL.customers()}
    products = {one for one, *_ in SMALL.products()}
    assert [order.id for order in orders] == [SMALL.order_id(index) for index in range(10_000)]
    assert all(older.age_us > newer.age_us >= 0 for older, newer in pairwise(orders))
    assert orders[0].age_us <= SPREAD_US
    for order in orders:
        chosen = [product for product, _ in order.lines]
        assert order.customer_id in customers and products.issuperset(chosen)
        assert 1 <= len(set(chosen)) == len(chosen) <= 6
        assert order.changes in ((), ("paid",), ("paid", "shipped"), ("cancelled",), ("paid", "cancelled"))
    ages = [order.age_us for order in orders]
    newest, oldest = sum(age < SPREAD_US / 9 for age in ages), sum(age > SPREAD_US * 8 / 9 for age in ages)
    assert 2 < newest / oldest < 4


def test_customers_and_products_are_skewed_and_stock_never_runs_short() -> None:
    orders = list(SMALL.orders())
    customers = Counter(order.customer_id for order in orders).most_common()
    assert customers[0][1] > 8 * len(orders) / 1_000, "the best customer orders far more than the average of ten"
    pieces: Counter[str] = Counter()
    for order in orders:
        pieces.update(dict(order.lines))
    assert pieces.most_common(1)[0][1] > 10 * sum(pieces.values()) / 500
    assert max(pieces.values()) < FIRST_STOCK / 2
    assert 2.3 < sum(len(order.lines) for order in orders) / len(orders) < 2.7


def test_some_names_leave_ascii() -> None:
    assert any(not name.isascii() for _, name in SMALL.customers())
    assert any(not name.isascii() for _, name, *_ in SMALL.products())


def test_orders_without_anybody_to_place_them_are_refused() -> None:
    with pytest.raises(ValueError, match="orders only of customers and products"):
        Dataset(1, 0, 10, 5)
