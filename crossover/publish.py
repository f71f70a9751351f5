"""Publishes a run: a compacted copy in results/published, and the README's answer from it."""

from pathlib import Path

from analysis import publish as published
from analysis.runs import UnusableRun, read_manifest
from crossover.errors import UserError

HOME = Path(__file__).parent.parent


def publish(folder: Path, home: Path = HOME, *, beside: Path | None = None) -> None:
    """`beside`: the same run with other clients, published with it. Raises UserError for a run without figures."""
    try:
        kept, readme = home / "results" / "published", home / "README.md"
        leads = read_manifest(folder).kind == "compare"
        before = readme.read_text("utf-8") if leads else ""
        if leads:  # whatever is wrong is told before anything is written
            published.answer_in(before, folder, home, beside)
        into = published.published(folder, kept)
        beside = beside and published.published(beside, kept)
        if leads:  # its figure is the README's picture
            unfinished = readme.with_suffix(".md.tmp")
            unfinished.write_text(published.answer_in(before, into, home, beside), "utf-8")
            unfinished.replace(readme)
    except (UnusableRun, ValueError) as error:
        raise UserError(str(error)) from None
    except OSError as error:
        raise UserError(f"The run cannot be published: {error.strerror} ({error.filename}).") from None
    size_mb = sum(path.stat().st_size for path in into.rglob("*") if path.is_file()) / 1e6
    print(f"Published: {into} ({size_mb:.1f} MB){'; README.md has its answer' if leads else ''}.")
