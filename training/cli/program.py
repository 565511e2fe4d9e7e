"""The program: its commands, the guide that it prints without a command, and the exit codes of its errors."""

from __future__ import annotations

import logging
import sys
from typing import TextIO

import click
from click.shell_completion import BashComplete, FishComplete, ZshComplete

from models.errors import InterruptedHalfWay, RatecastError
from training.cli import output
from training.cli.catalogue import datasets, presets
from training.cli.compare import compare
from training.cli.evaluate import evaluate
from training.cli.fit import fit
from training.cli.help import Command, Group
from training.cli.transfer import export, import_
from training.cli.tune import tune
from training.cli.versions import activate, list_, prune, publish, report, rollback, split
from training.errors import RefusedError
from training.launch import is_first

EXIT_BAD_INPUT, EXIT_REFUSED, EXIT_INTERRUPTED = 2, 3, 130  # the last is 128 + SIGINT, as shells report it
PROGRAM, COMPLETION_VARIABLE = "ratecast", "_RATECAST_COMPLETE"
SHELLS = {"bash": BashComplete, "zsh": ZshComplete, "fish": FishComplete}


@click.command(
    cls=Command,
    examples=(
        'eval "$(ratecast completion bash)"                                  # in ~/.bashrc',
        'eval "$(ratecast completion zsh)"                                   # in ~/.zshrc, after compinit',
        "ratecast completion fish > ~/.config/fish/completions/ratecast.fish",
    ),
)
@click.argument("shell", type=click.Choice(list(SHELLS)))
@click.pass_context
def completion(ctx: click.Context, shell: str, as_json: bool) -> None:
    """Print the completion script of the program `ratecast` for SHELL."""
    script = SHELLS[shell](ctx.find_root().command, {}, PROGRAM, COMPLETION_VARIABLE).source()
    output.answer({"shell": shell, "script": script}, script, as_json=as_json)


SECTIONS = {
    "Fit a model": (fit, evaluate, compare, tune, datasets, presets),
    "Manage published models": (list_, report, activate, rollback, split, publish, prune),
    "Import and export": (import_, export),
    "Shell": (completion,),
}

GUIDE = """\
Ratecast fits a model to ratings and publishes it; `ratecast serve` serves it.

  Try it on a well-known data set, without publishing anything:
    ratecast evaluate --data ml-100k --split random:0.1 --preset als

  Fit your own ratings (columns user, item, rating and optionally timestamp) and publish the model:
    ratecast fit --data ratings.csv --split random:0.1 --preset bayes --out checkpoints

  Serve it:
    ratecast serve --checkpoints checkpoints

All commands: ratecast --help. Options of a command: ratecast fit --help.
"""


@click.group(
    cls=Group,
    sections=SECTIONS,
    invoke_without_command=True,
    no_args_is_help=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100, "show_default": True},
)
@click.version_option(package_name=PROGRAM, message="%(package)s %(version)s", help="Print the release of Ratecast.")
@click.pass_context
def cli(ctx: click.Context) -> None:
    """Fit a matrix factorization to ratings, evaluate it, and publish it for the service."""
    if ctx.invoked_subcommand is None:
        click.echo(GUIDE, nl=False)


class StderrHandler(logging.StreamHandler[TextIO]):
    """Writes to the current `sys.stderr`; while a progress bar is shown, that prints above it."""

    def emit(self, record: logging.LogRecord) -> None:
        self.stream = sys.stderr
        super().emit(record)


def quiet_libraries() -> None:
    """Leave out what httpx logs of each request, and the tracebacks of lost connections, whose error is raised too."""
    logging.getLogger("httpx").setLevel(logging.WARNING)
    logging.getLogger("sqlalchemy.pool").setLevel(logging.CRITICAL)


def main() -> int:
    """Run the command line and return its exit code: 0 done, 2 bad input, 3 refused, 130 interrupted. A bug raises."""
    level = logging.INFO if is_first() else logging.WARNING
    logging.basicConfig(handlers=[StderrHandler()], level=level, format="%(message)s")
    quiet_libraries()
    try:
        cli.main(prog_name=PROGRAM, standalone_mode=False, complete_var=COMPLETION_VARIABLE)
    except click.ClickException as error:
        output.say_error(error.format_message())
        return EXIT_BAD_INPUT
    except RatecastError as error:
        output.say_error(str(error))
        return EXIT_REFUSED if isinstance(error, RefusedError) else EXIT_BAD_INPUT
    except MemoryError:
        output.say_error("there is not enough memory: use fewer ratings or fewer factors")
        return EXIT_BAD_INPUT
    except (click.Abort, KeyboardInterrupt) as interrupt:
        cause = interrupt.__cause__ or interrupt  # click raises Abort from an interrupt
        done = str(cause) if isinstance(cause, InterruptedHalfWay) else "nothing was published"
        click.echo(f"interrupted: {done}", err=True)
        return EXIT_INTERRUPTED
    return 0
