"""Opens a run folder. It refuses, with one clear sentence, a run that is not whole or cannot be trusted."""

import hashlib
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import polars as pl

from analysis.legible import all_legible, legible
from loadtests.format import FORMAT, OF_EVERY_RUN, TABLES, Fingerprint, Manifest

LABELS = {"cpu": "CPU model", "memory_gib": "memory, GiB"}  # of fields whose name says less


class UnusableRun(Exception):
    """This folder gives no figures; the message is one sentence that says why and what to do."""


class Run(NamedTuple):
    """A whole, checked run: its manifest and its tables over all rounds."""

    folder: Path
    manifest: Manifest
    samples: pl.DataFrame
    slices: pl.DataFrame
    cpu: pl.DataFrame
    staleness: pl.DataFrame
    applied: pl.DataFrame
    counts: pl.DataFrame
    tokens: pl.DataFrame

    @property
    def targets(self) -> list[str]:
        return [target.name for target in self.manifest.fingerprint.targets]

    @property
    def rungs(self) -> dict[str, str]:
        return {target.name: target.rung for target in self.manifest.fingerprint.targets}


def is_worker(component: str) -> bool:
    """A process of ours beside the app, which works on one core at a time."""
    return re.fullmatch(r"relay|projector(-\d+)?|notifications", component) is not None


def open_run(folder: str | Path) -> Run:
    """A run whose figures may be shown; raises UnusableRun for every folder whose figures may not."""
    path = Path(folder)
    manifest = read_manifest(path)
    _refuse_failed_checks(path, manifest)
    _refuse_damage(path, manifest)
    run = Run(path, manifest, **{table: read_table(path, manifest.files, table) for table in OF_EVERY_RUN})
    if not run.targets or len(run.rungs) != len(run.targets):
        raise UnusableRun(f"{path} is damaged: its manifest does not name its targets, each once.")
    if unknown := sorted(set(run.slices["target"].unique()) - set(run.targets)):
        raise UnusableRun(f"{path} is damaged: its slices name the unknown target {unknown[0]}.")
    return run


def read_manifest(path: Path) -> Manifest:
    """The manifest of a complete run of a format we know."""
    manifest = read_any_manifest(path)
    if not manifest.complete:
        resume = f", or resume it with `crossover compare --resume {path}`" if manifest.kind == "compare" else ""
        raise UnusableRun(f"{path} is an incomplete run: it was stopped before its end; run it again{resume}.")
    return manifest


def read_unfinished(path: Path) -> tuple[Manifest, pl.DataFrame]:
    """The manifest of a run that was stopped, and its undamaged slices, also those the manifest does not name yet."""
    manifest = read_any_manifest(path)
    if manifest.complete:
        raise UnusableRun(f"{path} is a complete run: there is nothing to resume.")
    _refuse_changes(path, manifest)
    names = [file.relative_to(path).as_posix() for file in (path / "rounds").glob("[0-9]*/slices.parquet")]
    return manifest, read_table(path, names, "slices") if names else pl.DataFrame(schema=TABLES["slices"].schema)


def read_any_manifest(path: Path) -> Manifest:
    """The manifest of a run of a format we know, whether the run came to its end or not."""
    if not path.is_dir():
        raise UnusableRun(f"{path} is not a folder: give the folder of a run.")
    file = path / "manifest.json"
    if not file.is_file():
        if (path / "rounds").is_dir():
            raise UnusableRun(f"{path} is an incomplete run: it has rounds but no manifest; run it again.")
        raise UnusableRun(f"{path} is no run: it holds no manifest.json.")
    try:
        head = all_legible(msgspec.json.decode(file.read_bytes()))
    except (ValueError, RecursionError) as error:
        raise UnusableRun(f"{path} is damaged: manifest.json is no valid JSON ({error}).") from error
    version = head.get("format") if isinstance(head, dict) else None
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise UnusableRun(f"{path} is no run: manifest.json names no results format.")
    if version > FORMAT:
        raise UnusableRun(
            f"{path} was written in results format {version}, newer than format {FORMAT} that this version reads: "
            "update crossover."
        )
    try:
        manifest = msgspec.convert(head, Manifest)
    except msgspec.ValidationError as error:
        raise UnusableRun(f"{path} is damaged: manifest.json does not fit format {FORMAT} ({error}).") from error
    for name, value in msgspec.structs.asdict(manifest.thresholds).items():
        if not 0 <= value <= (1 if isinstance(value, float) else 10**12):
            raise UnusableRun(f"{path} is damaged: the threshold {name} in manifest.json is out of range.")
    return manifest


