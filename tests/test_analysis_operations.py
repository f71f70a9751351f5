"""Costs of operations are recovered from runs of known truth, and what is predicted from them is that truth."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from analysis import map, plots, prediction, report, tables
from analysis.findings import Findings, find
from analysis.operations import Mix
from analysis.runs import UnusableRun
from tests.synthetic_runs import CQRS, CRUD, READS, Truth, printed, times, write_run

CELLS = {"idle": {}} | {name: {name: 100.0} for name in ("order", "product", "place")}
CELLS |= {"pay": {"place": 50.0, "pay": 50.0}}
CELLS |= {"mix shop": {"order": 56.0, "product": 24.0, "place": 12.0, "pay": 8.0}}
MIX = {"reads": {"order": 70.0, "product": 30.0}, "writes": {"place": 60.0, "pay": 40.0}}
SHOP = Mix("shop", MIX["reads"], MIX["writes"], 300.0)
TRUTHS = (
    replace(CRUD, operations_us={"product": 900.0, "pay": 1_200.0}, idle_us_s=6_000.0),
    replace(CQRS, operations_us={"product": 150.0, "pay": 2_100.0}, idle_us_s=12_000.0),
)


def true_us(truth: Truth, mix: Mix, share: float) -> float:
    parts = {name: part * share / 1e4 for name, part in mix.reads.items()}
    parts |= {name: part * (100 - share) / 1e4 for name, part in mix.writes.items()}
    each = {name: truth.read_us if name in READS else truth.write_us for name in parts} | truth.operations_us
    return sum(part * each[name] for name, part in parts.items()) + truth.idle_us_s / mix.rate_per_s


def meeting_pct(mix: Mix) -> float:
    read, write = (true_us(TRUTHS[0], mix, share) - true_us(TRUTHS[1], mix, share) for share in (100, 0))
    return 100 * write / (write - read)


def costs_run(folder: Path, **changes: object) -> Findings:
    plan = {"cells": CELLS, "mix": MIX, "targets": TRUTHS, "rounds": 10, "operations": 100}
    return find(write_run(folder, **plan | changes))


@pytest.fixture(scope="module")
def costs(tmp_path_factory: pytest.TempPathFactory) -> Findings:
    return costs_run(tmp_path_factory.mktemp("costs") / "run", rounds=20)


def test_planted_costs_are_recovered_by_operation_and_component(costs: Findings) -> None:
    for cell in prediction.of_operations(costs):
        truth = TRUTHS[cell.target == "cqrs"]
        assert cell.cost and cell.operation
        planted = {"order": truth.read_us, "place": truth.write_us, "idle": truth.idle_us_s} | truth.operations_us
        assert cell.cost.total_us == pytest.approx(planted[cell.operation], rel=0.15)
        assert cell.cost.by_component_us["app"] / cell.cost.total_us == pytest.approx(truth.split["app"], abs=0.01)


@pytest.mark.long
def test_intervals_hold_the_truth_about_as_often_as_they_say(tmp_path: Path) -> None:
    held = []
    for seed in range(25):
        for each in prediction.predict(costs_run(tmp_path / str(seed), seed=seed), SHOP, [10, 90]):
            truth = true_us(TRUTHS[each.target == "cqrs"], SHOP, each.read_share_pct)
            assert each.interval_us
            held.append(each.interval_us.low <= truth <= each.interval_us.high)
    assert 0.85 <= sum(held) / len(held) < 1


@pytest.mark.parametrize(
    "mix", [SHOP, Mix("other", {"product": 100.0}, {"pay": 100.0}, 300.0), SHOP._replace(rate_per_s=20.0)]
)
def test_the_predicted_cost_and_crossover_of_any_mix_are_the_true_ones(costs: Findings, mix: Mix) -> None:
    for each in prediction.predict(costs, mix, [0, 50, 100]):
        assert each.cost
        truth = true_us(TRUTHS[each.target == "cqrs"], mix, each.read_share_pct)
        assert each.cost.total_us == pytest.approx(truth, rel=0.1)
    found = prediction.crossovers(costs, mix)["cqrs"]
    assert found.answer == "above" and found.interval_pct is not None
    assert found.interval_pct.low < meeting_pct(mix) < found.interval_pct.high


def test_never_and_always_are_answers(tmp_path: Path) -> None:
    for factor, answer in ((0.5, "always"), (9.0, "never")):
        other = times(TRUTHS[0], factor, name="views", rung="views")
        found = costs_run(tmp_path / answer, targets=(TRUTHS[0], other))
        assert found.crossovers["views"].answer == answer


def test_a_check_against_a_mixed_run_holds_when_costs_add_up_and_fails_when_they_do_not(
    costs: Findings, tmp_path: Path
) -> None:
    def checked(name: str, targets: tuple[Truth, ...], **changes: object) -> list[prediction.Checked]:
        folder = write_run(tmp_path / name, targets=targets, mix=MIX, read_shares=(80.0,), **changes)
        print(printed(tables.checks(find(folder), prediction.check(costs, find(folder)))))
        return prediction.check(costs, find(folder))

    assert [each.holds for each in prediction.check_itself(costs)["shop"]] == [True, True]
    assert [each.holds for each in checked("like", TRUTHS, rounds=12)] == [True, True]
    dearer = times(TRUTHS[1], 1.6, operations_us=TRUTHS[1].operations_us)
    crud, cqrs = checked("unlike", (TRUTHS[0], dearer), rounds=12)
    assert crud.holds and not cqrs.holds and cqrs.error < -0.2
    with pytest.raises(UnusableRun, match=r"different size \(s vs m\)"):
        checked("larger", TRUTHS, size="m")


def test_the_map_shows_who_wins_and_leaves_the_interval_to_nobody(costs: Findings, tmp_path: Path) -> None:
    larger = costs_run(tmp_path / "m", size="m", targets=(replace(TRUTHS[0], read_us=3_000.0), TRUTHS[1]))
    small, large = map.rows([(100_000, larger), (10_000, costs)], SHOP)
    meeting = round(meeting_pct(SHOP))
    assert [small.winners[share] for share in (0, meeting, 100)] == ["crud", map.INCONCLUSIVE, "cqrs"]
    assert large.winners.count("cqrs") > small.winners.count("cqrs") + 20
    assert "crud 0–" in printed(map.table([small, large], SHOP))
    assert all(path.stat().st_size > 5_000 for path in map.write([small, large], SHOP, tmp_path))
    with pytest.raises(UnusableRun, match="one size"):
        map.rows([(10_000, costs), (10_000, costs)], SHOP)


def test_an_operation_that_was_not_measured_is_named_and_a_run_of_another_kind_refused(
    costs: Findings, tmp_path: Path
) -> None:
    with pytest.raises(UnusableRun, match="no cost of search"):
        prediction.predict(costs, Mix("mine", {"search": 100.0}, {"place": 100.0}, 300.0), [50])
    with pytest.raises(UnusableRun, match="holds no costs of operations"):
        prediction.predict(find(write_run(tmp_path / "run", rounds=2)), SHOP, [50])
    with pytest.raises(UnusableRun, match="3 valid passes"):
        costs_run(tmp_path / "short", rounds=3)


def test_table_figure_and_report_show_every_operation(costs: Findings) -> None:
    text = printed(tables.render(costs.run.folder))
    html = report.write(costs.run.folder).read_text()
    assert "Check, shop at 0% reads" in text and "Check, shop" in html
    for name in set(CELLS) - {"mix shop"}:
        assert name in text and f"<td>{name}</td>" in html
    assert [plot.name for plot in plots.draw(costs)] == ["operations"]
    assert set(re.findall(r'href="#([^"]+)"', html)) <= set(re.findall(r'\bid="([^"]+)"', html))
    assert report.repeat_command(costs).startswith(
        "crossover costs --rungs crud,cqrs --workload shop --operations order"
    )
