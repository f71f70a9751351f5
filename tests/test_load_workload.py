"""Workloads: those that come with the project are sound, and a wrong one is refused in one clear sentence."""

from pathlib import Path

import pytest

from loadtests.workload import READS, WRITES, WorkloadError, load, names, parse

GOOD = """
read_share_pct = 90
rate_per_s = 100
reads = { order = 60, product = 40 }
writes = { place = 70, pay = 30 }
"""


@pytest.mark.parametrize("name", ["shop", "backoffice", "checkout", "reports"])
def test_the_workloads_of_the_project_load(name: str) -> None:
    workload = load(name)
    assert (workload.name, name in names()) == (name, True)
    assert workload.about


def test_every_operation_occurs_in_some_workload() -> None:
    workloads = [load(name) for name in names()]
    assert {name for workload in workloads for name in workload.reads} == set(READS)
    assert {name for workload in workloads for name in workload.writes} == set(WRITES)


def test_a_file_of_the_users_own_is_loaded_by_its_path(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(GOOD)
    assert load(str(path)).name == "mine"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("product = 40", "product = 30"), "the shares of the reads add up to 90, they must add up to 100"),
        (("pay = 30", "pay = 40"), "the shares of the writes add up to 110, they must add up to 100"),
        (("product = 40", "produkt = 40"), "there is no operation 'produkt' among the reads"),
        (("order = 60, product = 40", "order = 160, product = -60"), "the shares of the reads must not be negative"),
        (("place = 70, pay = 30", "rename = 70, pay = 30"), "none is placed"),
        (("place = 70, pay = 30", "place = 70, ship = 30"), "orders are shipped but none is paid"),
        (("read_share_pct = 90", "read_share_pct = 101"), "read_share_pct must be 0 to 100, not 101"),
        (("read_share_pct = 90", "read_share_pct = nan"), "read_share_pct must be 0 to 100, not nan"),
        (("rate_per_s = 100", "rate_per_s = 0"), "rate_per_s must be above 0"),
        (("rate_per_s = 100", "rate_per_s = inf"), "rate_per_s must be above 0"),
        (("rate_per_s = 100", "rate_per_s = 'fast'"), "Expected `float`, got `str` - at `$.rate_per_s`"),
        (("rate_per_s = 100", ""), "missing required field `rate_per_s`"),
        (("rate_per_s = 100", "rate_per_s = 100\nspeed = 1"), "unknown field `speed`"),
        (("rate_per_s = 100", "rate_per_s ="), "no valid TOML"),
        (("rate_per_s = 100", "rate_per_s = 100\nbasket = {lines = []}"), "basket.lines must be 1 to 50 weights"),
        (
            ("rate_per_s = 100", "rate_per_s = 100\nkeys = {order = {distribution = 'best'}}"),
            "Invalid enum value 'best'",
        ),
    ],
)
def test_a_wrong_workload_is_refused_with_one_sentence(change: tuple[str, str], says: str) -> None:
    text = GOOD.replace(*change)
    assert text != GOOD
    with pytest.raises(WorkloadError) as refusal:
        parse(text, name="mine", source="mine.toml")
    assert says in str(refusal.value) and "mine.toml" in str(refusal.value)
    assert "\n" not in str(refusal.value) and str(refusal.value).endswith(".")
