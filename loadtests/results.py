"""One run on disk: a round appears whole or not at all, and the manifest says whether the run came to its end."""

import fcntl
import hashlib
import os
import shutil
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import polars as pl

FORMAT = 1

SCHEMAS: dict[str, dict[str, Any]] = {
    "samples": {
        "slice": pl.UInt32,
        "operation": pl.String,
        "kind": pl.String,
        "due_us": pl.Int64,
        "sent_us": pl.Int64,
        "done_us": pl.Int64,
        "status": pl.UInt16,
        "outcome": pl.String,
        "bytes": pl.UInt32,
    },
    "slices": {
        "slice": pl.UInt32,
        "round": pl.UInt32,
        "restart": pl.UInt8,
        "read_share_pct": pl.Float64,
        "cell": pl.String,
        "target": pl.String,
        "phase": pl.String,
        "started_at_us": pl.Int64,
        "wall_us": pl.Int64,
        "drain_us": pl.Int64,
        "offered": pl.UInt32,
        "completed": pl.UInt32,
        "refused": pl.UInt32,
        "dropped": pl.UInt32,
        "errors": pl.UInt32,
        "reads": pl.UInt32,
        "writes": pl.UInt32,
        "generator_cpu_us": pl.Int64,
        "steal_share": pl.Float64,
        "drained": pl.Boolean,
        "lag_events_at_end": pl.UInt32,
    },
    "cpu": {"slice": pl.UInt32, "component": pl.String, "cpu_us": pl.Int64},
    "staleness": {
        "slice": pl.UInt32,
        "operation": pl.String,
        "probe": pl.UInt32,
        "delay_us": pl.Int64,
        "stale": pl.Boolean,
        "versions_behind": pl.UInt32,
        "visible_us": pl.Int64,
    },
    "applied": {"slice": pl.UInt32, "within_s": pl.Float64, "events": pl.UInt32},
    "tokens": {
        "slice": pl.UInt32,
        "operation": pl.String,
        "probe": pl.UInt32,
        "with_us": pl.Int64,
        "without_us": pl.Int64,
        "stale_with": pl.Boolean,
        "stale_without": pl.Boolean,
        "behind": pl.Boolean,
    },
}

# What a run of kind `capacity` has besides.
OF_CAPACITY: dict[str, dict[str, Any]] = {
    "trials": {
        "slice": pl.UInt32,
        "rate_per_s": pl.Float64,
        "outcome": pl.String,
        "failures": pl.String,
        "p95_us": pl.Int64,
        "stale_share": pl.Float64,
        "looks": pl.UInt32,
        "lag_slope_per_s": pl.Float64,
        "lag_slope_low": pl.Float64,
        "lag_slope_high": pl.Float64,
        "in_flight": pl.Float64,
        "throughput_per_s": pl.Float64,
        "generator_core_share": pl.Float64,
        "others_share": pl.Float64,
    },
    "lag": {"slice": pl.UInt32, "at_us": pl.Int64, "lag_events": pl.UInt32},
}

# When a round is void; the analysis applies them, the run carries them. Shares are 0..1.
THRESHOLDS = {
    "achieved_share_min": 0.99,
    "lag_p99_floor_us": 2_000,
    "lag_p99_over_p50": 0.25,
    "generator_core_share_max": 0.70,
    "steal_share_max": 0.05,
    "error_share_max": 0.001,
    "drain_us_max": 10_000_000,
    "void_share_max": 0.20,
    "equivalence_delta": 0.05,
    "start_sd": 0.025,  # between starts of identical targets: results/published/2026-11-23-identical-targets
}


class FolderTaken(Exception):
    """The folder holds something else already, or another run; the message is one sentence."""