def differences(one: Manifest, other: Manifest) -> dict[str, str]:
    """The fingerprint fields in which two runs differ, in the order of the format, each with what differs in it."""

    def value(manifest: Manifest, field: str) -> Any:
        found = getattr(manifest.fingerprint, field)
        # Where a target listened, and what stands below its rung, is no part of what was measured.
        return [(target.name, target.rung) for target in found] if field == "targets" else found

    pairs = {field: (value(one, field), value(other, field)) for field in Fingerprint.__struct_fields__}
    return {field: difference(*pair) for field, pair in pairs.items() if pair[0] != pair[1]}


def difference(one: Any, other: Any) -> str:
    """`CPU model: X vs Y` of each key that differs in a mapping; of a plain value `X vs Y`; nothing of a list."""
    if isinstance(one, dict) and isinstance(other, dict):
        unlike = [key for key in {**one, **other} if one.get(key) != other.get(key)]
        inner = {LABELS.get(key, str(key)): difference(one.get(key), other.get(key)) for key in unlike}
        return "; ".join(f"{key}: {how}" if how else key for key, how in inner.items())
    if isinstance(one, dict | list | tuple) or isinstance(other, dict | list | tuple):
        return ""
    return f"{'unknown' if one is None else one} vs {'unknown' if other is None else other}"


def require_alike(one: Manifest, other: Manifest, *, may_differ: frozenset[str] = frozenset()) -> None:
    """Raises UnusableRun, naming the fields, when two runs did not measure the same thing in the same way."""
    found = {field: how for field, how in differences(one, other).items() if field not in may_differ}
    if found:
        said = ", ".join(field.replace("_", " ") + f" ({how})" * bool(how) for field, how in found.items())
        raise UnusableRun(f"Runs {one.run} and {other.run} cannot be compared: different {said}.")


def _refuse_failed_checks(path: Path, manifest: Manifest) -> None:
    conformance, ledger = manifest.checks.conformance, manifest.checks.ledger
    unknown, why = "no difference was recorded", ""
    if conformance is None or ledger is None:
        why = f"its {'conformance' if conformance is None else 'ledger'} check was never made."
    elif not conformance.ok:
        why = f"its targets do not answer the same; first difference: {conformance.first_difference or unknown}"
    elif not ledger.ok:
        counts = f"{ledger.lost} lost, {ledger.phantom} phantom, {ledger.differing} differing"
        why = f"the ledger found wrong data ({counts}); first: {ledger.first or unknown}"
    if why:
        raise UnusableRun(f"{path} gives no figures: {why}")


def _refuse_damage(path: Path, manifest: Manifest) -> None:
    """Every file the manifest names is there and unchanged, and every round that is there is named."""
    _refuse_changes(path, manifest)
    named = {Path(name).parts[1] for name in manifest.files if name.startswith("rounds/")}
    if not named:
        raise UnusableRun(f"{path} holds no round.")
    for child in (path / "rounds").iterdir():
        if child.is_dir() and not child.name.startswith(".") and child.name not in named:
            raise UnusableRun(f"{path} is changed: its manifest does not know round {child.name}.")


def _refuse_changes(path: Path, manifest: Manifest) -> None:
    for name, wanted in manifest.files.items():
        file = path / name
        if os.path.isabs(name) or ".." in Path(name).parts:
            raise UnusableRun(f"{path} is damaged: its manifest names a file outside the run.")
        if not file.is_file():
            raise UnusableRun(f"{path} is truncated: {name} is missing.")
        with file.open("rb") as stream:
            found = hashlib.file_digest(stream, "sha256").hexdigest()
        if found != wanted:
            raise UnusableRun(f"{path} is truncated or changed: {name} does not match its checksum.")


def read_table(path: Path, files: Iterable[str], table: str) -> pl.DataFrame:
    """One table over all rounds, in the columns and types of the format."""
    names = sorted(name for name in files if Path(name).name == f"{table}.parquet")
    schema, later = TABLES[table].schema, TABLES[table].later
    if not names:
        if TABLES[table].optional:
            return pl.DataFrame(schema=schema)
        raise UnusableRun(f"{path} is damaged: it holds no {table}.")
    parts = []
    for name in names:
        try:
            part = pl.read_parquet(path / name)
            part = part.with_columns(pl.lit(None).alias(column) for column in later if column not in part.columns)
            parts.append(part.select([pl.col(column).cast(kind) for column, kind in schema.items()]))
        except pl.exceptions.PolarsError as error:
            reason = str(error).splitlines()[0]
            raise UnusableRun(f"{path} is damaged: {name} does not fit format {FORMAT} ({reason}).") from error
    whole = pl.concat(parts)
    for column in (column for column, kind in schema.items() if kind == pl.String()):
        hidden = [name for name in whole[column].unique() if name and not name.isprintable()]
        whole = whole.with_columns(pl.col(column).replace({name: legible(name) for name in hidden}))
    return whole
