"""`completion`: the script that makes a shell complete commands, options and the values of options."""

from __future__ import annotations

import click
from click.shell_completion import BashComplete, FishComplete, ZshComplete

from training.cli import output
from training.cli.help import Command

PROGRAM, VARIABLE = "ratecast", "_RATECAST_COMPLETE"
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
@output.json_option
@click.pass_context
def completion(ctx: click.Context, shell: str, as_json: bool) -> None:
    """Print the completion script of the program `ratecast` for SHELL."""
    script = SHELLS[shell](ctx.find_root().command, {}, PROGRAM, VARIABLE).source()
    output.answer({"shell": shell, "script": script}, script, as_json=as_json)
