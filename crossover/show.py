"""What a run shows: its table in the terminal, its report and plots on disk."""

from pathlib import Path

from rich.console import Console

TABLE_WIDTH = 100


def wide_console() -> Console:
    console = Console()
    return console if console.is_terminal else Console(width=TABLE_WIDTH)  # a file or pipe has no width


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
