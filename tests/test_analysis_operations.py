"""Costs of operations are recovered from runs of known truth, and what is predicted from them is that truth."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from analysis import lessons, map, plots, prediction, report, tables
from analysis.findings import Findings, find
from analysis.operations import Mix
from analysis.runs import UnusableRun
from crossover import costs as commands
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


def test_the_lesson_puts_the_dearest_operation_first_with_the_statements_it_sends(costs: Findings) -> None:
    (dearest, *us, ratio, of_crud, of_cqrs), *others = lessons.by_operation(
        costs, "cqrs", {"pay": (2, 3), "order": (1, 1)}
    ).rows()
    assert (dearest, of_crud, of_cqrs, [row[0] for row in others]) == ("pay", 2, 3, ["order"])
    assert us == pytest.approx([1_200, 2_100], rel=0.15) and ratio.startswith("1.")


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
        return prediction.check(costs, find(folder))

    assert [each.holds for each in prediction.check_itself(costs)["shop"]] == [True, True]
    assert [each.holds for each in checked("like", TRUTHS, rounds=12)] == [True, True]
    dearer = times(TRUTHS[1], 1.6, operations_us=TRUTHS[1].operations_us)
    crud, cqrs = checked("unlike", (TRUTHS[0], dearer), rounds=12)
    assert crud.holds and not cqrs.holds and cqrs.error < -0.2
    with pytest.raises(UnusableRun, match=r"different size \(s vs m\)"):
        checked("larger", TRUTHS, size="m")


def test_costs_are_those_of_the_data_as_filled_though_the_run_lets_it_grow(tmp_path: Path) -> None:
    growing = replace(TRUTHS[0], growing={"product": 1.5})
    changes = {"targets": (growing, TRUTHS[1]), "rounds": 20, "round_noise": 0.03}
    costs = costs_run(tmp_path / "run", manifest={"plan": {"size": {"orders": 4_000}}}, **changes)
    product = {cell.target: cell for cell in prediction.of_operations(costs) if cell.operation == "product"}
    assert product["crud"].cost and product["crud"].cost.total_us == pytest.approx(900, rel=0.1)
    assert [each.holds for each in prediction.check_itself(costs)["shop"]] == [True, True], "at the size they met"
    grown, slope, filled, *_ = prediction.grounds(costs)
    assert re.fullmatch(r"The run itself added 8\d% to its orders: .* became dearer in it\.", grown)
    assert re.fullmatch(r"Twice the orders make a read of crud dearer: product 1[3-7]\d%\.", slope)
    assert filled == "Costs are given for the data as it was filled."


def test_what_predictions_lack_of_whole_mixes_widens_their_intervals(costs: Findings, tmp_path: Path) -> None:
    assert costs.operations and costs.operations.error < 0.03
    dearer = (replace(TRUTHS[0], in_mixes=1.2), TRUTHS[1])
    off = costs_run(tmp_path / "run", targets=dearer, rounds=20, round_noise=0.03)
    assert off.operations and off.operations.ratio_error == pytest.approx(0.18, abs=0.02)
    narrow, wide = (prediction.predict(each, SHOP, [80])[1] for each in (costs, off))
    for cell, factor in ((narrow, 1.0), (wide, 1 / 1.2)):
        assert cell.comparison and cell.comparison.interval and cell.comparison.ratio
        low, high = cell.comparison.interval
        truth = factor * true_us(TRUTHS[1], SHOP, 80) / true_us(TRUTHS[0], SHOP, 80)
        assert low < truth < high and (high / low > 1.5) == (cell is wide)
    assert prediction.grounds(off)[-1] == (
        "Whole mixes in this run were 13.0% off their predicted cost and 17.2% off their predicted ratio (beyond "
        "noise): the intervals allow for it."
    )


RATE = (
    "Outside the measured rate: the costs were measured at 300 operations/s, the mix has 50. At a lower rate an "
    "operation costs more CPU, at a higher one less: only the idle CPU is converted. `crossover costs --rate 50` "
    "measures there."
)
MACHINE = (
    "Outside the measured machine: CPU model: Synthetic vs X; cores: 2 vs 4. On this machine costs and ratios may "
    "differ."
)


@pytest.mark.parametrize(
    ("rate", "machine", "says"),
    [(300, {}, []), (310, {}, []), (50, {}, [RATE]), (50, {"cpu": "X", "cores": 4}, [RATE, MACHINE])],
)
def test_what_lies_outside_the_measurements_is_said(
    costs: Findings, rate: float, machine: dict[str, object], says: list[str]
) -> None:
    here = costs.run.manifest.fingerprint.machine | machine
    assert prediction.caveats(costs, SHOP._replace(rate_per_s=rate), here) == says


def test_predict_and_map_show_every_measurement_of_the_same_mix(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    costs_run(tmp_path / "costs")
    for name, changes in (("same", {}), ("m", {"size": "m"}), ("other", {"mix": MIX | {"reads": {"order": 100.0}}})):
        write_run(tmp_path / name, **{"targets": TRUTHS, "mix": MIX, "manifest": {"run": f"run-{name}"}} | changes)
    commands.predict(tmp_path / "costs", None, "80", None, [])
    shown = capsys.readouterr().out
    assert shown.startswith("Outside the measured machine: CPU model: Synthetic vs ")
    assert "CPU per operation: whole mixes in this run" in shown.replace("µs ", "") and "run-same" in shown
    assert "run-m" not in shown and "run-other" not in shown
    commands.draw_map([tmp_path / "costs"], None, None, tmp_path / "map", [])
    shown = " ".join(capsys.readouterr().out.split())
    assert re.search(
        r"s: Measured in run run-same: cqrs uses less .* Predicted: [\d.]+%, [+-]\d\.\d points from that", shown
    )
    assert re.search(r"s: Check, shop at 0% reads: crud [\d,]+ µs predicted", shown) and "run-m" not in shown


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
    unknown = prediction.crossovers(costs, Mix("mine", {"search": 100.0}, {"place": 100.0}, 300.0))["cqrs"]
    assert unknown.answer == "inconclusive" and "no cost of search, which mine asks for" in unknown.reason
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
