"""Whatever stands at a path that a user names, each command says one sentence about it, and before it measures."""

import resource
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from analysis.legible import legible
from crossover.cli import app
from crossover.errors import UserError
from crossover.planning import free_folder
from tests.synthetic_runs import write_run
from tests.test_cli import outcome_of

PUBLISHED = Path(__file__).parent.parent / "results" / "published"
NEEDED = {  # what a command needs besides the path that is tried
    "predict": "{costs-idiomatic}", "map": "{costs-idiomatic} --out {free}", "capacity": "--rung crud",
    "plan": "{thorough-lean} --read-share 90", "gate": "--base HEAD", "ci-report": "{run} --out {free}",
    "torture": "crud", "delta": "{run} {run}", "publish": "{run}",
}  # fmt: skip
FOLDER, WRITERS = "with a line break", ("ci-report", "map")  # which add to a folder that holds something
RIGHT = {
    ("out", "missing"),
    ("out", FOLDER),
    *(("history", kind) for kind in ("missing", FOLDER, "unwritable", "not ours")),
}


def paths() -> Iterator[tuple[str, str]]:
    """Every command with every option or argument that is a path; a workload may be one."""
    for name, command in get_command(app).commands.items():  # type: ignore[attr-defined]
        for parameter in command.params:
            if "Path" in str(parameter.type_descriptor.annotation) or parameter.name == "workload":
                yield name, parameter.name


def a_file(folder: Path) -> Path:
    file = folder / "file.toml"
    file.write_bytes(b"\xff\x00 nothing")
    return file


def not_ours(folder: Path) -> Path:
    (folder / "foreign.toml").mkdir()
    (folder / "foreign.toml" / "manifest.json").write_text('{"format": "theirs"}')
    return folder / "foreign.toml"


AT_PATH: dict[str, Callable[[Path], Path]] = {
    "a file": a_file,
    "below a file": lambda folder: a_file(folder) / "x.toml",
    "not ours": not_ours,
    "missing": lambda folder: folder / "missing.toml",
    "unwritable": lambda _: Path("/proc/nothing.toml"),
    "too long": lambda folder: folder / f"{'x' * 300}.toml",
    FOLDER: lambda folder: folder / "a\nb\x1b[31m.toml",
}


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    few: dict[str, Any] = {"rounds": 3, "read_shares": (90.0,), "operations": 20}
    own = {"run": write_run(tmp_path_factory.mktemp("good") / "run", **few)}
    return own | {name: PUBLISHED / f"2026-11-25-shop-{name}" for name in ("costs-idiomatic", "thorough-lean")}


@pytest.mark.parametrize("kind", AT_PATH)
@pytest.mark.parametrize(("command", "option"), [*paths()])
def test_each_path_of_each_command_is_refused_in_one_sentence(
    command: str, option: str, kind: str, good: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if (option, kind) in RIGHT or (command in WRITERS and (option, kind) == ("out", "not ours")):
        pytest.skip("a folder that is right")
    monkeypatch.setattr("servers.supervisor.Processes.__init__", lambda *_: pytest.fail("it measures"))
    path, free = AT_PATH[kind](tmp_path), tmp_path / "free"
    parameter = next(one for one in get_command(app).commands[command].params if one.name == option)  # type: ignore[attr-defined]
    words = NEEDED.get(command, "").format_map({"free": free, **good}).split()
    if parameter.param_type_name == "argument":
        words = [str(path), *words[1:]]
    else:
        words += [parameter.opts[0], str(path)]
    named = {legible(str(path)), legible(str(path.parent)), "workload"}
    before = sorted(tmp_path.rglob("*"))
    code, said = outcome_of(command, *words)
    assert code in (1, 2) and said.strip().count("\n") == 0 and "\x1b" not in said and "bug" not in said, said
    assert any(name in said for name in named), said
    assert sorted(tmp_path.rglob("*")) in (before, sorted([*before, *free.rglob("*"), free])), "nothing is left of it"


def test_a_disk_without_room_is_told_before_anything_is_measured(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with pytest.raises(UserError, match=r"out cannot be written to \(File too large\): give --out"):
            free_folder(tmp_path / "deep" / "out")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not list(tmp_path.iterdir())
