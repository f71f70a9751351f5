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

from loadtests.format import FORMAT, TABLES


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
        self.slices = pl.DataFrame(schema=TABLES["slices"].schema)  # of earlier sessions
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
        folder.slices = pl.concat([pl.DataFrame(schema=TABLES["slices"].schema), *parts])
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
            frame = pl.DataFrame(list(rows), schema=TABLES[table].schema, orient="row")
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
