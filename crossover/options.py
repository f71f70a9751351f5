"""The options that every command which measures takes."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer


@dataclass(frozen=True)
class Options:
    """What every command that measures takes; each field is an option of the command line."""

    workload: Annotated[str, typer.Option(help="shop, backoffice, checkout, or a TOML file.")] = "shop"
    rate: Annotated[float | None, typer.Option(help="Operations per second (default: the workload's).")] = None
    size: Annotated[str, typer.Option(help="empty, s (10,000 orders), m (100,000) or l (1,000,000).")] = "s"
    seed: Annotated[int, typer.Option(help="The same seed gives the same data and operations everywhere.")] = 1
    out: Annotated[Path | None, typer.Option(help="Output directory (default: a new one under results/).")] = None
    url: Annotated[
        list[str] | None, typer.Option(metavar="NAME=URL", help="Your own server; `crossover doctor` names them.")
    ] = None
    token: Annotated[
        str | None, typer.Option(envvar="CROSSOVER_TOKEN", help="Bearer token required on every request.")
    ] = None
