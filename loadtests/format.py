"""The format of a run on disk: its tables, read from `format.md`, which defines and describes them, and its manifest.

`loadtests.results` writes by it and `analysis.runs` reads by it.
"""

import re
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl
from msgspec import Struct

FORMAT = 1  # of the results written, and the newest that can be read
DEFINITION = Path(__file__).with_suffix(".md").read_text("utf-8")

TYPES: dict[str, Any] = {
    "u8": pl.UInt8(),
    "u16": pl.UInt16(),
    "u32": pl.UInt32(),
    "i64": pl.Int64(),
    "f64": pl.Float64(),
    "bool": pl.Boolean(),
    "str": pl.String(),
}


class Table(NamedTuple):
    schema: dict[str, Any]  # column → type
    later: list[str]  # columns that the first runs of this format lack: null there
    optional: bool  # a run without it has no rows of it


def defined(name: str) -> Table:
    """The table whose section of the definition has this name."""
    section = re.search(rf"^## {name}\n(.*?)(?=^## )", DEFINITION, re.DOTALL | re.MULTILINE)
    assert section, f"{name} is defined"
    columns = re.findall(r"^\| `(\w+)` \| (\w+)(\??) \|", section[1], re.MULTILINE)
    schema = {column: TYPES[type] for column, type, _ in columns}
    return Table(schema, [column for column, _, later in columns if later], name in OPTIONAL)


OPTIONAL = ("cpu", "staleness", "tokens", "applied", "counts")
OF_EVERY_RUN = ("samples", "slices", *OPTIONAL)
OF_CAPACITY = ("trials", "lag")  # of a run of kind `capacity` alone
TABLES = {name: defined(name) for name in OF_EVERY_RUN + OF_CAPACITY}


class Thresholds(Struct, frozen=True, kw_only=True):
    """When a round is void or a figure uncertain; the analysis applies those of the run. Shares are 0..1."""

    achieved_share_min: float
    generator_core_share_max: float
    steal_share_max: float
    error_share_max: float
    drain_us_max: int
    void_share_max: float
    equivalence_delta: float
    lag_share_max: float = 0.10  # of a latency: what the generator may have added before the figure is uncertain
    throttled_share_max: float = 0.05  # as of steal
    start_sd: float = 0.0  # of the log-ratio between starts of identical targets; runs from before it was known have 0


THRESHOLDS = Thresholds(
    achieved_share_min=0.99,
    generator_core_share_max=0.70,
    steal_share_max=0.05,
    error_share_max=0.001,
    drain_us_max=10_000_000,
    void_share_max=0.20,
    equivalence_delta=0.05,
    start_sd=0.025,  # results/published/2026-11-23-identical-targets
)


class TargetInfo(Struct, frozen=True):
    name: str
    rung: str
    parent: str | None = None
    url: str = ""


class Fingerprint(Struct, frozen=True):
    """What two runs must share before they may be compared or pooled."""

    targets: tuple[TargetInfo, ...]
    read_shares: tuple[float, ...]
    commit: str | None = None
    dirty: bool | None = None
    workload: Any = None
    rate_per_s: float | None = None
    size: str | None = None
    seed: int | None = None
    rounds: int | None = None
    slice_s: float | None = None
    restarts: int | None = None
    placement: Any = None
    durability: Any = None
    clients: str | None = None  # idiomatic or lean; of runs before there was a choice, neither
    servers: dict[str, Any] = {}
    machine: dict[str, Any] = {}
    cells: tuple[Any, ...] = ()  # of a run of costs


class Conformance(Struct, frozen=True):
    """Whether all targets gave the same responses, byte for byte, before any load."""

    ok: bool
    operations: int = 0
    tempos: tuple[str, ...] = ()
    first_difference: str | None = None


class Ledger(Struct, frozen=True):
    """What the client was answered, compared with what the targets show at the end of the run."""

    ok: bool
    operations: int = 0
    acknowledged: int = 0
    unknown: int = 0
    lost: int = 0
    phantom: int = 0
    differing: int = 0
    rounds: int | None = None  # those whose commands were verified; None: all
    first: str | None = None


class Checks(Struct, frozen=True):
    conformance: Conformance | None = None
    ledger: Ledger | None = None


class Manifest(Struct, frozen=True, kw_only=True):
    format: int
    kind: str
    complete: bool
    run: str
    created_at: str
    finished_at: str | None = None
    profile: str
    sessions: int = 1
    plan: dict[str, Any] | None = None
    fingerprint: Fingerprint
    checks: Checks
    thresholds: Thresholds
    goal: dict[str, float] | None = None
    files: dict[str, str]
