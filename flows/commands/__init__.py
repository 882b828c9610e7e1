"""The `ratchet` command line. A command is a file of this folder, and its name is the file's, with hyphens for underscores.

A command with subcommands is a folder, whose files are the subcommands.
"""

import importlib
import json
import os
import pkgutil
import sys
from collections.abc import Callable, Iterable, Sequence
from types import ModuleType
from typing import TYPE_CHECKING

import typer

from flows.commands import _help, _terminal
from flows.commands._exit_codes import ExitCode
from tasks.core import environment
from tasks.core.text import visible

if TYPE_CHECKING:
    from flows.commands._reports import Report

HELP = "Adapts a language model to your domain in a closed loop, and never slips back."
JSON = "--json"
"""The option by which a command prints its report, or its error, as one JSON object."""


def names() -> list[str]:
    """Return the commands, by file name."""
    return _names_in(__path__)


def subcommands(name: str) -> list[str]:
    """Return the subcommands of a command, by file name; most have none."""
    return _names_in(getattr(_module(name), "__path__", []))


def full_names() -> list[str]:
    """Return the commands, each followed by its subcommands: `data`, `data diff`, …"""
    return [full for name in names() for full in (name, *(f"{name} {sub}" for sub in subcommands(name)))]


def function(name: str) -> Callable[..., object]:
    """Return the function of a command or of a subcommand (`data show`), which has the name of its file."""
    module = _module(name)
    command: Callable[..., object] = getattr(module, module.__name__.rpartition(".")[2])
    return command


def application() -> typer.Typer:
    """Return the application with all commands. Each file holds a function of its own name, whose docstring is its help."""
    app = typer.Typer(
        cls=_help.Commands,
        help=HELP,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        context_settings=_help.settings(),
    )
    app.callback()(_settle)
    for name in names():
        if subcommands(name):
            app.add_typer(_group(name), name=name)
        else:
            _add(app, name, name)
    return app


def _group(name: str) -> typer.Typer:
    """Return a command with subcommands. Called without one, it runs its own function."""
    run = function(name)
    group = typer.Typer(cls=_help.Subcommands, short_help=_help.first_sentence(run.__doc__), rich_markup_mode=None)
    group.callback(invoke_without_command=True)(run)
    for sub in subcommands(name):
        _add(group, sub, f"{name} {sub}")
    return group


def _add(app: typer.Typer, name: str, full_name: str) -> None:
    run = function(full_name)
    app.command(name, cls=_help.Command, short_help=_help.first_sentence(run.__doc__))(run)


def _module(name: str) -> ModuleType:
    return importlib.import_module(f"flows.commands.{name.replace('-', '_').replace(' ', '.')}")


def _names_in(folders: Iterable[str]) -> list[str]:
    modules = (module.name for module in pkgutil.iter_modules(folders))
    return sorted(name.replace("_", "-") for name in modules if not name.startswith("_"))


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command and exit with its `ExitCode`.

    An error that the user can fix is one message on stderr, or with `--json` an object on stdout; RATCHET_TRACEBACK=1 shows its
    traceback.
    """
    _terminal.open_closed_streams()
    given = list(sys.argv[1:] if arguments is None else arguments)
    sys.exit(_run_as_json(given) if JSON in given and "--help" not in given else _run(given))


def _settle(context: typer.Context) -> None:
    if not _terminal.may_colour():
        context.color = False


def _run(arguments: list[str]) -> int:
    try:
        return _exit_code(_invoke(arguments))
    except typer.TyperException as error:
        error.show()  # type: ignore[attr-defined]  # every error of the parser has this method
        return error.exit_code
    except typer.Abort as error:  # Ctrl-C or Ctrl-D at a question
        typer.echo("Aborted.", err=True)
        return ExitCode.INTERRUPTED if isinstance(error.__context__, KeyboardInterrupt) else ExitCode.FAILED
    except Exception as error:
        from tasks.io.system import process

        if os.environ.get(environment.TRACEBACK) or not isinstance(error, process.expected()):
            raise
        typer.echo(process.explain(error), err=True)
        return ExitCode.FAILED


def _run_as_json(arguments: list[str]) -> int:
    """Print the report or the error of a command as JSON; whatever else is printed meanwhile goes to stderr."""
    from flows.commands import _as_json

    try:
        with _as_json.stdout_kept():
            returned = _invoke(arguments)
    except Exception as error:
        code, failure = _as_json.failure(error, arguments)
        is_read = _print(_as_json.plain(failure))
        if code == ExitCode.FAILED and os.environ.get(environment.TRACEBACK):
            raise
        return code if is_read else ExitCode.FAILED
    if returned is not None and not isinstance(returned, int) and not _print(_as_json.plain(returned)):
        return ExitCode.FAILED
    return _exit_code(returned)


def _print(value: object) -> bool:
    """Print JSON. Control characters of the data are written as JSON escapes, so that none acts on a terminal.

    Returns False if it could not be written: to a closed pipe, which is not reported, or to a full disk.
    """
    text = visible.escaped(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False))
    try:
        typer.echo(text)
    except OSError as error:
        from tasks.io.system import process

        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # else flushing the rest of the buffer would fail again at exit
        if not isinstance(error, BrokenPipeError):
            typer.echo(process.explain(error), err=True)
        return False
    return True


def _invoke(arguments: list[str]) -> "Report | int | None":
    """Run one command. Returns its report, the exit code that it asked for, or None."""
    returned: Report | int | None = application()(args=arguments, prog_name="ratchet", standalone_mode=False)
    return returned


def _exit_code(returned: "Report | int | None") -> int:
    if returned is None or isinstance(returned, int):
        return returned or ExitCode.DONE
    return ExitCode.DONE if returned.holds else ExitCode.DOES_NOT_HOLD
