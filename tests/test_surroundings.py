"""What surrounds a command – variables, umask, folders, quotas – changes nothing that it serves, records or draws."""

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import matplotlib
import psycopg
import pytest

from analysis import plots
from analysis.findings import find
from crossover import doctor, machine, revisions
from crossover.start import FIXED, INHERITED, PROJECT, inherited, let_in
from ladder.environment import CLIENTS, NAMESPACE
from loadtests.http import HttpClient
from loadtests.limits import Limits, read_limits
from servers.folders import sockets_parent, state_dir
from servers.server import SERVER_ENV
from servers.supervisor import REAPER_ENV, Processes
from tests.family import descendants, reapers_of
from tests.service import PATIENCE_S
from tests.synthetic_runs import write_run

LIBPQ = [option.envvar.decode() for option in psycopg.pq.Conninfo.get_defaults() if option.envvar]
PROXIES = [f"{kind}_proxy" for kind in ("http", "https", "all", "ftp", "no")]
LOCALE = ["LANG", "LANGUAGE", "LC_ALL", "LC_CTYPE", "LC_COLLATE", "LC_NUMERIC", "LC_TIME", "LC_MESSAGES"]
HOSTILE = {
    **dict.fromkeys([*LIBPQ, "PGSERVICEFILE", "PGSYSCONFDIR", "PGTZ", "PGDATESTYLE", "PGGEQO", "PGLOCALEDIR"], "1"),
    **{name: "http://127.0.0.1:9" for proxy in PROXIES for name in (proxy, proxy.upper())},
    **dict.fromkeys(LOCALE, "tr_TR.ISO-8859-9"),
    **dict.fromkeys(["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_COMMON_DIR", "GIT_EXEC_PATH"], "/nowhere"),
    **dict.fromkeys(["PYTHONOPTIMIZE", "PYTHONDEVMODE", "PYTHONINSPECT", "PYTHONASYNCIODEBUG", "PYTHONHASHSEED"], "2"),
    **{"PGSSLMODE": "verify-full", "PYTHONWARNINGS": "error", "XDG_STATE_HOME": "/nowhere"},
    **{"PYTHONIOENCODING": "ascii:strict", "PYTHONUTF8": "0", "PYTHONSTARTUP": "/nowhere", "PYTHONSAFEPATH": ""},
    **{"MPLBACKEND": "none such", "MPLCONFIGDIR": "/nowhere", "MATPLOTLIBRC": "/nowhere"},
    **dict.fromkeys(["REDIS_HOST", "REDISCLI_AUTH", "LOCUST_HOST", "WEB_CONCURRENCY", "UVICORN_PORT"], "1"),
    **{"SSLKEYLOGFILE": "/nowhere", "OPENSSL_CONF": "/nowhere", "TZ": "Asia/Kathmandu", "NO_COLOR": "1"},
}
SHADOWS = ("redis", "psycopg", "typer", "rich", "locust", "servers", "analysis", "ladder")


@contextmanager
def served(*words: str, umask: int = 0o022, **more: Any) -> Iterator[subprocess.Popen[str]]:
    """The command as its installed script starts it; its address is what it prints first."""
    words = (*words[:-1], sys.executable, str(PROJECT / "crossover" / "start.py"), "serve", words[-1], "--port", "0")
    command = subprocess.Popen(words, umask=umask, text=True, stdout=-1, stderr=-1, start_new_session=True, **more)
    try:
        yield command
    finally:
        command.terminate()
        command.communicate(timeout=600)


def rude() -> None:
    """Signals as some that start a command leave them."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})


def address(command: subprocess.Popen[str]) -> str:
    assert command.stdout and command.stderr
    found = re.search(r"http://[\w.:]+", line := command.stdout.readline())
    assert found, line + command.stderr.read()
    return found[0]


def command_words(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/cmdline").read_text().rstrip("\0").split("\0")


def environ_of(pid: int) -> set[str]:
    with suppress(OSError):  # it has ended since
        return {word.partition("=")[0] for word in Path(f"/proc/{pid}/environ").read_text().split("\0") if word}
    return set()


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """One that other users may enter, unlike tmp_path, so that root's servers can live there."""
    with tempfile.TemporaryDirectory(prefix="s p%+,#'ü", dir="/tmp") as made:
        Path(made).chmod(0o755)
        yield Path(made)


