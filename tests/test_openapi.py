"""The service is what `openapi.yaml` says it is: fuzzed by schemathesis, and described completely."""

import os
import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.specs.openapi.checks import positive_data_acceptance

from contract.errors import Refusal
from contract.http.app import make_app
from contract.http.docs import openapi
from contract.ports import CAPABILITIES, utc_now
from ladder.noop.system import MemoryOrders
from tests.service import client_of

schema = schemathesis.openapi.from_dict(openapi())
# More by CASES=100 RUNGS=crud,handlers,views,cqrs: the long form, 2,200 cases a rung.
CASES = int(os.environ.get("CASES", "5"))  # of each operation; 10 in `make check`
RUNGS = tuple(os.environ.get("RUNGS", "noop,crud,cqrs").split(","))
# What a schema cannot say: opaque text, which digits are a time, how many words there are, products that occur twice.
BEYOND_A_SCHEMA = re.compile(r"Consistency-Token|after|as_of|q|lines\[\d+\]\.product_id")


@pytest.fixture(scope="module", params=RUNGS)
def url(request: pytest.FixtureRequest, serve: Any) -> str:
    return str(serve(request.param).url)


def valid_requests_are_accepted(
    _: schemathesis.CheckContext, response: schemathesis.Response, case: schemathesis.Case
) -> None:
    """Where schemathesis' own check is too strict: a valid request can meet a refusal by what is there."""
    if case.meta is not None and case.meta.generation.mode.is_positive:
        assert response.status_code not in (400, 405, 413, 415), response.text
        if response.status_code == 422 and response.json()["type"] == "urn:crossover:invalid":
            for error in response.json()["errors"]:
                assert BEYOND_A_SCHEMA.fullmatch(error["field"]), response.text


@schema.parametrize()
@settings(max_examples=CASES, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck))
def test_every_operation_answers_as_described(case: schemathesis.Case, url: str) -> None:
    case.call_and_validate(
        base_url=url, additional_checks=[valid_requests_are_accepted], excluded_checks=[positive_data_acceptance]
    )


@pytest.fixture(scope="module")
def noop() -> Iterator[httpx.Client]:
    with client_of(MemoryOrders(utc_now)) as client:
        yield client


def test_the_description_is_served_as_it_is_written(noop: httpx.Client) -> None:
    assert noop.get("/openapi.json").json() == openapi()
    schema.validate()


def test_every_route_is_described_and_every_description_is_served(noop: httpx.Client) -> None:
    for path, item in openapi()["paths"].items():
        allowed = set(noop.request("TRACE", re.sub(r"{\w+}", "x", path)).headers["allow"].lower().split(", "))
        described = item.keys() - {"parameters"}
        assert allowed - {"head"} == described, path
    served = make_app(MemoryOrders(utc_now)).router.routes
    assert {route.path for route in served} == set(openapi()["paths"])


def test_every_capability_is_described() -> None:
    served = openapi()["paths"]["/"]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
    assert served["properties"]["capabilities"]["items"]["enum"] == [*CAPABILITIES]
    assert all(f"`{name}`" in openapi()["info"]["description"] for name in CAPABILITIES)


def test_every_refusal_is_described() -> None:
    text = str(openapi()["components"]["responses"])
    for refusal in Refusal.__subclasses__():
        if refusal.code != "method-not-allowed":  # it belongs to no operation
            assert f"`{refusal.code}`" in text


def test_the_page_shows_every_operation_and_loads_nothing_from_elsewhere(noop: httpx.Client) -> None:
    page = noop.get("/docs")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert page.headers["content-security-policy"].startswith("default-src 'none'")
    for item in openapi()["paths"].values():
        for method, operation in item.items():
            assert method == "parameters" or f'id="{operation["operationId"]}"' in page.text
    assert not re.search(r"(src|href|url)\s*[=(]\s*[\"']?\s*(https?:)?//", page.text)
    assert "<script" not in page.text
