"""`python -m app`: its options become RATECAST_… variables, which workers read. `app/server/launcher.py` does the rest.

Nothing slow is imported before the options have been read, so that help and completion are fast.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Sequence

import click
from click.shell_completion import BashComplete, FishComplete, ZshComplete

from app.options import OPTIONS

PREFIX = "RATECAST_"
DEVICES = ["auto", "cpu", "cuda", "cuda:0"]
PROGRAM, VARIABLE = "ratecast-serve", "_RATECAST_SERVE_COMPLETE"
SHELLS = {"bash": BashComplete, "zsh": ZshComplete, "fish": FishComplete}
METAVARS = {"checkpoints": "DIR", "host": "ADDRESS", "device": "DEVICE"}
COMPLETIONS = {
    "checkpoints": click.Path(file_okay=False).shell_complete,
    "device": click.Choice(DEVICES).shell_complete,
}
EXAMPLES = """\b
Examples:
  python -m app --checkpoints checkpoints
  python -m app --checkpoints checkpoints --port 8080 --workers 4
  python -m app --checkpoints checkpoints --check
  eval "$(ratecast-serve --completion bash)"

Every other setting is a RATECAST_… variable; docs/http-api.md lists them."""


def _setting_options(command: Callable[..., None]) -> Callable[..., None]:
    for name, text in reversed(OPTIONS.items()):
        command = click.option(
            f"--{name}",
            metavar=METAVARS.get(name, "N"),
            help=f"{text} ({PREFIX}{name.upper()})",
            shell_complete=COMPLETIONS.get(name),
        )(command)
    return command


def _completion(ctx: click.Context, _param: click.Parameter, shell: str | None) -> None:
    if shell is not None:
        click.echo(SHELLS[shell](ctx.command, {}, PROGRAM, VARIABLE).source())
        ctx.exit()


@click.command(epilog=EXAMPLES, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@_setting_options
@click.option(
    "--check", is_flag=True, help="Check settings, checkpoint, store and address, print what was found, and exit."
)
@click.option("--json", "as_json", is_flag=True, help="With --check: print one JSON object.")
@click.option(
    "--completion",
    type=click.Choice(list(SHELLS)),
    is_eager=True,
    expose_value=False,
    callback=_completion,
    help=f"Print the completion script of the program {PROGRAM} for a shell.",
)
@click.version_option(package_name="ratecast", message="ratecast %(version)s", help="Print the release of Ratecast.")
def serve(check: bool, as_json: bool, **settings: str | None) -> None:
    """Serve the current checkpoint over HTTP."""
    if as_json and not check:
        raise click.UsageError("--json goes with --check")
    for name, value in settings.items():
        if value is not None:
            os.environ[PREFIX + name.upper()] = value
    from app.server import launcher  # noqa: PLC0415 - imports torch

    if not check:
        launcher.run()
        return
    found = launcher.check()
    width = max(map(len, found))
    click.echo(json.dumps(found) if as_json else "\n".join(f"{name:<{width}}  {text}" for name, text in found.items()))


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the service until a signal stops it. Bad usage ends with one line and exit code 2."""
    try:
        serve.main(arguments, standalone_mode=False, complete_var=VARIABLE)
    except click.ClickException as error:
        click.echo(f"ratecast: {error.format_message()}", err=True)
        sys.exit(2)
    except click.Abort:  # Ctrl-C before the service handles signals
        sys.exit(130)


if __name__ == "__main__":
    main()