@pytest.mark.parametrize(
    ("umask", "state"), [(0o077, "a/relative/one"), pytest.param(0o000, "", marks=pytest.mark.long)]
)
def test_a_hostile_environment_reaches_no_part_of_a_served_rung(
    tmp_path: Path, open_folder: Path, umask: int, state: str
) -> None:
    for name in SHADOWS:
        (tmp_path / f"{name}.py").write_text("raise SystemExit('a module of the same name')")
    temporary = tmp_path / "a b%+,#ü"
    temporary.mkdir()
    hostile = HOSTILE | {"PYTHONPATH": str(tmp_path), "TMPDIR": str(temporary), "PATH": os.environ["PATH"]}
    hostile |= {"XDG_STATE_HOME": state or str(open_folder)}
    with served("cqrs", umask=umask, env=hostile, cwd=tmp_path, preexec_fn=rude) as command:
        client = HttpClient(address(command))
        assert client.get("/health").status == 200 and client.settle(PATIENCE_S)
        allowed = (INHERITED | FIXED.keys() | {NAMESPACE, CLIENTS, "DATABASE_URL", "REDIS_URL"}) - {*LIBPQ}
        family = descendants(command.pid)
        assert len(family) >= 5, "reaper, app, projector, PostgreSQL and Valkey"
        for pid, line in family.items():
            own = {*SERVER_ENV} if "valkey-server" in line or "postgres" in line else allowed
            assert environ_of(pid) <= ({*REAPER_ENV} if "reaper.py" in line else own), line
        *_, folder, sockets = map(Path, command_words(reapers_of(command.pid)[0]))
        assert (open_folder in folder.parents) == (state == "")
        assert re.fullmatch(r"[\w/.-]+", str(sockets), re.ASCII)
        modes = {oct(log.stat().st_mode & 0o777) for log in folder.glob("*.log")}
        assert modes == {"0o600"}, "logs are their owner's alone"


# Another user, who may read what root's Python is made of.
STRANGER = ["setpriv", "--reuid=54321", "--regid=54321", "--clear-groups"]
STRANGER += ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("setpriv"), reason="needs root, and setpriv")
@pytest.mark.parametrize("home", [pytest.param({}, marks=pytest.mark.long), {"HOME": "/"}])
def test_a_user_that_has_no_entry_and_no_home_is_served_or_told_what_is_missing(home: dict[str, str]) -> None:
    more: Any = {"cwd": "/", "env": {"PATH": os.environ["PATH"], "PYTHONPATH": str(PROJECT)} | home}
    with served(*STRANGER, "noop", **more) as command:
        assert HttpClient(address(command)).get("/health").status == 200
    with served(*STRANGER, "crud", **more) as command:
        assert "does not run as user 54321, who is not in the list of users" in command.communicate()[1]
    shutil.rmtree("/tmp/crossover-54321", ignore_errors=True)  # the state folder of who has no home


