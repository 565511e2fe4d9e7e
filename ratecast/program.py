"""The program `ratecast`: every command of the offline job, and `serve`. `python -m ratecast` does the same."""

from __future__ import annotations

import sys

EXIT_BAD_INPUT = 2
OURS = ("app", "models", "training")
SERVE = "serve"


def main() -> int:
    """Run a command and return its exit code. What an installation lacks is told in one line."""
    command = next((word for word in sys.argv[1:] if not word.startswith("-")), None)
    try:
        return _run()
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package in OURS:
            raise
        extra = SERVE if command == SERVE else "train"
        sys.stderr.write(f"ratecast: {lacking(package, command, extra)}\n")
        return EXIT_BAD_INPUT


def lacking(package: str, command: str | None, extra: str) -> str:
    """What is said where a package is missing: what to install."""
    said = "ratecast" if command is None else f"ratecast {command}"
    return (
        f"{said} needs the package {package}, which is not installed: pip install 'ratecast[train,serve]', "
        f"or 'ratecast[{extra}]' for this command alone"
    )


def _run() -> int:
    from app.__main__ import main as serve
    from app.__main__ import serve as serve_command
    from training.cli import program

    if sys.argv[1:2] == [SERVE]:
        serve(sys.argv[2:])
        return 0
    program.cli.add_section("Serve", serve_command)
    return program.main()