class RunFolder:
    """The folder of one run; only this process writes to it."""

    def __init__(self, path: Path, manifest: dict[str, Any]) -> None:
        """Starts an incomplete run in an empty or new folder."""
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise FolderTaken(f"{path} is not empty: give a new folder for the results.")
        path.mkdir(parents=True, exist_ok=True)
        self._hold(path)
        self.manifest = {"format": FORMAT, "complete": False, "sessions": 1} | manifest | {"files": {}}
        self.slices = pl.DataFrame(schema=SCHEMAS["slices"])  # of earlier sessions
        self.write_manifest()
        (path / "rounds").mkdir()

    @classmethod
    def reopened(cls, path: Path, manifest: dict[str, Any]) -> "RunFolder":
        """Goes on with a run that was stopped: every whole round in it stays, whatever was half done goes."""
        folder = cls.__new__(cls)
        folder._hold(path)
        found = msgspec.json.decode((path / "manifest.json").read_bytes())
        if found["complete"] or found["format"] != FORMAT:
            raise FolderTaken(f"{path} holds a complete run, or one of another format: it cannot be resumed.")
        if unlike := _unlike(found["fingerprint"], manifest["fingerprint"]):
            raise FolderTaken(f"{path} cannot be resumed, because these differ now: {', '.join(unlike)}.")
        folder.manifest = found | {"sessions": found.get("sessions", 1) + 1, "finished_at": None}
        rounds = path / "rounds"
        rounds.mkdir(exist_ok=True)
        for unfinished in rounds.glob(".tmp-*"):
            shutil.rmtree(unfinished)
        for whole in sorted(rounds.iterdir()):  # a round that the manifest had not named yet when it was killed
            if f"rounds/{whole.name}/slices.parquet" not in found["files"]:
                folder._name(whole)
        parts = [pl.read_parquet(file) for file in sorted(rounds.glob("*/slices.parquet"))]
        folder.slices = pl.concat([pl.DataFrame(schema=SCHEMAS["slices"]), *parts])
        folder.write_manifest()
        return folder

    def _hold(self, path: Path) -> None:
        """Nobody else writes here until this process ends, however it ends."""
        self.path, self._held = path, os.open(path, os.O_RDONLY)
        try:
            fcntl.flock(self._held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise FolderTaken(f"{path} is being written by a run that still goes on.") from None

    def measured(self) -> Counter[tuple[str, str | None, float]]:
        """Rounds of earlier sessions by (phase, cell, read share)."""
        keys = self.slices.unique("round").select("phase", "cell", "read_share_pct")
        return Counter(keys.iter_rows())

    def last(self, column: str) -> int | None:
        """The highest number that earlier sessions gave: `round`, `slice` or `restart`."""
        return None if self.slices.is_empty() else int(str(self.slices[column].max()))

    def write_round(self, number: int, tables: Mapping[str, Iterable[tuple[Any, ...]]]) -> None:
        """Rows of each table, in the order of its columns; the round is there when its folder has its name."""
        rounds = self.path / "rounds"
        building, final = rounds / f".tmp-{number:05}", rounds / f"{number:05}"
        building.mkdir()
        for table, rows in tables.items():
            frame = pl.DataFrame(list(rows), schema=(SCHEMAS | OF_CAPACITY)[table], orient="row")
            with (building / f"{table}.parquet").open("wb") as file:
                frame.write_parquet(file)
                file.flush()
                os.fsync(file.fileno())
        _sync_folder(building)
        building.rename(final)
        _sync_folder(rounds)
        self._name(final)

    def _name(self, whole: Path) -> None:
        """The manifest knows the files of a round."""
        for file_path in sorted(whole.iterdir()):
            name = file_path.relative_to(self.path).as_posix()
            self.manifest["files"][name] = hashlib.sha256(file_path.read_bytes()).hexdigest()

    def write_manifest(self, **changes: Any) -> None:
        self.manifest |= changes
        temporary, final = self.path / ".manifest.tmp", self.path / "manifest.json"
        with temporary.open("wb") as file:
            file.write(msgspec.json.format(msgspec.json.encode(self.manifest), indent=2) + b"\n")
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(final)
        _sync_folder(self.path)


def _unlike(recorded: dict[str, Any], wanted: dict[str, Any]) -> list[str]:
    """The fields of two fingerprints that differ; where a target of ours listens is another port each time."""

    def comparable(fingerprint: dict[str, Any]) -> dict[str, Any]:
        plain = msgspec.json.decode(msgspec.json.encode(fingerprint))
        ours = [target | {"url": None} if target["rung"] != "external" else target for target in plain["targets"]]
        return dict(plain, targets=ours)

    one, other = comparable(recorded), comparable(wanted)
    return [field for field in one | other if one.get(field) != other.get(field)]


def _sync_folder(path: Path) -> None:
    """A rename is on disk only once its folder is."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