@pytest.mark.parametrize("umask", [0o000, 0o077, 0o777])
def test_folders_have_their_modes_whatever_the_umask(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        with Processes(tmp_path / "deep" / "state") as processes:
            processes.run("said", [sys.executable, "-c", "print(1)"], env=inherited())
            found = [tmp_path / "deep", processes.folder.parent, processes.folder, processes.sockets]
            modes = {oct(path.stat().st_mode & 0o777) for path in found}
            assert processes.log("said").stat().st_mode & 0o777 == 0o600
            assert modes == {"0o711" if os.geteuid() == 0 else "0o700"}
    finally:
        os.umask(before)


def test_sockets_lie_where_a_path_means_the_same_in_a_url_and_in_a_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as given:
        (folder := Path(given)).chmod(0o755)
        for name in ["plain", "shut", "missing", "d" * 90, "ü", *(f"a{mark}b" for mark in " %+,#?:;'\"\\=&@~$\n")]:
            if name != "missing":
                (folder / name).mkdir()
                (folder / name).chmod(0o500 if name == "shut" else 0o755)
            monkeypatch.setattr("tempfile.tempdir", str(folder / name))
            assert sockets_parent(folder) == (folder / "plain" if name == "plain" else Path("/tmp")), name


def test_the_state_folder_is_one_that_can_be_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    name = f"crossover-{os.geteuid()}"
    fallback = {Path("/var/lib/crossover"), tmp_path / name, Path("/tmp") / name}
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    monkeypatch.setenv("HOME", "/dev/null")
    assert state_dir() in fallback
    monkeypatch.setenv("XDG_STATE_HOME", "a/relative/one")
    assert state_dir() in fallback, "the standard has it ignored"


def test_only_what_is_named_is_let_in() -> None:
    told = {"DATABASE_URL": "x", "CROSSOVER_TOKEN": "x", "TERM": "x", "PGPASSFILE": "x", "PATH": "x"}
    credentials = INHERITED & {*LIBPQ}
    own = {*told, *FIXED, *credentials, "NO_COLOR", "XDG_STATE_HOME"}
    assert let_in(HOSTILE | told).keys() == own
    assert inherited(HOSTILE | told).items() >= FIXED.items()
    assert {"PGPASSWORD", "PGPASSFILE", "PGSSLROOTCERT"} <= credentials
    assert not credentials & {"PGOPTIONS", "PGHOST", "PGPORT", "PGTZ", "PGCLIENTENCODING", "PGTARGETSESSIONATTRS"}


@pytest.mark.long
def test_figures_are_the_same_under_any_style_of_the_user(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", rounds=3)
    drawn = [plot.inline_svg() for plot in plots.draw(find(folder))]
    other = {
        key: not value if isinstance(value, bool) else 3 * value
        for key, value in dict.items(matplotlib.rcParams)
        if isinstance(value, bool | float)
    }
    assert other["text.usetex"]
    with matplotlib.rc_context():
        matplotlib.rcParams._update_raw(other)
        assert [plot.inline_svg() for plot in plots.draw(find(folder))] == drawn


# The commit that is recorded


def git(*words: str) -> None:
    subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b", *words], check=True, capture_output=True)


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The project, as it were, with one commit."""
    project = tmp_path / "outer" / "project"
    for folder in (project, project.parent):
        git("init", "--quiet", str(folder))
        git("-C", str(folder), "commit", "--quiet", "--allow-empty", "--message", folder.name)
    monkeypatch.setattr(revisions, "PROJECT", project)
    return project


def test_the_commit_is_that_of_the_code_whatever_repository_the_environment_names(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = revisions.current()
    assert found[0] and found[1] is False
    for name in ("GIT_DIR", "GIT_COMMON_DIR", "GIT_OBJECT_DIRECTORY", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_CONFIG"):
        monkeypatch.setenv(name, str(repository.parent / ".git"))
    for name in ("GIT_NAMESPACE", "GIT_EXEC_PATH", "GIT_CONFIG_PARAMETERS", "GIT_CONFIG_COUNT"):
        monkeypatch.setenv(name, "1")
    assert revisions.current() == found


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_the_commit_is_known_in_a_checkout_of_another_owner(repository: Path) -> None:
    found = revisions.current()
    for path in (repository, repository / ".git"):
        os.chown(path, 54321, 54321)
    assert revisions.current() == found and found[0]


def test_code_without_a_repository_of_its_own_has_no_commit(repository: Path) -> None:
    (repository / ".git").rename(repository / "no longer")
    assert revisions.current() == (None, None), "that of the repository around it is another project's"
    with pytest.raises(revisions.UserError, match="is no git repository"):
        revisions.commit_of("HEAD")


# Limits of a container


def test_a_quota_is_recorded_and_heeded_and_doctor_tells_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert machine.limits() == {} or read_limits() != Limits(None, None, None)
    monkeypatch.setattr(machine, "read_limits", lambda: Limits(0.5, 2**29, 0))
    assert machine.cores() == 1
    assert machine.machine().items() >= {"cores": 1, "cpu_quota_cores": 0.5, "memory_limit_gib": 0.5}.items()
    assert doctor.machine().startswith("1 cores (a quota allows 0.5), ")
    assert doctor.memory().endswith(" GiB, of which 0.5 may be used")


V1, V2 = "5:cpu,cpuacct:/docker/1\n4:memory:/docker/1\n", "0::/a/b\n"


@pytest.mark.parametrize(
    ("groups", "files", "expected"),
    [
        ("", {}, Limits(None, None, None)),
        (V2, {"a/b/cpu.max": "max 100000", "a/b/memory.max": "max"}, Limits(None, None, None)),
        (V2, {"a/b/cpu.max": "150000 100000", "a/b/cpu.stat": "nr_periods 2\nthrottled_usec 7"}, Limits(1.5, None, 7)),
        (V2, {"a/cpu.max": "50000 100000", "a/b/cpu.max": "200000 100000", "memory.max": "9"}, Limits(0.5, 9, 0)),
        ("0::/\n", {"cpu.max": "100000 100000", "memory.max": "1024"}, Limits(1.0, 1024, 0)),
        (V1, {"cpu,cpuacct/cpu.cfs_quota_us": "-1", "cpu,cpuacct/cpu.cfs_period_us": "9"}, Limits(None, None, None)),
        (
            V1,
            {
                "cpu,cpuacct/cpu.cfs_quota_us": "250000",
                "cpu,cpuacct/cpu.cfs_period_us": "100000",
                "cpu,cpuacct/cpu.stat": "nr_periods 3\nthrottled_time 5000",
                "memory/memory.limit_in_bytes": "2048",
            },
            Limits(2.5, 2048, 5),
        ),
    ],
)
def test_the_tightest_limit_of_all_control_groups_counts(
    groups: str, files: dict[str, str], expected: Limits, tmp_path: Path
) -> None:
    placed = {f"sys/fs/cgroup/{name}": text for name, text in files.items()}
    for name, text in (placed | {"proc/self/cgroup": groups}).items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert read_limits(tmp_path) == expected
