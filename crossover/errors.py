"""Errors that the command line shows as one sentence instead of a traceback."""

from servers.server import Failed, Unusable


class UserError(Unusable):
    """Bad input: one clear sentence saying what to do; the command ends with exit code 2."""


class Fallen(Failed):
    """A check failed, or a process that must run has ended: one clear sentence; exit code 1."""


def refusals() -> tuple[type[Exception], ...]:
    """Bad input, as any package calls it: imported only once something was raised."""
    from analysis.runs import UnusableRun
    from loadtests.plan import BadPlan
    from loadtests.workload import WorkloadError

    return Unusable, UnusableRun, BadPlan, WorkloadError
