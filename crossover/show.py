"""Shows a run: its table in the terminal, its report and plots on disk."""

import shutil
import sys
from pathlib import Path

from rich.console import Console

TABLE_WIDTH = 100


def wide_console() -> Console:
    console = Console()
    return console if console.is_terminal else Console(width=TABLE_WIDTH)  # a file or pipe has no width


def served(rung: str, url: str, size: str, seed: int, token: str | None) -> None:
    """Print where a rung is served and how to drive it by hand; the token itself is not shown."""
    beside, home = Path(sys.executable).parent / "locust", Path(__file__).parent.parent
    program = "locust" if shutil.which("locust") == str(beside) else here(beside)
    data = f" --size {size} --seed {seed}" if (size, seed) != ("empty", 1) else ""
    print(f"{rung} is served at {url}\nIts docs page is  {url}/docs")
    print(f"To load it:  {program} -f {here(home / 'loadtests' / 'locustfile.py')} -H {url}{data}")
    print("Requests need the token: set CROSSOVER_TOKEN for Locust too.\n" if token else "", end="")
    print("Ctrl-C stops it.", flush=True)


def here(path: Path) -> str:
    """As one would type it in this folder."""
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


def show(folder: Path) -> None:
    """Print the table of a run and where its files are; of a run that was stopped, how far it came."""
    from analysis import capacity, gate, tables
    from analysis.runs import read_any_manifest

    manifest = read_any_manifest(folder)
    render = {"capacity": capacity.render, "gate": gate.render}.get(manifest.kind, tables.render)
    wide_console().print(render(folder) if manifest.complete else tables.render_unfinished(folder))
    for name, what in (("manifest.json", "Data:  "), ("report.html", "Report:"), ("plots", "Plots: ")):
        if (folder / name).exists():
            print(f"{what} {folder / name}")


def write(folder: Path) -> None:
    """Write the report and the plots of a run."""
    from analysis.report import write_all

    write_all(folder)


def verdict(folder: Path, history: Path | None) -> int:
    """Print the verdict of a gate, and return its exit code."""
    from analysis import gate

    wide_console().print(gate.render(folder, history))
    print(f"Data:  {folder / 'manifest.json'}")
    return {"same or better": 0, "worse": 1, "inconclusive": 3}[gate.judge(folder, history).answer]
