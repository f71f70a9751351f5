"""Forecasts how long a run takes, step by step, from its plan, and follows the progress reports of the driver."""

from loadtests.plan import MIX_WARM_UP_S, PROBES_PER_S, Plan

# Measured on two cores. During a run its own pace corrects them.
SLICE_EXTRA_S, START_S, RESTART_S = 0.1, 2.5, 1.1  # per slice, in addition to its length; per target
LOAD_ORDER_S, FILL_ORDER_S = 150e-6, 2e-3  # per order and target
CHECK_S, LEDGER_S, REPORT_S = 2.0, 3.0, 6.0
TRIALS, TRIAL_EXTRA_S = 30, 0.3  # of a run of capacity; its search may need fewer

START, FILL, CHECK, MEASURE, VERIFY, WRITE = (
    *("start the targets", "fill them with data", "check that they answer alike"),
    *("measure", "verify that no write is lost", "write the report"),
)
STEP_OF = {"fill": FILL, "conformance": CHECK, "baseline": CHECK, "ledger": VERIFY, "report": WRITE}
MEASURES = ("warm-up", "warmup", "load", "staleness", "restart", "capacity", "cliff", "burst")


class Forecast:
    """Call it with each progress report. `done_s` of `total_s` seconds of the plan are done."""

    def __init__(self, plan: Plan, *, writes: bool = False, measured: int = 0) -> None:
        """`measured`: rounds that an earlier session measured."""
        self.plan, targets = plan, len(plan.rungs) + len(plan.external)
        filled = plan.fill_over_http or not plan.size.customers
        self.round_s = targets * (plan.slice_s + SLICE_EXTRA_S)
        self.probing_s = targets * (max(plan.slice_s, plan.probes_a_start / PROBES_PER_S) + SLICE_EXTRA_S)
        self.restart_s = targets * RESTART_S
        rounds_a_start = plan.rounds * sum(len(block) for block in plan.blocks)
        loaded = 0 if filled else plan.size.orders
        steps = {START: len(plan.rungs) * (START_S + LOAD_ORDER_S * loaded)}
        if filled:
            steps[FILL] = targets * (0.5 + FILL_ORDER_S * plan.size.orders)
        steps |= {
            CHECK: CHECK_S,
            MEASURE: self._measure_s() * (1 - measured / (rounds_a_start * plan.restarts)),
            VERIFY: LEDGER_S,
        }
        self.steps = steps | ({WRITE: REPORT_S} if writes else {})
        self.total_s, self.done_s, self.step = sum(self.steps.values()), 0.0, START
        self.start = min(plan.restarts, 1 + measured // rounds_a_start)
        self._measured_s = 0.0
        self._block_s, self._phase, self._warm_up_s, self._started = 0.0, "", plan.warm_up_s, 0

    @property
    def extent(self) -> str:
        """What is measured, in words."""
        plan = self.plan
        counts = {
            "target": len(plan.rungs) + len(plan.external),
            "read share": len(plan.read_shares),
            "cell": len(plan.cells),
            "start": plan.restarts,
        }
        said = ", ".join(f"{count} {word}{'s' * (count > 1)}" for word, count in counts.items() if count)
        return said if plan.goal else f"{said} of {plan.rounds} rounds"

    @property
    def number(self) -> int:
        return 1 + [*self.steps].index(self.step)

    def __call__(self, phase: str, done: int, total: int) -> None:
        share = min(1.0, done / total) if total else 0.0
        self.step = STEP_OF.get(phase, MEASURE if phase in MEASURES else START)
        length_s = self.steps[self.step]
        if self.step == START:
            self._started += phase.startswith("starting ")
            share = max(0, self._started - 1) / len(self.plan.rungs) if self._started else 0.0
        within_s = self._measured(phase, done, share) if self.step == MEASURE else share * length_s
        before_s = sum([*self.steps.values()][: self.number - 1])
        self.done_s = max(self.done_s, before_s + min(within_s, length_s))
        self._phase = phase

    def _measured(self, phase: str, done: int, share: float) -> float:
        """Seconds of measuring that are done. A warm-up that ends early counts in full."""
        if self.plan.goal:
            return share * self.steps[MEASURE]
        if phase == "restart":
            self._close_block()
            self.start, self._warm_up_s = done + 1, self.plan.warm_up_s
            self._measured_s += self.restart_s
        elif phase == "warm-up" and self._phase != phase:
            self._close_block()
        warm_s = self._warm_s(self._warm_up_s)
        if phase == "warm-up":
            self._block_s = share * warm_s
        elif phase == "load":
            self._block_s = warm_s + done * self.round_s
        elif phase == "staleness" and done:
            self._block_s += self.probing_s
        return self._measured_s + self._block_s

    def _close_block(self) -> None:
        if self._block_s:
            self._warm_up_s = min(MIX_WARM_UP_S, self.plan.warm_up_s)
        self._measured_s, self._block_s = self._measured_s + self._block_s, 0.0

    def _warm_s(self, warm_up_s: float) -> float:
        return warm_up_s / self.plan.slice_s * self.round_s

    def _measure_s(self) -> float:
        plan = self.plan
        if plan.goal:
            return TRIALS * (plan.slice_s + TRIAL_EXTRA_S)
        warm_s = self._warm_s(plan.warm_up_s) + (len(plan.blocks) - 1) * self._warm_s(
            min(MIX_WARM_UP_S, plan.warm_up_s)
        )
        rounds_s = plan.rounds * self.round_s * sum(len(block) for block in plan.blocks)
        probing_s = self.probing_s * len(plan.blocks) if plan.probes else 0.0
        return plan.restarts * (warm_s + rounds_s + probing_s + self.restart_s) - self.restart_s


def duration(seconds: float) -> str:
    """As one says it: `40 s`, `12 min`."""
    return f"{max(1, round(seconds / 60))} min" if seconds >= 90 else f"{max(5, 5 * round(seconds / 5))} s"
