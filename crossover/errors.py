"""Errors that the command line shows as one sentence instead of a traceback."""

import re
import traceback
from pathlib import Path

from servers.server import Failed, Unusable

DEBUG = "CROSSOVER_DEBUG"  # set, a bug shows its traceback


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


def refused_by_system(error: OSError) -> str:
    """A path that cannot be read or written, or whatever else the operating system refuses."""
    reason = error.strerror or str(error) or type(error).__name__
    return f"{error.filename} cannot be used: {reason}." if error.filename else f"The system refuses: {reason}."


def bug(error: BaseException) -> str:
    """Where it is, without its message: a message may hold anything."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    where = f"{type(error).__name__} in {Path(last.filename).name}, line {last.lineno}"
    return f"This is a bug of crossover ({where}): run it again with {DEBUG}=1, and report the traceback."


def without_passwords(text: str) -> str:
    """Of the addresses in a text."""
    return re.sub(r":/+\S*@", "://…@", text)
