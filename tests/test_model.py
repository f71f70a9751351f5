"""Random stories told to a rung and to an independent model at once: both must say the same."""

import os
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar
from uuid import uuid4

import httpx
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, multiple, rule, run_state_machine_as_test

from ladder.environment import LEVELS
from tests.conftest import LONG_SYSTEMS
from tests.model import Expected, Model
from tests.service import Shop, fresh_id, patiently, settle

CASES = int(os.environ.get("CASES", "4"))  # stories; 10 in `make check`, 25 in `make torture`
ODD = st.sampled_from(["Zoë", "ZOE\u0308", "tea pot", "Tea", "straße", "STRASSE", "ﬁn-é", "東京 tea", "x²", "\u202e!"])
NAMES = st.one_of(
    ODD,
    ODD,
    st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\x00"), min_size=1, max_size=20).filter(
        lambda text: bool(text.strip())
    ),
)
PRICES = st.sampled_from([0, 1, 250, 100_000_000])
EXPECTED = st.sampled_from([None, None, None, 1, 2, 3])
QUANTITIES = st.sampled_from([1, 1, 1, 2, 2, 3, 3, 1000])


class Story(RuleBasedStateMachine):
    """Every answer's token goes with the next query, so that each read must show all that was acknowledged."""

    url: ClassVar[str]
    customers, products, orders = Bundle("customers"), Bundle("products"), Bundle("orders")

    def __init__(self) -> None:
        super().__init__()
        self.client = httpx.Client(base_url=self.url, timeout=60)
        self.model = Model()
        self.mark = uuid4().hex  # a word that no other story uses
        self.token = ""

    def teardown(self) -> None:
        for order in self.model.orders:
            self.check_order(order)
        for product in self.model.products:
            self.check("/products/" + product, self.model.product(product))
        for customer in self.model.customers:
            self.check_customer(customer)
        self.client.close()

    # Both are told; both must answer alike.

    def tell(self, expected: Expected, method: str, path: str, body: Any = None, version: int | None = None) -> None:
        headers = {} if version is None else {"Expected-Version": str(version)}
        answer = self.client.request(method, path, json=body, headers=headers)
        status, said = expected
        assert answer.status_code == status, answer.text
        if isinstance(said, str):
            assert answer.json()["type"] == f"urn:crossover:{said}"
            return
        thing = "/".join(path.split("/")[:3])
        assert answer.json() == {"id": path.split("/")[2], "version": said}
        assert answer.headers.get("location") == (thing if status == 201 else None)
        self.token = answer.headers["consistency-token"]

    def ask(self, path: str, **params: Any) -> httpx.Response:
        headers = {"Consistency-Token": self.token, "Prefer": "wait=5"} if self.token else {}
        answer = self.client.get(path, params=params, headers=headers)
        if answer.status_code == 200:
            self.token = answer.headers["consistency-token"]
        return answer

    def check(self, path: str, expected: dict[str, Any] | None) -> None:
        answer = self.ask(path)
        if expected is None:
            assert answer.status_code == 404
        else:
            assert answer.status_code == 200, answer.text
            assert answer.json() == expected
            assert list(answer.json()) == list(expected), "the fields stand in the order of the contract"

    def check_order(self, id: str) -> None:
        order = self.model.orders.get(id)
        if order is not None and order.placed_at is None:
            order.placed_at = self.ask(f"/orders/{id}").json()["placed_at"]
        self.check(f"/orders/{id}", self.model.order(id))
        if order is not None:
            changes = self.ask(f"/orders/{id}/history").json()["changes"]
            assert [(change["version"], change["what"]) for change in changes] == list(enumerate(order.happened, 1))
            assert changes[0]["at"] == order.placed_at

    def check_customer(self, id: str) -> None:
        for order in self.model.orders_of(id):
            self.check_order(order)
        self.check(f"/customers/{id}", self.model.customer(id))
        listed: list[str] = []
        params: dict[str, Any] = {"limit": 2}
        while params:
            assert len(listed) <= len(self.model.orders), "paging comes to its end"
            page = self.ask(f"/customers/{id}/orders", **params).json()
            assert len(page["orders"]) == 2 or page["next"] is None
            listed += [item["id"] for item in page["orders"]]
            params = {"limit": 2, "after": page["next"]} if page["next"] else {}
        assert listed == self.model.orders_of(id)

    # What may happen.

    @initialize(target=customers)
    def first_customer(self) -> str:
        return self.register("Ada")

    @initialize(target=products, name=NAMES, stock=st.sampled_from([3, 20, 50]))
    def first_products(self, name: str, stock: int) -> Any:
        return multiple(*(self.add(fresh_id(), name, 100, stock) for _ in range(2)))

    @rule(target=customers, name=NAMES)
    def another_customer(self, name: str) -> str:
        return self.register(name)

    def register(self, name: str) -> str:
        id, name = fresh_id(), f"{name} {self.mark}"
        self.tell(self.model.register(id, name), "PUT", f"/customers/{id}", {"name": name})
        return id

    def add(self, id: str, name: str, price: int, stock: int) -> str:
        body = {"name": name, "price_cents": price, "stock": stock}
        self.tell(self.model.add(id, name, price, stock), "PUT", f"/products/{id}", body)
        return id

    @rule(id=customers, name=NAMES, again=st.booleans())
    def register_again(self, id: str, name: str, again: bool) -> None:
        name = self.model.customers[id].first[0] if again else name
        self.tell(self.model.register(id, name), "PUT", f"/customers/{id}", {"name": name})

    @rule(id=st.one_of(customers, customers, st.builds(fresh_id)), name=NAMES, version=EXPECTED)
    def rename(self, id: str, name: str, version: int | None) -> None:
        name = f"{name} {self.mark}"
        expected = self.model.rename(id, name, version)
        self.tell(expected, "POST", f"/customers/{id}/rename", {"name": name}, version)

    @rule(id=products, name=NAMES, again=st.booleans())
    def add_again(self, id: str, name: str, again: bool) -> None:
        self.add(id, *(self.model.products[id].first if again else (name, 1, 1)))

    @rule(id=st.one_of(products, products, st.builds(fresh_id)), price=PRICES, version=EXPECTED)
    def reprice(self, id: str, price: int, version: int | None) -> None:
        expected = self.model.reprice(id, price, version)
        self.tell(expected, "POST", f"/products/{id}/reprice", {"price_cents": price}, version)

    @rule(id=products, delivery=st.sampled_from([str(uuid4()) for _ in range(3)]), quantity=st.integers(1, 3))
    def deliver(self, id: str, delivery: str, quantity: int) -> None:
        expected = self.model.deliver(id, delivery, quantity)
        self.tell(expected, "PUT", f"/products/{id}/deliveries/{delivery}", {"quantity": quantity})

    def place_order(self, id: str, customer: str, wanted: list[tuple[str, int]]) -> None:
        lines = [{"product_id": product, "quantity": quantity} for product, quantity in wanted]
        expected = self.model.place(id, customer, wanted)
        self.tell(expected, "PUT", f"/orders/{id}", {"customer_id": customer, "lines": lines})

    @rule(
        target=orders,
        customer=customers,
        wanted=st.lists(st.tuples(products, QUANTITIES), min_size=1, max_size=3, unique_by=lambda line: line[0]),
        unknown=st.sampled_from([False] * 9 + [True]),
    )
    def place(self, customer: str, wanted: list[tuple[str, int]], unknown: bool) -> str:
        id = fresh_id()
        self.place_order(id, fresh_id() if unknown else customer, wanted)
        return id

    @rule(id=orders, change=st.booleans())
    def place_again(self, id: str, change: bool) -> None:
        if order := self.model.orders.get(id):
            customer, wanted = order.first
            self.place_order(id, customer, [(product, quantity + change) for product, quantity in wanted])

    @rule(id=orders, what=st.sampled_from(["pay", "ship", "cancel"]), version=EXPECTED)
    def advance_once(self, id: str, what: str, version: int | None) -> None:
        self.advance(id, what, version)

    def advance(self, id: str, what: str, version: int | None) -> None:
        self.tell(self.model.advance(id, what, version), "POST", f"/orders/{id}/{what}", None, version)

    @rule(id=orders, story=st.sampled_from(["pay", "cancel", "pay ship pay", "pay cancel pay", "cancel pay"]))
    def advance_in_steps(self, id: str, story: str) -> None:
        for what in story.split():
            self.advance(id, what, None)
        for what in story.split():
            self.advance(id, what, 1)

    @rule(id=orders)
    def read_order(self, id: str) -> None:
        self.check_order(id)

    @rule(id=customers)
    def read_customer(self, id: str) -> None:
        self.check_customer(id)

    @rule(id=products)
    def read_product(self, id: str) -> None:
        self.check(f"/products/{id}", self.model.product(id))

    @rule(more=st.sampled_from(["", " tea", " ZOË", " Strasse", " pot tea"]))
    def search(self, more: str) -> None:
        answer = self.ask("/search/orders", q=self.mark.upper() + more, limit=100)
        assert answer.status_code == 200, answer.text
        assert [item["id"] for item in answer.json()["orders"]] == self.model.found(self.mark + more)


