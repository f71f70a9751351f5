"""The ladder in order, and how to find a rung by its name."""

import importlib
from types import ModuleType

RUNGS = ("noop", "crud", "handlers", "views", "cqrs")


def rung_module(name: str) -> ModuleType:
    """The module that composes a rung: `PARENT`, `IDEA`, `NEEDS` (servers), `TABLES`,
    `WORKERS` (names), `build(env)`."""
    if name not in RUNGS:
        raise KeyError(f"There is no rung '{name}'; the ladder has {', '.join(RUNGS)}.")
    return importlib.import_module(f"ladder.{name}")
