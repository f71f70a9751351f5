"""Which rounds count: a round in which one slice broke a rule goes as a whole, never one arm of it.

A checkpoint or an autovacuum inside one arm has no rule here: the settings of the private servers, recorded with each
run, rule both out. On servers of the user's own they can happen and are not seen.
"""

from typing import Any, NamedTuple

import polars as pl

from analysis.runs import Run, UnusableRun
from loadtests.format import Thresholds

# What each reason says to a reader, in the order in which rounds are checked.
REASONS = {
    "incomplete": "a target is missing from the round",
    "saturated": "fewer operations were completed than offered",
    "unlike load": "the targets were not offered the same operations",
    "steal": "the hypervisor gave the CPU to another machine (steal)",
    "errors": "errors, or more of them on one target",
    "over capacity": "the backlog did not drain in time",
    "generator late": "the load generator was late or busy (latency void, CPU kept)",
}
LATENCY_ONLY = "generator late"


class Validity(NamedTuple):
    """`rounds`: round, read_share_pct, restart, reason (null = good), cpu_ok, latency_ok."""

    rounds: pl.DataFrame
    void_share_max: float

    def cpu_rounds(self) -> list[int]:
        return self.rounds.filter("cpu_ok")["round"].to_list()

    def latency_rounds(self) -> list[int]:
        return self.rounds.filter("latency_ok")["round"].to_list()

    def counts(self) -> dict[str, int]:
        """Rounds by the first reason that voids them, in the order of REASONS."""
        found = self.rounds["reason"].drop_nulls().to_list()
        return {reason: found.count(reason) for reason in REASONS if reason in found}

    def marks(self, read_share_pct: float) -> list[tuple[int, str | None, bool]]:
        """What became of each round: its number, why it is not good, whether its CPU counts."""
        rows = self.rounds.filter(pl.col("read_share_pct") == read_share_pct)
        return rows.select("round", "reason", "cpu_ok").rows()

    def void_share(self, read_share_pct: float, *, latency: bool = False) -> float:
        """The share (0..1) of rounds gone at one read share; 1 when there never was a round."""
        rows = self.rounds.filter(pl.col("read_share_pct") == read_share_pct)
        good = int(rows["latency_ok" if latency else "cpu_ok"].sum())
        return 1.0 if rows.is_empty() else 1 - good / rows.height

    def too_many_gone(self, read_share_pct: float, *, latency: bool = False) -> bool:
        return self.void_share(read_share_pct, latency=latency) > self.void_share_max


def judge(run: Run) -> Validity:
    """Every measured round with its reason to be void, by the thresholds recorded in the run."""
    limits = run.manifest.thresholds
    measured = run.slices.filter(pl.col("phase") == "measure")
    if measured.is_empty():
        raise UnusableRun(f"{run.folder} holds warm-up rounds only: nothing was measured.")
    slices = measured.join(generator_lag(run.samples), on="slice", how="left")
    by_round = slices.group_by("round", "read_share_pct", "restart", maintain_order=True)
    first = pl.coalesce([pl.when(pl.col(reason)).then(pl.lit(reason)) for reason in REASONS])
    judged = (
        by_round.agg(*_rules(limits, run.targets))
        .with_columns(reason=first)
        .with_columns(
            cpu_ok=pl.col("reason").is_null() | (pl.col("reason") == LATENCY_ONLY),
            latency_ok=pl.col("reason").is_null(),
        )
    )
    columns = ["round", "read_share_pct", "restart", "reason", "cpu_ok", "latency_ok"]
    return Validity(judged.select(columns).sort("round"), limits.void_share_max)


def conditions(run: Run) -> dict[str, str]:
    """How quiet machine and generator were over all measured slices, in words."""
    measured = run.slices.filter(pl.col("phase") == "measure")
    samples = run.samples.filter(pl.col("slice").is_in(measured["slice"].to_list()) & (pl.col("outcome") != "dropped"))
    achieved = measured.select(pl.col("completed").sum() / pl.col("offered").sum().clip(1)).item()
    lag_ms = (samples["sent_us"] - samples["due_us"]) / 1000
    figures: dict[str, tuple[str, Any]] = {
        "completed / offered": ("{:.2f}%", 100 * achieved),
        "generator lag, p99": ("{:.2f} ms", lag_ms.quantile(0.99, "higher")),
        "generator peak CPU (of one core)": (
            "{:.0f}%",
            (100 * measured["generator_cpu_us"] / measured["wall_us"]).max(),
        ),
        "CPU steal, worst slice": ("{:.1f}%", (100 * measured["steal_share"]).fill_nan(None).max()),
        "longest drain": ("{:,.0f} ms", (measured["drain_us"] / 1000).max()),
    }
    return {name: "unknown" if value is None else text.format(value) for name, (text, value) in figures.items()}


def generator_lag(samples: pl.DataFrame) -> pl.DataFrame:
    """By slice: p99 of the send lag and p50 of the latency from the intended start, µs."""
    sent = samples.filter(pl.col("outcome") != "dropped")
    return sent.group_by("slice").agg(
        lag_p99_us=(pl.col("sent_us") - pl.col("due_us")).quantile(0.99, "higher"),
        latency_p50_us=(pl.col("done_us") - pl.col("due_us")).median(),
    )


def _rules(limits: Thresholds, targets: list[str]) -> list[pl.Expr]:
    """One boolean over the slices of a round for each reason; true = void."""
    offered, completed, errors = pl.col("offered"), pl.col("completed"), pl.col("errors")
    error_share = errors / (completed + errors).clip(lower_bound=1)
    late = pl.col("lag_p99_us") > pl.max_horizontal(
        pl.lit(float(limits.lag_p99_floor_us)), pl.col("latency_p50_us") * limits.lag_p99_over_p50
    )
    busy = pl.col("generator_cpu_us") / pl.col("wall_us") > limits.generator_core_share_max
    rules = {
        "incomplete": (pl.len() != len(targets)) | (pl.col("target").n_unique() != len(targets)),
        "saturated": ((completed < offered * limits.achieved_share_min) | (pl.col("dropped") > 0)).any(),
        "unlike load": offered.n_unique() > 1,
        # A machine that does not report steal gives null: unknown is not void.
        "steal": (pl.col("steal_share").fill_nan(None) > limits.steal_share_max).any(),
        "errors": (error_share > limits.error_share_max).any() | (errors.n_unique() > 1),
        "over capacity": (~pl.col("drained") | (pl.col("drain_us") > limits.drain_us_max)).any(),
        "generator late": (late | busy).any(),
    }
    return [rule.alias(reason) for reason, rule in rules.items()]
