"""The format of a run on disk, as data: its tables and columns, its manifest, its thresholds.

`loadtests.results` writes by it and `analysis.runs` reads by it. `python -m loadtests.format` writes the tables of
`results/README.md` from it.
"""

import sys
from pathlib import Path
from typing import Annotated, Any, NamedTuple, get_args, get_type_hints

import polars as pl
from msgspec import Meta, Struct

FORMAT = 1  # of the results written, and the newest that can be read

TYPES: dict[str, Any] = {
    "u8": pl.UInt8(),
    "u16": pl.UInt16(),
    "u32": pl.UInt32(),
    "i64": pl.Int64(),
    "f64": pl.Float64(),
    "bool": pl.Boolean(),
    "str": pl.String(),
}


class Column(NamedTuple):
    name: str
    type: str
    meaning: str
    later: bool = False  # the first runs of this format lack it: null there


class Table(NamedTuple):
    about: str
    columns: tuple[Column, ...]
    optional: bool = False  # a run without it has no rows of it
    capacity: bool = False  # only a run of kind `capacity` has it

    @property
    def schema(self) -> dict[str, Any]:
        return {column.name: TYPES[column.type] for column in self.columns}


_SLICE = Column("slice", "u32", "the slice it belongs to")
_OPERATION = Column("operation", "str", "the command: `place`, `pay` or `rename`")
_PROBE = Column("probe", "u32", "its number within the slice")

