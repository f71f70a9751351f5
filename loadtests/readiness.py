"""Whether a target can be measured at all: it is healthy, reports its backlog, and speaks the contract."""

from collections.abc import Collection

from loadtests.http import HttpClient, Unreachable
from loadtests.plan import BadPlan


def require_contract(name: str, client: HttpClient, operations: Collection[str] = ()) -> None:
    """Raises BadPlan unless the target answers one query of each kind that a run with these operations sends."""
    who = f"Target {name} at {client.url}"
    try:
        health, ready = client.get("/health"), client.get("/ready")
        report = client.get("/reports/top-products?limit=1") if "top_products" in operations else None
        lag = client.lag_events()
    except Unreachable as error:
        raise BadPlan(f"Target {name}: {error} Start it, or correct its URL.") from error
    if 401 in (health.status, ready.status):
        raise BadPlan(f"{who} requires a token: set CROSSOVER_TOKEN to it.")
    if health.status != 200:
        raise BadPlan(f"{who} cannot serve: GET /health answers {health.status}.")
    if lag is None:
        raise BadPlan(f"{who} does not speak the contract: GET /ready answers {ready.status} without lag_events.")
    if report and (report.status != 200 or not report.body.startswith(b'{"products":[')):
        raise BadPlan(f"{who} does not speak the contract: GET /reports/top-products answers {report.status}.")
