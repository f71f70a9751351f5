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


def drivers_errors() -> tuple[type[Exception], ...]:
    """Whatever a server makes a driver raise."""
    from ladder.rung import errors_of, rungs

    return tuple({error for one in rungs().values() for error in errors_of(one)})


def server_words(error: Exception) -> str:
    """What the server said, without a password."""
    from contract.stores import one_line
    from crud_impl.session import words_of

    return one_line(words_of(error))
