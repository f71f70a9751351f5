"""What is kept of a run says the same as the run, and the README says what is kept."""

import html
import re
from dataclasses import replace
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

from analysis import answer, publish, sentences, tables
from analysis.findings import find
from crossover.errors import UserError
from crossover.publish import HOME
from crossover.publish import publish as keep
from tests.synthetic_runs import CQRS, CRUD, Truth, rewritten, times, write_run

README = (HOME / "README.md").read_text("utf-8")


def test_a_compacted_run_gives_the_same_figures(tmp_path: Path) -> None:
    run_dir = write_run(tmp_path / "run")
    kept = publish.compacted(run_dir, tmp_path / "kept")
    assert tables.summary(kept) == tables.summary(run_dir)
    assert {path.parent.name for path in kept.glob("rounds/*/*")} == {"all"}


@pytest.mark.long
def test_the_readme_gives_the_answer_of_the_runs_it_names() -> None:
    (named,) = set(re.findall(r"\((results/published/[^/)]+)/plots/ratio.png\)", README))
    beside = [HOME / path for path in re.findall(r"That run is in `([^`]+)/`", README)]
    assert publish.answer_in(README, HOME / named, HOME, *beside) == README


@pytest.mark.long
def test_the_readme_quotes_what_people_try_first_as_it_was_measured() -> None:
    part = README.split("**What people try first.**")[1].split("\n## ")[0]
    runs = {size: find(HOME / f"results/published/2026-11-26-alternatives-shop-{size}") for size in "sm"}
    columns = [(runs["s"], 50), (runs["s"], 95), (runs["m"], 95)]
    rows = re.findall(r"^\| `(\w+)` \| (.*) \|$", part, re.MULTILINE)
    assert [target for target, _ in rows] == [name for name in runs["s"].run.targets if name != "crud"]
    for target, row in rows:
        cells = [next(c for c in found.of(target) if c.read_share_pct == share) for found, share in columns]
        assert row.split(" | ") == [sentences.ratio_text(cell.comparison) for cell in cells], target


@pytest.mark.long
def test_a_run_with_other_clients_is_quoted_beside_with_what_moves_the_answer(tmp_path: Path) -> None:
    def run(level: str, cqrs: Truth) -> Path:
        made = write_run(tmp_path / level, targets=(CRUD, cqrs), rounds=30)
        return rewritten(made, lambda manifest: manifest["fingerprint"].update(clients=level))

    idiomatic, lean = run("idiomatic", CQRS), run("lean", times(CQRS, 1.25))
    (tmp_path / "README.md").write_text(f"{publish.BEGIN}\n{publish.END}\n")
    keep(idiomatic, tmp_path, beside=lean)
    text = (tmp_path / "README.md").read_text()
    assert "**With `lean` clients** instead of `idiomatic` ones, on all sides:" in text
    assert answer.crossover_lines(find(lean))[0] in text
    said = re.search(
        r"A read of cqrs costs (.+) times one of crud with idiomatic clients and (.+) with lean ones", text
    )
    assert said and float(said[2]) == pytest.approx(1.25 * float(said[1]), rel=0.1)
    kept = tmp_path / "results" / "published" / "idiomatic"
    with pytest.raises(UserError, match="has idiomatic clients like run"):
        keep(kept, tmp_path, beside=kept)


def test_publishing_leads_the_readme_and_keeps_what_stands_around_it(tmp_path: Path) -> None:
    run_dir = write_run(tmp_path / "a-run")
    (tmp_path / "README.md").write_text(f"before\n{publish.BEGIN}\nold\n{publish.END}\nafter\n")
    keep(run_dir, tmp_path)
    text = (tmp_path / "README.md").read_text()
    assert text.startswith("before\n") and text.endswith("after\n") and "old" not in text
    assert "results/published/a-run/plots/ratio.png" in text
    found = find(run_dir)
    assert f"**{' '.join(answer.crossover_lines(found))}**\n" in text
    assert all(f"- {line}\n" in text for line in [*answer.recommendation(found), *answer.price(found)])
    keep(tmp_path / "results" / "published" / "a-run", tmp_path)
    assert (tmp_path / "README.md").read_text() == text, "a kept run published again changes nothing"


HOSTILE = "<b>|`x` [a](http://evil.example) ![i](x) *e* &lt; # "


@pytest.mark.long
def test_no_name_in_a_published_run_becomes_markup(tmp_path: Path) -> None:
    run_dir = write_run(tmp_path / "a (run) `x` |b", targets=(CRUD, replace(CQRS, name=HOSTILE)))
    (tmp_path / "README.md").write_text(f"{publish.BEGIN}\n{publish.END}\n")
    keep(run_dir, tmp_path)
    block = (tmp_path / "README.md").read_text()
    page = MarkdownIt("commonmark").enable("table").render(block)
    assert page.count("<td>") == 3 * len(find(run_dir).read_shares) and page.count("<img ") == 1
    assert not re.search(r"<a |<b>|<em>|evil.example\"", page) and HOSTILE.strip() in html.unescape(page)


@pytest.mark.long
def test_what_cannot_be_published_is_said_in_one_sentence_and_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_dir = write_run(tmp_path / "run")
    (tmp_path / "README.md").write_text("no marks\n")
    with pytest.raises(UserError, match="needs the marks"):
        keep(run_dir, tmp_path)
    assert not (tmp_path / "results").exists()
    (tmp_path / "README.md").write_text(f"{publish.BEGIN}\n{publish.END}\n")
    monkeypatch.chdir(run_dir)
    for _ in range(2):  # from within, and twice
        keep(Path(), tmp_path)
    other = rewritten(write_run(tmp_path / "other" / "run"), lambda manifest: manifest.update(run="other"))
    with pytest.raises(UserError, match="holds another run"):
        keep(other, tmp_path)
    (run_dir / "manifest.json").unlink()
    with pytest.raises(UserError, match="no manifest"):
        keep(run_dir, tmp_path / "elsewhere")
