"""Which rounds count: if one slice breaks a rule, its whole round is void, never the slice alone.

There is no rule for a checkpoint or an autovacuum within a slice: the settings of private servers, recorded with each
run, prevent both. On the user's own servers they can happen unnoticed.
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
    "throttled": "the CPU quota of the container stopped it (throttled)",
    "errors": "errors, or more of them on one target",
    "over capacity": "the backlog did not drain in time",
}
# What a reader can do about each.
CURES = {
    "incomplete": "resume or repeat the run",
    "saturated": "lower --rate",
    "unlike load": "repeat the run",
    "steal": "repeat the run when the machine is quieter, or give more rounds",
    "throttled": "raise the quota, or lower --rate",
    "errors": "look into the target's log",
    "over capacity": "lower --rate",
}


class Validity(NamedTuple):
    """`rounds`: round, read_share_pct, restart, reason (null = good)."""

    rounds: pl.DataFrame
    void_share_max: float

    def good_rounds(self) -> list[int]:
        return self.rounds.filter(pl.col("reason").is_null())["round"].to_list()

    def counts(self) -> dict[str, int]:
        """Rounds by the first reason that voids them, in the order of REASONS."""
        found = self.rounds["reason"].drop_nulls().to_list()
        return {reason: found.count(reason) for reason in REASONS if reason in found}

    def marks(self, read_share_pct: float) -> list[tuple[int, str | None]]:
        """What became of each round: its number, and why it is void."""
        rows = self.rounds.filter(pl.col("read_share_pct") == read_share_pct)
        return rows.select("round", "reason").rows()

    def void_share(self, read_share_pct: float) -> float:
        """The share (0..1) of rounds gone at one read share; 1 when there never was a round."""
        rows = self.rounds.filter(pl.col("read_share_pct") == read_share_pct)
        return 1.0 if rows.is_empty() else rows["reason"].count() / rows.height

    def too_many_gone(self, read_share_pct: float) -> str | None:
        """How many rounds of a read share are void, mostly why, and what to do; None when enough are good."""
        if (gone := self.void_share(read_share_pct)) <= self.void_share_max:
            return None
        rows = self.rounds.filter(pl.col("read_share_pct") == read_share_pct)
        if rows.is_empty():
            return "no round was measured"
        found = rows["reason"].drop_nulls().to_list()
        most = max(REASONS, key=found.count)
        return f"{100 * gone:.0f}% of the rounds are void: {REASONS[most]}; {CURES[most]}"


def judge(run: Run) -> Validity:
    """Every measured round with its reason to be void, by the thresholds recorded in the run."""
    limits = run.manifest.thresholds
    measured = run.slices.filter(pl.col("phase") == "measure")
    if measured.is_empty():
        raise UnusableRun(f"{run.folder} holds warm-up rounds only: nothing was measured.")
    by_round = measured.group_by("round", "read_share_pct", "restart", maintain_order=True)
    first = pl.coalesce([pl.when(pl.col(reason)).then(pl.lit(reason)) for reason in REASONS])
    judged = by_round.agg(*_rules(limits, run.targets)).with_columns(reason=first)
    columns = ["round", "read_share_pct", "restart", "reason"]
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
    if measured["throttled_share"].count():  # early runs did not look
        figures["CPU throttled, worst slice"] = ("{:.1f}%", (100 * measured["throttled_share"]).fill_nan(None).max())
    return {name: "unknown" if value is None else text.format(value) for name, (text, value) in figures.items()}


def _rules(limits: Thresholds, targets: list[str]) -> list[pl.Expr]:
    """One boolean over the slices of a round for each reason; true = void."""
    offered, completed, errors = pl.col("offered"), pl.col("completed"), pl.col("errors")
    error_share = errors / (completed + errors).clip(lower_bound=1)
    rules = {
        "incomplete": (pl.len() != len(targets)) | (pl.col("target").n_unique() != len(targets)),
        "saturated": ((completed < offered * limits.achieved_share_min) | (pl.col("dropped") > 0)).any(),
        "unlike load": offered.n_unique() > 1,
        # A machine that does not report it gives null: unknown is not void.
        "steal": (pl.col("steal_share").fill_nan(None) > limits.steal_share_max).any(),
        "throttled": (pl.col("throttled_share").fill_nan(None) > limits.throttled_share_max).any(),
        "errors": (error_share > limits.error_share_max).any() | (errors.n_unique() > 1),
        "over capacity": (~pl.col("drained") | (pl.col("drain_us") > limits.drain_us_max)).any(),
    }
    return [rule.alias(reason) for reason, rule in rules.items()]
