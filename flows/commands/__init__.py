"""The `ratchet` command line. A command is a file of this folder, and its name is the file's, with hyphens for underscores."""

import importlib
import os
import pkgutil
import sys
from collections.abc import Sequence

import typer

from tasks.core import environment

HELP = "Adapts a language model to your domain in a closed loop, and never slips back."


def names() -> list[str]:
    """Return the commands, by file name."""
    modules = (module.name for module in pkgutil.iter_modules(__path__))
    return sorted(name.replace("_", "-") for name in modules if not name.startswith("_"))


def application() -> typer.Typer:
    """Return the application with all commands. Each file holds a function of its own name, whose docstring is its help."""
    app = typer.Typer(
        help=HELP, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None
    )
    app.callback()(lambda: None)
    for name in names():
        module = name.replace("-", "_")
        app.command(name)(getattr(importlib.import_module(f"flows.commands.{module}"), module))
    return app


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command. An error that a user can correct is one message and exit code 1; RATCHET_TRACEBACK=1 shows its traceback."""
    if "" not in sys.path:
        sys.path.insert(0, "")  # the project is where one stands, as with `python -m`
    try:
        application()(args=arguments, prog_name="ratchet")
    except (ValueError, FileNotFoundError, RuntimeError, OSError) as error:
        if os.environ.get(environment.TRACEBACK):
            raise
        from tasks.io.system.process import explain

        typer.echo(explain(error), err=True)
        sys.exit(1)
