"""The options of the command line, each defined once, and `Options`, the group that measuring commands share."""

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass, field, fields, is_dataclass
from inspect import Parameter
from pathlib import Path
from typing import Annotated, Any, get_type_hints

from typer import Argument, Option

from loadtests.address import bearer_of

HELP = {"help_option_names": ["-h", "--help"]}
RungName = Annotated[str, Argument(metavar="RUNG", help="A rung of the ladder: see `crossover rungs`.")]
Folder = Annotated[Path, Argument(metavar="DIR", help="Directory of a run.")]
Rungs = Annotated[str, Option(help="Comma-separated list of rungs; the first is the baseline.")]
Urls = Annotated[
    list[str] | None, Option("--url", metavar="NAME=URL", help="Your own server; `crossover doctor` names them.")
]
Token = Annotated[
    str | None, Option(envvar="CROSSOVER_TOKEN", callback=bearer_of, help="Bearer token required on every request.")
]
Durability = Annotated[str, Option(help="full, or relaxed: private servers acknowledge writes before disk.")]
Clients = Annotated[
    str,
    Option(envvar="CROSSOVER_CLIENTS", help="Client libraries of all rungs: idiomatic, or lean (tuned for low CPU)."),
]
ProfileName = Annotated[str, Option(help="quick, standard or thorough; a run first says how long it takes.")]
ComparisonProfile = Annotated[
    str, Option("--profile", help="For two rungs: quick (2 min), standard (10 min) or thorough (16 min).")
]
ReadShares = Annotated[str, Option(help="Comma-separated shares of reads, in percent.")]
Rate = Annotated[float | None, Option(help="Operations per second (default: the workload's).")]
Size = Annotated[str, Option(help="empty, s (10,000 orders), m (100,000) or l (1,000,000).")]
Seed = Annotated[int, Option(help="The same seed gives the same data and operations everywhere.")]
Pids = Annotated[
    list[str] | None,
    Option(metavar="NAME=PID[,PID]", help="Processes of an external target, whose CPU is its cost, children included."),
]
MixName = Annotated[str | None, Option("--workload", help="A workload or a TOML file (default: the run's).")]
History = Annotated[Path | None, Option(metavar="DIR", help="Directory of the runs of earlier gates.")]
NewFolder = Annotated[Path | None, Option(help="Output directory (default: a new one under results/).")]


@dataclass(frozen=True)
class Options:
    """What every command that measures takes; each field is an option of the command line."""

    workload: Annotated[str, Option(help="shop, shop-uniform, backoffice, checkout, reports, or a TOML file.")] = "shop"
    rate: Rate = None
    size: Size = "s"
    clients: Clients = "idiomatic"
    seed: Seed = 1
    out: NewFolder = None
    url: Urls = None
    token: Token = field(default=None, repr=False)


def flatten(command: Callable[..., Any]) -> Callable[..., Any]:
    """The command as Typer shall see it: a parameter that is a dataclass becomes an option for each of its fields."""
    parameters: list[Parameter] = []
    grouped: dict[str, tuple[Any, list[str]]] = {}
    for name, parameter in inspect.signature(command).parameters.items():
        if not is_dataclass(kind := parameter.annotation):
            parameters.append(parameter.replace(kind=Parameter.KEYWORD_ONLY))
            continue
        hints = get_type_hints(kind, include_extras=True)
        parameters += [
            Parameter(field.name, Parameter.KEYWORD_ONLY, default=field.default, annotation=hints[field.name])
            for field in fields(kind)
        ]
        grouped[name] = kind, [field.name for field in fields(kind)]

    @functools.wraps(command)
    def flat(**values: Any) -> Any:
        for name, (kind, names) in grouped.items():
            values[name] = kind(**{field: values.pop(field) for field in names})
        return command(**values)

    flat.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    flat.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return flat
