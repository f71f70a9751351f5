"""The format of a run on disk, as data: its tables and columns, its manifest, its thresholds.

`loadtests.results` writes by it and `analysis.runs` reads by it. `python -m loadtests.format` writes the tables of
`results/README.md` from it.
"""

import sys
from pathlib import Path
from textwrap import dedent
from typing import Any, NamedTuple

import polars as pl
from msgspec import Struct

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


def table(about: str, columns: str, *, optional: bool = False, capacity: bool = False) -> Table:
    """Each line of `columns` is a name, a type (with `?`: later) and a meaning; deeply indented lines go on with it."""
    rows: list[list[str]] = []
    for line in dedent(columns).strip().splitlines():
        if line.startswith(" "):
            rows[-1][2] += f" {line.strip()}"
        else:
            rows.append(line.split(maxsplit=2))
    parsed = (Column(name, type.rstrip("?"), meaning, type.endswith("?")) for name, type, meaning in rows)
    return Table(about, tuple(parsed), optional, capacity)


TABLES = {
    "samples": table(
        "One row an operation.",
        """
        slice     u32  the slice it belongs to
        operation str  `order` `customer_orders` `product` `customer` `history` `top_products` `daily_sales` `search` ·
                       `place` `pay` `ship` `cancel` `rename` `reprice` `deliver`
        kind      str  `read` or `write`
        due_us    i64  when it was scheduled
        sent_us   i64  when it was sent: `sent_us - due_us` is the generator's lag
        done_us   i64  when the response was complete: `done_us - due_us` is the latency from scheduled start, `done_us
                       - sent_us` the service time
        status    u16  HTTP status; 0 without a response
        outcome   str  `ok` (2xx), `refused` (4xx), `error` (any other status, or no response within 10 s of the slice's
                       end), `dropped` (never sent: the pool was full)
        bytes     u32  length of the response's body
        """,
    ),
    "slices": table(
        "One row a target in a round.",
        """
        slice             u32  its number, unique in the run
        round             u32  the round, unique in the run
        restart           u8   how often the targets' processes had been restarted, by plan or to resume
        read_share_pct    f64  reads, in percent of the operations
        cell              str? in a run of kind `costs` the operation measured, `idle`, or `mix …` (a whole workload, as
                               a check); otherwise null
        target            str  its name in the manifest
        phase             str  `warmup`, `measure`, or `staleness` (load plus probes: not for costs or latencies)
        started_at_us     i64  start, by the monotonic clock
        wall_us           i64  until the last response, at least the length of the slice
        drain_us          i64  from then until `GET /ready` reported an empty backlog; its CPU counts too
        offered           u32  operations due
        completed         u32  operations answered, refusals included
        refused           u32? operations refused
        dropped           u32  operations never sent
        errors            u32  operations without a usable response
        reads             u32  reads among the offered
        writes            u32  writes among the offered
        generator_cpu_us  i64  CPU of the load generator during `wall_us`
        steal_share       f64  share of all cores (0..1) taken by other machines; null where unknown
        drained           bool whether the backlog was empty within 10 s
        lag_events_at_end u32  the backlog when the wait ended
        """,
    ),
    "cpu": table(
        "One row a target and component: the CPU of the component's whole process tree over the slice and its drain, "
        "exited processes included. No rows where a target's pids are unknown.",
        """
        slice     u32  the slice it belongs to
        component str  `app`, `projector`, `postgres`, `redis` …
        cpu_us    i64  CPU
        """,
        optional=True,
    ),
    "staleness": table(
        "One row a probe read: after an acknowledged command the resource is read at growing delays, without a token, "
        "under the ordinary load.",
        """
        slice           u32  the slice it belongs to
        operation       str  the command: `place`, `pay` or `rename`
        probe           u32  its number within the slice
        delay_us        i64  from the acknowledgement to the sending of the read
        stale           bool whether the read showed an older version, or none
        versions_behind u32  how many versions older
        visible_us      i64  on the probe's last row the delay of the first read after its last stale one; null on other
                             rows, and where the effect never became visible
        """,
        optional=True,
    ),
    "tokens": table(
        "One row a pair of reads, sent together right after such a command, one with its consistency token and one "
        "without; which goes first alternates.",
        """
        slice         u32  the slice it belongs to
        operation     str  the command: `place`, `pay` or `rename`
        probe         u32  its number within the slice
        with_us       i64  from sending to response, with the token
        without_us    i64  the same without it
        stale_with    bool whether the read with the token was stale: never in a run that has figures
        stale_without bool whether the read without it was stale
        behind        bool whether the read with the token got 503: the views did not catch up in time
        """,
        optional=True,
    ),
    "applied": table(
        "The target's own `projection_applied_seconds` (`GET /metrics`) over the slice. An event is recorded shortly "
        "before its commit, by the database's clock; the projector reads its own. No rows where a target reports none.",
        """
        slice    u32  the slice it belongs to
        within_s f64  upper bound of the time from recording to view
        events   u32  events applied within it
        """,
        optional=True,
    ),
    "trials": table(
        "One row a trial of a rate. Each is a round; its phase is `capacity` (the workload as asked), `cliff` (writes "
        "alone) or `burst`. A staleness probe then has one read, sent when the freshness target is due.",
        """
        slice                u32  the slice it belongs to
        rate_per_s           f64  offered, probes included
        outcome              str  `held`, `failed`, `generator` (it was the limit), `other` (something before the
                                  projection gave way), `void` (another machine took the CPU)
        failures             str  what gave way, comma-separated
        p95_us               i64  p95 latency from scheduled start
        stale_share          f64  share (0..1) of stale probe reads
        looks                u32? probe reads
        lag_slope_per_s      f64  growth of the backlog, events a second
        lag_slope_low        f64  lower end of its 95% interval
        lag_slope_high       f64  upper end of its 95% interval
        in_flight            f64  mean number of operations in flight
        throughput_per_s     f64  operations answered a second
        generator_core_share f64  CPU of the load generator, in cores
        others_share         f64  share (0..1) of all cores used by processes that are neither target nor generator;
                                  null where the target's pids are unknown
        """,
        capacity=True,
    ),
    "lag": table(
        "The backlog, twenty times a second.",
        """
        slice      u32  the slice it belongs to
        at_us      i64  when it was asked for
        lag_events u32  events not yet applied
        """,
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


def fields(kind: type[Struct]) -> str:
    return " ".join(f"`{name}`" for name in kind.__struct_fields__)


MANIFEST = {
    "format": f"{FORMAT}",
    "kind": "`compare`: rounds at read shares; `costs`: rounds of cells, all cells in random order once a pass; "
    "`capacity`: trials of rates; `gate`: base, head and base again, where a commit's rung is `RUNG@COMMIT`",
    "complete": "true only when every phase came to its end, a failed check included",
    "run": "identity of the run",
    "created_at": "RFC 3339 time of its start",
    "finished_at": "RFC 3339 time of its end",
    "profile": "`quick`, `standard` or `thorough`",
    "sessions": "1, and 1 more each time the run was resumed",
    "plan": "the whole `loadtests.plan.Plan`; null in early runs, which cannot be resumed",
    "fingerprint": f"what two runs must share to be compared: {fields(Fingerprint)}",
    "checks": f"`conformance` ({fields(Conformance)}): the targets gave the same responses, byte for byte, before any "
    f"load; `ledger` ({fields(Ledger)}): what the client was answered, compared with what the targets show at the end",
    "thresholds": "when a round is void (shares 0..1); `start_sd` is the SD of the log-ratio between starts of "
    "identical targets, part of every interval",
    "goal": "of a run of kind `capacity`: `p95_ms` and `freshness_ms`",
    "files": "SHA-256 of each file",
}


def described() -> str:
    """The tables of the format in Markdown."""
    assert set(MANIFEST) == {*Manifest.__struct_fields__}, "every field of the manifest is described"
    lines: list[str] = []
    for name, found in TABLES.items():
        only = " Only in runs of kind `capacity`." if found.capacity else ""
        lines += [f"## {name}", f"{found.about}{only}", "", "| column | type | meaning |", "|---|---|---|"]
        lines += [f"| `{column.name}` | {column.type} | {column.meaning} |" for column in found.columns] + [""]
    lines += ["## manifest.json", "| field | meaning |", "|---|---|"]
    lines += [f"| `{name}` | {meaning} |" for name, meaning in MANIFEST.items()]
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
