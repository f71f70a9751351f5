"""Every rung answers the same story with the same bytes as `crud`, times and cursors included."""

from typing import Any

import httpx
import pytest

from ladder.rung import rungs
from tests.service import settle
from tests.transcript import CLOCK, PRODUCTS, C, O, P, Read, Write, transcript

REFERENCE = "crud"
Said = list[tuple[str, int, str | None, bytes]]


def play(client: httpx.Client, tempo: str) -> Said:
    """`settled`: wait after each command until it can be read. `burst`: all commands, then all reads."""
    said: Said = []
    steps = list(transcript())
    if tempo == "burst":
        last_write = max(at for at, step in enumerate(steps) if isinstance(step, Write))
        steps = [step for step in steps if isinstance(step, Write)] + steps[last_write + 1 :]
    settled = False
    for step in steps:
        if isinstance(step, Write):
            answer = client.request(step.method, step.path, json=step.body, headers=step.headers)
            settled = False
        else:
            if not settled:
                settle(client)
                settled = True
            answer = client.get(step.path)
        name = f"{len(said)} {answer.request.method} {answer.request.url.raw_path.decode()}"
        assert not step.status or answer.status_code == step.status, f"{name}: {answer.status_code} {answer.text}"
        said.append((name, answer.status_code, answer.headers.get("location"), answer.content))
        if isinstance(step, Write) and tempo == "settled":
            settle(client)
            settled = True
        while isinstance(step, Read) and step.pages and (cursor := answer.json()["next"]):
            answer = client.get(step.path, params={"limit": 2, "after": cursor})
            said.append((f"{name} after {cursor}", answer.status_code, None, answer.content))
            assert len(said) < 1000, "paging comes to its end"
    return said


@pytest.fixture(scope="module")
def references() -> dict[str, Said]:
    return {}


@pytest.mark.parametrize("tempo", ["settled", "burst"])
@pytest.mark.parametrize("rung", tuple(rungs()))
def test_a_rung_answers_the_transcript_with_the_bytes_of_crud(
    rung: str, tempo: str, fresh_target: Any, references: dict[str, Said]
) -> None:
    if tempo not in references:
        with httpx.Client(base_url=fresh_target(REFERENCE, CLOCK).url, timeout=30) as client:
            references[tempo] = play(client, tempo)
    with httpx.Client(base_url=fresh_target(rung, CLOCK).url, timeout=30) as client:
        said = play(client, tempo)
        check_by_hand(client)
    assert len(said) == len(references[tempo]) > 150
    for mine, reference in zip(said, references[tempo], strict=True):
        assert mine == reference


def check_by_hand(client: httpx.Client) -> None:
    """The end of the story as a reader works it out, in case every rung is wrong alike."""
    order = client.get(f"/orders/{O[0]}").json()
    assert (order["version"], order["status"], order["customer"]["name"]) == (3, "shipped", "Zoë Birne")
    assert order["placed_at"] == "2026-01-01T23:59:59.985000Z"
    prices = [(line["product_name"], line["unit_price_cents"], line["amount_cents"]) for line in order["lines"]]
    assert prices == [(PRODUCTS[1], 100, 200), (PRODUCTS[0], 0, 0), (PRODUCTS[3], 300, 1200)]
    assert order["total_cents"] == 1400
    history = client.get(f"/orders/{O[2]}/history").json()["changes"]
    assert [(change["version"], change["what"]) for change in history] == [(1, "placed"), (2, "paid"), (3, "cancelled")]
    dear = client.get(f"/products/{P[7]}").json()
    assert (dear["version"], dear["stock"], dear["sold"]) == (1, 20, 60)
    top = client.get("/reports/top-products?limit=1").json()["products"]
    assert top == [{"id": P[7], "name": PRODUCTS[7], "sold": 60, "revenue_cents": 6_000_000_000}]
    days = client.get("/reports/daily-sales").json()["days"]
    assert [day["day"] for day in days] == ["2026-01-02", "2026-01-01"]
    assert days[1]["orders"] == 2 and days[1]["revenue_cents"] == 6_000_001_400
    found = client.get("/search/orders", params={"q": "BIRNE atlas"}).json()["orders"]
    assert [item["id"] for item in found] == [O[14], O[8]]
    for words, orders in (
        ("strasse l\u2019ÜNAL", []),
        ("STRASSE ünal", [15, 13, 11, 9, 7, 5, 1]),
        ("fine PEN", [2, 0]),
    ):
        found = client.get("/search/orders", params={"q": words}).json()["orders"]
        assert [item["id"] for item in found] == [O[n] for n in orders]
    assert client.get("/search/orders", params={"q": "äpfel"}).json() == {"orders": []}
    assert client.get(f"/customers/{C[4]}/orders").content == b'{"orders":[],"next":null}'
