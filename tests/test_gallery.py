"""Every mistake of the gallery is caught by its scenario, and with its remedy nothing is reported."""

from collections.abc import Iterator

import pytest

from crossover.errors import UserError
from crossover.gallery import MISTAKES, mistake, run_demo, title
from crossover.gallery.overview import lesson, overview
from crossover.targets import start_servers
from servers.supervisor import Processes
from tests.test_cli import here

CAUGHT: list[str] = []


@pytest.fixture(scope="module")
def urls() -> Iterator[dict[str, str]]:
    """Servers of its own: some mistakes change how they work."""
    with Processes() as processes:
        yield start_servers(processes, ["cqrs", "replica"], durability="none")


LONG = {"dual-write", "evicting-store"}


@pytest.mark.parametrize("name", [pytest.param(one, marks=[pytest.mark.long] * (one in LONG)) for one in MISTAKES])
def test_a_mistake_is_caught_and_its_remedy_holds(name: str, urls: dict[str, str], summary: list[str]) -> None:
    for _ in range(3):  # most are races: one that is tried dozens of times may still be missed once
        shown = run_demo(name, urls)
        assert shown.right.bad == 0 < shown.right.of, f"the remedy lets {shown.right.what} happen"
        if shown.wrong.bad:
            break
    assert shown.wrong.bad > 0, f"no {shown.wrong.what}: the scenario cannot see its mistake"
    CAUGHT.append(name)
    score = f"gallery: {{}} of {len(MISTAKES)} mistakes caught, nothing reported with their remedies"
    summary[:] = [line for line in summary if not line.startswith("gallery")] + [score.format(len(CAUGHT))]
    assert lesson(shown) and overview([shown]).row_count == 1


def test_each_lesson_is_a_lesson() -> None:
    for name in MISTAKES:
        assert title(name)
        assert "The remedy" in (mistake(name).__doc__ or "")


def test_an_unknown_mistake_is_refused_with_the_names_of_all() -> None:
    with pytest.raises(UserError, match="id-after-last"):
        mistake("none")
    ended = here("gallery", "--list")
    assert ended.returncode == 0 and all(name in ended.stdout for name in MISTAKES)
