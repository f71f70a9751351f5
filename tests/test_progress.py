"""Progress: how long a run takes, how far it is, what is left, and the figure so far, whole at 80 columns."""

import io
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from analysis.statistics import holm, sign_flip_p
from crossover.forecast import MEASURE, Forecast, duration
from crossover.kinds import capacity_of, comparison
from crossover.options import ComparisonProfile, Options
from crossover.run_steps import RunSteps
from crossover.so_far import SoFar
from loadtests.plan import Plan
from tests.synthetic_runs import CRUD, times, write_run

HELP = ComparisonProfile.__metadata__[0].help  # type: ignore[attr-defined]
README = (Path(__file__).parent.parent / "README.md").read_text("utf-8")
SHARES = (50, 80, 90, 95, 99)
FOUR = "crud,handlers,views,cqrs"


def plan_of(profile: str, rungs: str = "crud,cqrs", shares: str = "50,80,95,99") -> Plan:
    return comparison(Options(), rungs, read_shares=shares, profile=profile).plan


def reports(plan: Plan, done: int = 0) -> Iterator[tuple[str, int, int, str]]:
    """What the targets and the driver report of a whole run, of which so many rounds are on disk already."""
    for name in plan.rungs:
        yield f"starting {name}", 0, 1, ""
        yield "copying orders", 5, 10, ""
    yield from (("contract", 0, 2, ""), ("conformance", 5, 9, ""), ("baseline", 1, 2, ""))
    first = done // (plan.rounds * len(plan.blocks))
    for start in range(first, plan.restarts):
        if start > first:
            yield "restart", start, plan.restarts, "waiting for fresh processes"
        for (cell,) in plan.blocks:
            note = f"{cell.read_share_pct:g}% reads"
            yield from (("warm-up", tenths, 20, note) for tenths in (0, 5, 10))
            yield from (("load", number, plan.rounds, note) for number in range(plan.rounds + 1))
            yield from (("staleness", number, 1, note) for number in (0, 1))
    yield "ledger", 5, 10, "crud"
    yield "report", 0, 1, ""


@pytest.mark.parametrize(
    ("profile", "rungs", "shares", "minutes"),
    [
        *(("quick", "crud,cqrs", "50,80,95,99", 2), ("standard", "crud,cqrs", "50,80,95,99", 10)),
        *(("thorough", "crud,cqrs", "50,80,95,99", 16), ("thorough", FOUR, "50,80,90,95,99", 32)),
    ],
)
def test_help_and_readme_tell_how_long_each_profile_takes(profile: str, rungs: str, shares: str, minutes: int) -> None:
    assert duration(Forecast(plan_of(profile, rungs, shares), writes=True).total_s) == f"{minutes} min"
    if rungs == "crud,cqrs":
        assert f"{profile} ({minutes} min)" in HELP and f"`{profile}` ({minutes} min)" in README


