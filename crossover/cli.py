"""The command line: which commands there are, and how it ends; each error is one sentence."""

import importlib.metadata
import os
import signal
import sys
from types import FrameType
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from typer.exceptions import TyperException

from analysis.legible import legible
from crossover import start
from crossover.commands import compare, keep, look, trust
from crossover.errors import DEBUG, bug, drivers_errors, refusals, refused_by_system, without_passwords
from crossover.options import HELP
from servers.server import Failed

app = typer.Typer(
    help="When does CQRS pay off over CRUD, and what does it cost? Measure it on this machine.",
    add_completion=False,
    invoke_without_command=True,
    pretty_exceptions_enable=False,
    context_settings=HELP,
)
COMMANDS = {  # by what they are for, in the order of the help
    "Look": (look.serve, look.rungs, look.diff, look.rebuild, look.history, look.parked, look.replay, look.doctor),
    "Compare": (compare.compare, compare.costs, compare.predict, compare.map, compare.capacity, compare.plan),
    "Trust": (trust.gallery, trust.torture, trust.calibrate),
    "Keep and compare runs": (keep.show, keep.report, keep.publish, keep.delta, keep.gate, keep.ci_report),
}
for panel, commands in COMMANDS.items():
    for command in commands:
        app.command(rich_help_panel=panel)(command)
app.add_typer(look.servers_app, name="servers", rich_help_panel="Look")


def show_version(asked: bool) -> None:
    if asked:
        print(f"crossover {importlib.metadata.version('crossover')}")
        raise typer.Exit


@app.callback()
def help_without_command(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=show_version, help="Show the version and exit.")
    ] = False,
) -> None:
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


class Stopped(BaseException):
    """A signal asked for the end; everything is stopped in order on the way out."""

    def __init__(self, number: int) -> None:
        self.number = number


def stop(number: int, _frame: FrameType | None) -> None:
    raise Stopped(number)


def main() -> None:
    start.enter()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, stop)
    sys.exit(outcome())


def options_of(words: list[str]) -> set[str]:
    """Those of the command that a command line names."""
    commands = getattr(typer.main.get_command(app), "commands", {})
    named = [commands[word] for word in words[:1] if word in commands]
    options = {option for command in named for parameter in command.params for option in parameter.opts}
    return options | {*HELP["help_option_names"]}


def outcome(words: list[str] | None = None) -> int:
    """The exit code: 0 done, 1 something failed, 2 bad input, 128 + n stopped by a signal."""
    try:
        words = sys.argv[1:] if words is None else words
        if {word.partition("=")[0] for word in words if word.startswith("--")} - options_of(words):  # a rung's, perhaps
            from crossover.variants import in_variants

            words = in_variants(words, options_of)
        return int(app(words, prog_name="crossover", standalone_mode=False) or 0)
    except TyperException as error:
        context = getattr(error, "ctx", None)
        command = context.command_path if context else "crossover"
        return say(f"{error.format_message().rstrip('.')}: see `{command} --help`.", 2)
    except Failed as error:
        return say(str(error), 1)
    except (KeyboardInterrupt, typer.Abort):
        return 128 + signal.SIGINT
    except Stopped as stopped:
        return 128 + stopped.number
    except BrokenPipeError:  # the reader of our output has left: `crossover rungs | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except OSError as error:
        return say(refused_by_system(error), 2)
    except refusals() as error:
        return say(str(error), 2)
    except drivers_errors() as error:
        from ladder.run import reason_of

        return say(f"A server refused what was asked of it ({reason_of(error)}): correct what it names.", 2)
    except Exception as error:
        if os.environ.get(DEBUG):
            raise
        return say(bug(error), 1)


def say(sentence: str, code: int) -> int:
    """What failed may be told with the end of a log, bad input by one line."""
    lines = sentence.splitlines() if code == 1 else [sentence]
    sentence = without_passwords("\n".join(legible(line) for line in lines))
    Console(stderr=True, soft_wrap=True).print(f"[red]{escape(sentence)}[/red]", highlight=False)
    return code


if __name__ == "__main__":
    main()