TABLES = {
    "samples": Table(
        "One row an operation.",
        (
            _SLICE,
            Column(
                "operation",
                "str",
                "`order` `customer_orders` `product` `customer` `history` `top_products` `daily_sales` `search` · "
                "`place` `pay` `ship` `cancel` `rename` `reprice` `deliver`",
            ),
            Column("kind", "str", "`read` or `write`"),
            Column("due_us", "i64", "when it was scheduled"),
            Column("sent_us", "i64", "when it was sent: `sent_us - due_us` is the generator's lag"),
            Column(
                "done_us",
                "i64",
                "when the response was complete: `done_us - due_us` is the latency from scheduled start, "
                "`done_us - sent_us` the service time",
            ),
            Column("status", "u16", "HTTP status; 0 without a response"),
            Column(
                "outcome",
                "str",
                "`ok` (2xx), `refused` (4xx), `error` (any other status, or no response within 10 s of the slice's "
                "end), `dropped` (never sent: the pool was full)",
            ),
            Column("bytes", "u32", "length of the response's body"),
        ),
    ),
    "slices": Table(
        "One row a target in a round.",
        (
            Column("slice", "u32", "its number, unique in the run"),
            Column("round", "u32", "the round, unique in the run"),
            Column("restart", "u8", "how often the targets' processes had been restarted, by plan or to resume"),
            Column("read_share_pct", "f64", "reads, in percent of the operations"),
            Column(
                "cell",
                "str",
                "in a run of kind `costs` the operation measured, `idle`, or `mix …` (a whole workload, as a check); "
                "otherwise null",
                later=True,
            ),
            Column("target", "str", "its name in the manifest"),
            Column(
                "phase", "str", "`warmup`, `measure`, or `staleness` (load plus probes: not for costs or latencies)"
            ),
            Column("started_at_us", "i64", "start, by the monotonic clock"),
            Column("wall_us", "i64", "until the last response, at least the length of the slice"),
            Column("drain_us", "i64", "from then until `GET /ready` reported an empty backlog; its CPU counts too"),
            Column("offered", "u32", "operations due"),
            Column("completed", "u32", "operations answered, refusals included"),
            Column("refused", "u32", "operations refused", later=True),
            Column("dropped", "u32", "operations never sent"),
            Column("errors", "u32", "operations without a usable response"),
            Column("reads", "u32", "reads among the offered"),
            Column("writes", "u32", "writes among the offered"),
            Column("generator_cpu_us", "i64", "CPU of the load generator during `wall_us`"),
            Column("steal_share", "f64", "share of all cores (0..1) taken by other machines; null where unknown"),
            Column("drained", "bool", "whether the backlog was empty within 10 s"),
            Column("lag_events_at_end", "u32", "the backlog when the wait ended"),
        ),
    ),
    "cpu": Table(
        "One row a target and component: the CPU of the component's whole process tree over the slice and its drain, "
        "exited processes included. No rows where a target's pids are unknown.",
        (
            _SLICE,
            Column("component", "str", "`app`, `projector`, `postgres`, `redis` …"),
            Column("cpu_us", "i64", "CPU"),
        ),
        optional=True,
    ),
    "staleness": Table(
        "One row a probe read: after an acknowledged command the resource is read at growing delays, without a token, "
        "under the ordinary load.",
        (
            _SLICE,
            _OPERATION,
            _PROBE,
            Column("delay_us", "i64", "from the acknowledgement to the sending of the read"),
            Column("stale", "bool", "whether the read showed an older version, or none"),
            Column("versions_behind", "u32", "how many versions older"),
            Column(
                "visible_us",
                "i64",
                "on the probe's last row the delay of the first read after its last stale one; null on other rows, "
                "and where the effect never became visible",
            ),
        ),
        optional=True,
    ),
    "tokens": Table(
        "One row a pair of reads, sent together right after such a command, one with its consistency token and one "
        "without; which goes first alternates.",
        (
            _SLICE,
            _OPERATION,
            _PROBE,
            Column("with_us", "i64", "from sending to response, with the token"),
            Column("without_us", "i64", "the same without it"),
            Column("stale_with", "bool", "whether the read with the token was stale: never in a run that has figures"),
            Column("stale_without", "bool", "whether the read without it was stale"),
            Column("behind", "bool", "whether the read with the token got 503: the views did not catch up in time"),
        ),
        optional=True,
    ),
    "applied": Table(
        "The target's own `projection_applied_seconds` (`GET /metrics`) over the slice. An event is recorded shortly "
        "before its commit, by the database's clock; the projector reads its own. No rows where a target reports none.",
        (
            _SLICE,
            Column("within_s", "f64", "upper bound of the time from recording to view"),
            Column("events", "u32", "events applied within it"),
        ),
        optional=True,
    ),
    "trials": Table(
        "One row a trial of a rate. Each is a round; its phase is `capacity` (the workload as asked), `cliff` (writes "
        "alone) or `burst`. A staleness probe then has one read, sent when the freshness target is due.",
        (
            _SLICE,
            Column("rate_per_s", "f64", "offered, probes included"),
            Column(
                "outcome",
                "str",
                "`held`, `failed`, `generator` (it was the limit), `other` (something before the projection gave way), "
                "`void` (another machine took the CPU)",
            ),
            Column("failures", "str", "what gave way, comma-separated"),
            Column("p95_us", "i64", "p95 latency from scheduled start"),
            Column("stale_share", "f64", "share (0..1) of stale probe reads"),
            Column("looks", "u32", "probe reads", later=True),
            Column("lag_slope_per_s", "f64", "growth of the backlog, events a second"),
            Column("lag_slope_low", "f64", "lower end of its 95% interval"),
            Column("lag_slope_high", "f64", "upper end of its 95% interval"),
            Column("in_flight", "f64", "mean number of operations in flight"),
            Column("throughput_per_s", "f64", "operations answered a second"),
            Column("generator_core_share", "f64", "CPU of the load generator, in cores"),
            Column(
                "others_share",
                "f64",
                "share (0..1) of all cores used by processes that are neither target nor generator; null where the "
                "target's pids are unknown",
            ),
        ),
        capacity=True,
    ),
    "lag": Table(
        "The backlog, twenty times a second.",
        (
            _SLICE,
            Column("at_us", "i64", "when it was asked for"),
            Column("lag_events", "u32", "events not yet applied"),
        ),
        capacity=True,
    ),
}
OF_EVERY_RUN = [name for name, table in TABLES.items() if not table.capacity]
OF_CAPACITY = [name for name, table in TABLES.items() if table.capacity]