@pytest.mark.parametrize("done", [0, 96])
def test_progress_only_grows_and_every_step_is_counted_to_the_end(done: int) -> None:
    plan = plan_of("thorough")
    forecast, seen = Forecast(plan, writes=True, measured=done), []
    for phase, number, total, _ in reports(plan, done):
        before = forecast.done_s
        forecast(phase, number, total)
        assert before <= forecast.done_s <= forecast.total_s
        if forecast.step == MEASURE:
            measured_s = forecast.done_s
        seen.append((forecast.number, forecast.start))
    assert [*dict.fromkeys(number for number, _ in seen)] == [1, 2, 3, 4, 5]
    assert [*dict.fromkeys(start for _, start in seen)] == [*range(1 + done // 32, 9)]
    assert measured_s == pytest.approx(sum([*forecast.steps.values()][:3]), rel=0.005), (
        "nothing of the measuring is left out"
    )
    assert Forecast(plan, measured=128).total_s < 0.6 * Forecast(plan).total_s, "a resumed run takes what is left"


def test_a_run_of_trials_goes_by_their_number() -> None:
    plan = capacity_of(Options(), "cqrs", None, 50, 100, 90).plan
    forecast = Forecast(plan)
    forecast("cliff", 20, 40)
    assert forecast.done_s == pytest.approx(6 + 0.5 * forecast.steps["measure"])


class Stage:
    """A run's progress on a terminal of some kind, in a time that passes as it is told."""

    def __init__(self, out: Path, plan: Plan, *, terminal: bool) -> None:
        self.now, self.plan = 0.0, plan
        console = Console(width=80, file=io.StringIO(), force_terminal=terminal, color_system=None)
        self.so_far = SoFar(out, [*plan.rungs])
        self.steps = RunSteps("compare", Forecast(plan), self.so_far, console=console, clock=lambda: self.now)

    def play(self, until: str, each_s: float) -> None:
        for report in reports(self.plan):
            self.now += each_s
            self.steps(*report)
            if " ".join(map(str, report)).startswith(until):
                return

    def screen(self) -> list[str]:
        console = Console(width=80, file=io.StringIO(), color_system=None)
        console.print(self.steps.region())
        return console.file.getvalue().splitlines()  # type: ignore[attr-defined]


def test_a_terminal_shows_step_time_left_and_the_ratio_of_each_share_within_80_columns(tmp_path: Path) -> None:
    factors = {"handlers": 1.5, "views": 123.25, "cqrs": 0.5}
    targets = (CRUD, *(times(CRUD, factor, name=name) for name, factor in factors.items()))
    out = write_run(tmp_path / "run", targets=targets, rounds=2, read_shares=SHARES, slice_noise=0.0, apart=True)
    stage = Stage(out, plan_of("thorough", FOUR, "50,80,90,95,99"), terminal=True)
    stage.play("load 3 8 80% reads", 4.0)
    assert stage.so_far.measured == 10, "warming up is not measured"
    step, bar, *figures = stage.screen()
    assert step == "compare  step 3 of 4: measure, start 1 of 8, 80% reads"
    assert re.fullmatch(r"━─{24}   6%  2 min gone, about 28 min left", bar)
    assert figures == [
        "CPU so far, handlers / crud:  50% 1.50  80% 1.50  90% 1.50  95% 1.50  99% 1.50",
        "CPU so far, views / crud:  50% 123.25  80% 123.25  90% 123.25  95% 123.25",
        "  99% 123.25",
        "CPU so far, cqrs / crud:  50% 0.50  80% 0.50  90% 0.50  95% 0.50  99% 0.50",
    ]


def test_a_log_gets_a_line_at_each_step_and_then_now_and_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = write_run(tmp_path / "run", targets=(CRUD, times(CRUD, 2.0, name="cqrs")), slice_noise=0.0, apart=True)
    stage = Stage(out, plan_of("quick"), terminal=False)
    with stage.steps:
        stage.play("ledger", 1.6)
    said = capsys.readouterr().err.splitlines()
    assert said[:2] == [
        "compare: takes about 85 s (2 targets, 4 read shares, 1 start of 8 rounds)",
        "compare: step 1 of 4: start the targets; 0%, about 85 s left",
    ]
    assert said[-2].startswith("compare: step 4 of 4: verify that no write is lost; ")
    assert said[-1] == "compare: CPU so far, cqrs / crud:  50% 2.00  80% 2.00  95% 2.00  99% 2.00"
    assert 8 < len(said) < 25


@pytest.mark.parametrize(
    ("rungs", "read_shares"), [("crud,cqrs", "50,80,95,99"), ("crud,orm,cache,views,cqrs", "80,95")]
)
def test_a_quick_run_has_as_many_rounds_as_the_smallest_verdict_needs(
    rungs: str, read_shares: str, tmp_path: Path
) -> None:
    plan = comparison(Options(out=tmp_path / "run"), rungs, read_shares=read_shares).plan
    compared = (len(plan.rungs) - 1) * len(plan.read_shares)
    one_way = sign_flip_p(-0.5 - np.arange(plan.rounds) / 100)
    assert holm([one_way] * compared)[0] < 0.05
