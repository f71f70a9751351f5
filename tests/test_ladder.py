"""Each step of the ladder is one idea: small, and from a parent that exists."""

import difflib
import inspect

import pytest

from ladder.rungs import RUNGS, rung_module

LINES_MAX = 30  # a step that changes more lines than this is two steps, or needs better parts


@pytest.mark.parametrize("rung", RUNGS)
def test_a_rung_says_its_one_idea_in_one_sentence_and_has_a_parent_before_it(rung: str) -> None:
    module = rung_module(rung)
    assert module.IDEA.endswith(".")
    if module.PARENT is not None:
        assert RUNGS.index(module.PARENT) < RUNGS.index(rung)


@pytest.mark.parametrize("rung", [rung for rung in RUNGS if rung_module(rung).PARENT])
def test_a_step_of_the_ladder_is_small(rung: str) -> None:
    parent = inspect.getsource(rung_module(rung_module(rung).PARENT))
    child = inspect.getsource(rung_module(rung))
    changes = difflib.unified_diff(parent.splitlines(), child.splitlines(), lineterm="", n=0)
    changed = [line for line in changes if line[0] in "+-" and not line.startswith(("+++", "---"))]
    assert len(changed) <= LINES_MAX, "\n".join(changed)