class Thresholds(Struct, frozen=True, kw_only=True):
    """When a round is void: the analysis applies the thresholds recorded with the run. Shares are 0..1."""

    achieved_share_min: float
    lag_p99_floor_us: int
    lag_p99_over_p50: float
    generator_core_share_max: float
    steal_share_max: float
    error_share_max: float
    drain_us_max: int
    void_share_max: float
    equivalence_delta: float
    start_sd: float = 0.0  # of the log-ratio between starts of identical targets; runs from before it was known have 0


THRESHOLDS = Thresholds(
    achieved_share_min=0.99,
    lag_p99_floor_us=2_000,
    lag_p99_over_p50=0.25,
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
    """What the client was told, against what the targets report at the end of the run."""

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


def _fields(kind: type[Struct]) -> str:
    return " ".join(f"`{name}`" for name in kind.__struct_fields__)


class Manifest(Struct, frozen=True, kw_only=True):
    format: Annotated[int, Meta(description=f"{FORMAT}")]
    kind: Annotated[
        str,
        Meta(
            description="`compare`: rounds at read shares; `costs`: rounds of cells, all cells in random order once a "
            "pass; `capacity`: trials of rates; `gate`: base, head and base again, where a commit's rung is "
            "`RUNG@COMMIT`"
        ),
    ]
    complete: Annotated[bool, Meta(description="true only when every phase came to its end, a failed check included")]
    run: Annotated[str, Meta(description="identity of the run")]
    created_at: Annotated[str, Meta(description="RFC 3339 time of its start")]
    finished_at: Annotated[str | None, Meta(description="RFC 3339 time of its end")] = None
    profile: Annotated[str, Meta(description="`quick`, `standard` or `thorough`")]
    sessions: Annotated[int, Meta(description="1, and 1 more each time the run was resumed")] = 1
    plan: Annotated[
        dict[str, Any] | None,
        Meta(description="the whole `loadtests.plan.Plan`; null in early runs, which cannot be resumed"),
    ] = None
    fingerprint: Annotated[
        Fingerprint, Meta(description=f"what two runs must share to be compared: {_fields(Fingerprint)}")
    ]
    checks: Annotated[
        Checks,
        Meta(
            description=f"`conformance` ({_fields(Conformance)}): the targets gave the same responses, byte for byte, "
            f"before any load; `ledger` ({_fields(Ledger)}): what the client was told against what the targets report "
            "at the end"
        ),
    ]
    thresholds: Annotated[
        Thresholds,
        Meta(
            description="when a round is void (shares 0..1); `start_sd` is the SD of the log-ratio between starts of "
            "identical targets, part of every interval"
        ),
    ]
    goal: Annotated[
        dict[str, float] | None, Meta(description="of a run of kind `capacity`: `p95_ms` and `freshness_ms`")
    ] = None
    files: Annotated[dict[str, str], Meta(description="SHA-256 of each file")]


def described() -> str:
    """The tables of the format in Markdown."""
    lines: list[str] = []
    for name, table in TABLES.items():
        only = " Only in runs of kind `capacity`." if table.capacity else ""
        lines += [f"## {name}", f"{table.about}{only}", "", "| column | type | meaning |", "|---|---|---|"]
        lines += [f"| `{column.name}` | {column.type} | {column.meaning} |" for column in table.columns] + [""]
    lines += ["## manifest.json", "| field | meaning |", "|---|---|"]
    for name, hint in get_type_hints(Manifest, include_extras=True).items():
        lines.append(f"| `{name}` | {get_args(hint)[1].description} |")
    return "\n".join(lines) + "\n"


BEGIN, END = "<!-- from loadtests/format.py -->\n", "<!-- end -->\n"


def written_into(readme: str) -> str:
    """The README with the tables of the format between its marks."""
    before, _, rest = readme.partition(BEGIN)
    _, end, after = rest.partition(END)
    assert end, "the README has both marks"
    return before + BEGIN + described() + END + after


if __name__ == "__main__":
    path = Path(sys.argv[1] if len(sys.argv) > 1 else "results/README.md")
    path.write_text(written_into(path.read_text("utf-8")), "utf-8")
