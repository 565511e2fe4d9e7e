"""`ratecast serve`, or `python -m app`: its options become RATECAST_… variables, which workers read.

`app/server/launcher.py` does the rest.

Nothing slow is imported before the options have been read, so that help and completion are fast.
"""

from __future__ import annotations

import gc
import json
import os
import sys
from collections.abc import Callable, Sequence
from types import ModuleType

import click

from app.options import OPTIONS

PREFIX = "RATECAST_"
DEVICES = ["auto", "cpu", "cuda", "cuda:0"]
PROGRAM = "ratecast serve"
METAVARS = {"checkpoints": "DIR", "host": "ADDRESS", "device": "DEVICE"}
COMPLETIONS = {
    "checkpoints": click.Path(file_okay=False).shell_complete,
    "device": click.Choice(DEVICES).shell_complete,
}
EXAMPLES = """\b
Examples:
  ratecast serve --checkpoints checkpoints
  ratecast serve --checkpoints checkpoints --port 8080 --workers 4
  ratecast serve --checkpoints checkpoints --check

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


@click.command(epilog=EXAMPLES, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@_setting_options
@click.option(
    "--check", is_flag=True, help="Check settings, checkpoint, store and address, print what was found, and exit."
)
@click.option("--json", "as_json", is_flag=True, help="With --check: print one JSON object.")
@click.version_option(package_name="ratecast", message="ratecast %(version)s", help="Print the release of Ratecast.")
def serve(check: bool, as_json: bool, **settings: str | None) -> None:
    """Serve the current checkpoint over HTTP."""
    if as_json and not check:
        raise click.UsageError("--json goes with --check")
    for name, value in settings.items():
        if value is not None:
            os.environ[PREFIX + name.upper()] = value
    gc.disable()  # imports make 300,000 objects, hardly one in a cycle: `app.memory` enables it
    _leave_out_slow_imports()
    from app.server import verification  # noqa: PLC0415 - imports torch

    with verification.begun():
        from app.server import launcher  # noqa: PLC0415 - imports all else

    if not check:
        launcher.run()
        return
    found = launcher.check()
    width = max(map(len, found))
    click.echo(json.dumps(found) if as_json else "\n".join(f"{name:<{width}}  {text}" for name, text in found.items()))


class _NoPandas:
    """Finds no pandas, whether it is installed or not."""

    @staticmethod
    def find_spec(name: str, *_: object) -> None:
        """Raise ModuleNotFoundError for pandas; find nothing else either."""
        if name == "pandas":
            raise ModuleNotFoundError(name)


def _leave_out_slow_imports() -> None:
    """Let libraries do without what takes long to import and has no use here.

    pyarrow looks for pandas once, when it makes its first array: 0.3 s. torch imports its kernels for tensors without
    data, which only `torch.compile` and the like use, and with them its decompositions: 0.2 s, a quarter of its import.
    """
    sys.modules.setdefault("torch._meta_registrations", ModuleType("torch._meta_registrations"))
    import pyarrow as pa  # noqa: PLC0415 - takes 0.1 s

    sys.meta_path.insert(0, _NoPandas)
    pa.array([])
    sys.meta_path.remove(_NoPandas)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the service until a signal stops it. Bad usage ends with one line and exit code 2."""
    try:
        serve.main(arguments, PROGRAM, standalone_mode=False)
    except click.ClickException as error:
        click.echo(f"ratecast: {error.format_message()}", err=True)
        sys.exit(2)
    except click.Abort:  # Ctrl-C before the service handles signals
        sys.exit(130)
    finally:
        gc.enable()


if __name__ == "__main__":
    main()
