"""One run on disk: a round is written whole or not at all, and the manifest records whether the run is complete."""

import fcntl
import hashlib
import os
import shutil
from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import polars as pl

from loadtests.format import FORMAT, TABLES, THRESHOLDS, Checks, Conformance, Fingerprint, Ledger, Manifest, TargetInfo
from loadtests.plan import Job


class FolderTaken(Exception):
    """The folder holds something else already, or another run; the message is one sentence."""


def new_manifest(job: Job) -> Manifest:
    plan, facts = job.plan, job.facts
    fingerprint = Fingerprint(
        targets=tuple(TargetInfo(one.name, one.rung, one.parent, one.url) for one in job.endpoints),
        workload=msgspec.to_builtins(plan.workload),
        read_shares=plan.read_shares,
        cells=msgspec.to_builtins(plan.cells),
        rate_per_s=plan.rate_per_s,
        size=plan.size.name,
        seed=plan.seed,
        rounds=plan.rounds,
        slice_s=plan.slice_s,
        restarts=plan.restarts,
        clients=plan.clients if plan.rungs else None,
        **facts,
    )
    return Manifest(
        format=FORMAT,
        kind=plan.kind,
        complete=False,
        run=plan.run,
        created_at=now(),
        profile=plan.profile,
        plan=msgspec.to_builtins(plan),
        fingerprint=fingerprint,
        checks=Checks(),
        thresholds=THRESHOLDS,
        goal=msgspec.to_builtins(plan.goal),
        files={},
    )


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


class RunFolder:
    """The folder of one run; only this process writes to it."""

    def __init__(self, job: Job) -> None:
        """Start a run in an empty or new folder or, where the job says so, go on with the one that is there."""
        self.path = Path(job.out)
        taken = self.path.exists() and (not self.path.is_dir() or any(self.path.iterdir()))
        if taken and not job.resume:
            raise FolderTaken(f"{self.path} is not empty: give a new folder for the results.")
        self.path.mkdir(parents=True, exist_ok=True)
        self._lock()
        self.manifest = new_manifest(job)
        self.slices = pl.DataFrame(schema=TABLES["slices"].schema)  # of earlier sessions
        self.rounds = self.path / "rounds"
        if job.resume:
            self._reopen()
        self.update()
        self.rounds.mkdir(exist_ok=True)

    def _reopen(self) -> None:
        """Every whole round of the stopped run stays, whatever was half done goes."""
        found = msgspec.json.decode((self.path / "manifest.json").read_bytes(), type=Manifest)
        if found.complete or found.format != FORMAT:
            raise FolderTaken(f"{self.path} holds a complete run, or one of another format: it cannot be resumed.")
        if unlike := differing(found.fingerprint, self.manifest.fingerprint):
            raise FolderTaken(f"{self.path} cannot be resumed, because these differ now: {', '.join(unlike)}.")
        self.manifest = msgspec.structs.replace(found, sessions=found.sessions + 1, finished_at=None)
        for unfinished in self.rounds.glob(".tmp-*"):
            shutil.rmtree(unfinished)
        for whole in sorted(self.rounds.glob("*")):  # a round that the manifest had not named yet when it was killed
            if f"rounds/{whole.name}/slices.parquet" not in found.files:
                self._name(whole)
        parts = [pl.read_parquet(file) for file in sorted(self.rounds.glob("*/slices.parquet"))]
        self.slices = pl.concat([self.slices, *parts])

    def _lock(self) -> None:
        """Nobody else writes here until this process ends, however it ends."""
        self._descriptor = os.open(self.path, os.O_RDONLY)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise FolderTaken(f"{self.path} is being written by a run that still goes on.") from None

    def measured(self) -> Counter[tuple[str, str | None, float]]:
        """Rounds of earlier sessions by (phase, cell, read share)."""
        keys = self.slices.unique("round").select("phase", "cell", "read_share_pct")
        return Counter(keys.iter_rows())

    def last(self, column: str) -> int | None:
        """The highest number that earlier sessions gave: `round`, `slice` or `restart`."""
        return None if self.slices.is_empty() else int(str(self.slices[column].max()))

    def write_round(self, number: int, tables: Mapping[str, Iterable[tuple[Any, ...]]]) -> None:
        """Rows of each table, in the order of its columns; the round is there when its folder has its name."""
        building, final = self.rounds / f".tmp-{number:05}", self.rounds / f"{number:05}"
        building.mkdir()
        for table, rows in tables.items():
            frame = pl.DataFrame(list(rows), schema=TABLES[table].schema, orient="row")
            frame.write_parquet(file := building / f"{table}.parquet")
            _sync(file)
        _sync(building)
        building.rename(final)
        _sync(self.rounds)
        self._name(final)

    def _name(self, whole: Path) -> None:
        """The manifest knows the files of a round."""
        for file_path in sorted(whole.iterdir()):
            name = file_path.relative_to(self.path).as_posix()
            self.manifest.files[name] = hashlib.sha256(file_path.read_bytes()).hexdigest()

    def update(self, **changes: Any) -> None:
        """Write the manifest, with these changes."""
        self.manifest = msgspec.structs.replace(self.manifest, **changes)
        temporary, final = self.path / ".manifest.tmp", self.path / "manifest.json"
        temporary.write_bytes(msgspec.json.format(msgspec.json.encode(self.manifest), indent=2) + b"\n")
        _sync(temporary)
        temporary.rename(final)
        _sync(self.path)

    def check(self, **checks: Conformance | Ledger) -> None:
        self.update(checks=msgspec.structs.replace(self.manifest.checks, **checks))

    def end(self, *, complete: bool) -> None:
        self.update(complete=complete, finished_at=now())


def differing(recorded: Fingerprint, wanted: Fingerprint) -> list[str]:
    """The fields of two fingerprints that differ; a target of ours listens at another port each time."""

    def comparable(fingerprint: Fingerprint) -> dict[str, Any]:
        plain: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(fingerprint))
        ours = [target | {"url": None} if target["rung"] != "external" else target for target in plain["targets"]]
        return plain | {"targets": ours}

    one, other = comparable(recorded), comparable(wanted)
    return [field for field in one if one[field] != other[field]]


def _sync(path: Path) -> None:
    """A file or folder is on disk after this; a rename is only once its folder is."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