@pytest.mark.parametrize("system", LONG_SYSTEMS)
def test_a_rung_says_what_the_model_says(system: tuple[str, str], serve: Any) -> None:
    rung, clients = system
    chosen = settings(
        max_examples=min(CASES, 25) if clients == LEVELS[0] else min(CASES // 2, 10),
        stateful_step_count=30,
        deadline=None,
        phases=[Phase.generate],  # shrinking a story over HTTP takes minutes
        suppress_health_check=list(HealthCheck),
        database=None,
    )
    run_state_machine_as_test(type("Story", (Story,), {"url": serve(rung, None, clients).url}), settings=chosen)


# Those that write in ways of their own; the others' commands are those of one of these.
WRITERS = ("noop", "crud", "orm", "cqrs", "event_sourced")
OF_WRITERS = [
    pytest.param(*one.values, marks=[*one.marks, *[pytest.mark.long] * (one.values[0][0] not in WRITERS)], id=one.id)
    for one in LONG_SYSTEMS
]


@pytest.fixture(params=OF_WRITERS)
def client(request: pytest.FixtureRequest, serve: Any) -> Any:
    (rung, clients), limits = request.param, httpx.Limits(max_connections=20)
    with httpx.Client(base_url=serve(rung, None, clients).url, timeout=60, limits=limits) as client:
        yield client


def statuses(count: int, ask: Callable[[int], httpx.Response]) -> Counter[int]:
    """Of so many requests, of which 16 are under way at a time."""
    with ThreadPoolExecutor(16) as pool:
        return Counter(answer.status_code for answer in pool.map(lambda n: patiently(lambda: ask(n)), range(count)))


def test_parallel_orders_of_one_product_sell_exactly_what_is_there(client: httpx.Client) -> None:
    shop, ids = Shop(client), [fresh_id() for _ in range(60)]
    customer, scarce, plenty = shop.customer(), shop.product(stock=13), shop.product(stock=1000)

    def place(n: int) -> httpx.Response:
        products = (scarce, plenty) if n % 2 else (plenty, scarce)  # in both orders: no deadlock comes through
        lines = [{"product_id": product, "quantity": 1} for product in products]
        return client.put(f"/orders/{ids[n]}", json={"customer_id": customer, "lines": lines})

    assert statuses(60, place) == {201: 13, 409: 47}
    settle(client)
    seen = [client.get(f"/products/{product}").json() for product in (scarce, plenty)]
    assert [(product["stock"], product["sold"]) for product in seen] == [(0, 13), (987, 13)]
    assert client.get(f"/customers/{customer}").json()["orders"] == 13


def test_one_order_sent_in_parallel_is_placed_once(client: httpx.Client) -> None:
    shop = Shop(client)
    customer, product, id = shop.customer(), shop.product(stock=5), fresh_id()
    body = {"customer_id": customer, "lines": [{"product_id": product, "quantity": 3}]}
    assert statuses(16, lambda _: client.put(f"/orders/{id}", json=body)) == {201: 1, 200: 15}
    settle(client)
    assert client.get(f"/products/{product}").json()["stock"] == 2


def test_parallel_transitions_of_one_order_take_effect_once(client: httpx.Client) -> None:
    shop = Shop(client)
    product = shop.product(stock=5)
    order = shop.order(shop.customer(), product)
    paths = [f"/orders/{order}/{what}" for what in ("pay", "cancel") for _ in range(8)]
    assert {*statuses(16, lambda n: client.post(paths[n]))} <= {200, 409}
    settle(client)
    changes = client.get(f"/orders/{order}/history").json()["changes"]
    assert [change["what"] for change in changes] in (["placed", "cancelled"], ["placed", "paid", "cancelled"])
    assert client.get(f"/products/{product}").json()["stock"] == 5


def test_parallel_deliveries_and_reprices_lose_no_version(client: httpx.Client) -> None:
    product, deliveries = Shop(client).product(stock=0), [fresh_id() for _ in range(40)]

    def change(n: int) -> httpx.Response:
        if n % 2:
            return client.post(f"/products/{product}/reprice", json={"price_cents": 1000 + n})
        return client.put(f"/products/{product}/deliveries/{deliveries[n]}", json={"quantity": 2})

    assert statuses(40, change) == {200: 20, 201: 20}
    settle(client)
    seen = client.get(f"/products/{product}").json()
    assert (seen["version"], seen["stock"]) == (41, 40)
