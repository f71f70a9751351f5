"""What the README tells a stranger to type and to open is there."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.main import get_command

from crossover.cli import app
from ladder.rung import rungs

HOME = Path(__file__).parent.parent
README = (HOME / "README.md").read_text("utf-8")
CI = HOME / "docs" / "ci"
TEXTS = README + (CI / "README.md").read_text("utf-8")


def scripts(node: Any) -> Iterator[str]:
    """Every line that a pipeline's YAML has run."""
    if isinstance(node, str):
        yield from node.splitlines()
    elif isinstance(node, dict | list):
        for inner in node.values() if isinstance(node, dict) else node:
            yield from scripts(inner)


CODE = [
    line.split(" #")[0].strip()
    for block in re.findall(r"^```sh\n(.*?)^```", TEXTS, re.DOTALL | re.MULTILINE)
    for line in block.splitlines()
] + [
    line.strip().removeprefix(".venv/bin/").split(" || ")[0]
    for pipeline in sorted(CI.glob("*.yml"))
    for line in scripts(yaml.safe_load(pipeline.read_text("utf-8")))
]
INLINE = re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", README, flags=re.DOTALL | re.MULTILINE))


def typed(program: str) -> list[str]:
    """Every line of the README that calls the program, in blocks and within sentences."""
    return sorted({line for line in CODE + INLINE if line.split()[:1] == [program]})


def test_the_code_blocks_are_read() -> None:
    assert len(typed("crossover")) >= 7 and len(typed("make")) >= 2 and len(typed("locust")) == 1
    assert len([line for line in typed("crossover") if line.startswith(("crossover gate", "crossover ci-report"))]) >= 6


@pytest.mark.parametrize("line", typed("make"))
def test_every_make_target_exists(line: str) -> None:
    makefile = (HOME / "Makefile").read_text("utf-8")
    for target in shlex.split(line)[1:]:
        if target.startswith("ARGS="):
            get_command(app).commands["compare"].make_context("compare", shlex.split(target[5:]))  # type: ignore[attr-defined]
        else:
            assert re.search(rf"^{re.escape(target)}:", makefile, re.MULTILINE), target


@pytest.mark.parametrize("line", [line for line in typed("crossover") if line != "crossover --help"])
def test_every_command_takes_the_options_and_arguments_shown(line: str) -> None:
    name, *words = shlex.split(line)[1:]
    command = get_command(app).commands.get(name)  # type: ignore[attr-defined]
    assert command is not None, name
    if words or line in CODE:  # a bare name within a sentence is a mention, not a call
        given = command.make_context(name, words).params  # refuses what it does not know
        named = [given["rung"]] if "rung" in given else given.get("rungs", "").split(",")
        assert {rung for rung in named if rung} <= set(rungs())


def test_the_table_of_the_ladder_says_what_the_rungs_say() -> None:
    ladder = README.split("## The ladder")[1].split("\n## ")[0]
    rows = re.findall(r"^\| `(\w+)` \| (.*) \| (.*) \|$", ladder, re.MULTILINE)
    said = [tuple(text[0].lower() + text[1:].rstrip(".") for text in (one.idea, one.cost)) for one in rungs().values()]
    assert [row[0] for row in rows] == list(rungs())
    assert [row[1:] for row in rows] == said


@pytest.mark.parametrize("option", [word for word in INLINE if word.startswith("--")])
def test_every_option_named_in_a_sentence_exists(option: str) -> None:
    flag = option.split()[0]
    commands = get_command(app).commands.values()  # type: ignore[attr-defined]
    assert any(flag in parameter.opts for command in commands for parameter in command.params)


def paths() -> list[str]:
    """The files and folders the README names, the parts of a package relative to it included."""
    return sorted(
        {word for word in INLINE if re.fullmatch(r"[\w./]+(/|\.(py|md|yaml))|LICENSE", word) and word[0] != "/"}
    )


@pytest.mark.parametrize("path", paths())
def test_every_path_exists(path: str) -> None:
    assert any((HOME / folder / path).exists() for folder in (".", "contract", "cqrs_impl")), path


def test_every_link_goes_to_a_file_that_is_there() -> None:
    for link in re.findall(r"\]\(([^)#]+)", README):
        assert link.startswith("https://") or (HOME / link).exists(), link
