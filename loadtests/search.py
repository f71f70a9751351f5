"""The search for the highest rate that holds: doubling, then bisection; of up to three trials two decide."""

import math
from collections.abc import Callable
from typing import Literal, NamedTuple

from loadtests.trial import Trial

PRECISION = 1.05  # the search ends when the lowest rate that failed is this close to the highest that held
RATES_MAX = 20
RATE_MIN, RATE_MAX = 1.0, 50_000.0

Outcome = Literal["held", "failed", "generator", "other", "void"]


def goal_outcome(trial: Trial) -> Outcome:
    """What the generator could not send is never held against the target."""
    return "held" if not trial.failures else "generator" if trial.generator_busy else "failed"


def lag_outcome(trial: Trial) -> Outcome:
    """Whether the projection keeps up; "other": the command side, or the generator, gave way before it."""
    if "lag grows" in trial.failures:
        return "failed"
    return "other" if trial.generator_busy or {"queue grows", "dropped", "errors"} & {*trial.failures} else "held"


class Found(NamedTuple):
    """The highest rate that held and the lowest above it that did not; None where there was none."""

    held_per_s: float | None
    failed_per_s: float | None


def search(start_per_s: float, holds_at: Callable[[float], bool], precision: float = PRECISION) -> Found:
    """Doubles, or halves, until one rate holds and one does not, then narrows down by geometric bisection."""
    held = failed = None
    rate = max(RATE_MIN, start_per_s)
    for _ in range(RATES_MAX):
        if two_of_three(rate, holds_at):
            held = rate
        else:
            failed = rate
        if held and failed:
            if failed / held <= precision:
                break
            rate = math.sqrt(held * failed)
        else:
            rate = 2 * held if held else rate / 2
        if not RATE_MIN <= rate <= RATE_MAX:
            break
    return Found(held, failed)


def two_of_three(rate: float, holds_at: Callable[[float], bool]) -> bool:
    first, second = holds_at(rate), holds_at(rate)
    return first if first == second else holds_at(rate)
