"""Format the help of the command line: commands in groups, whole sentences, and columns that fit a narrow terminal."""

import inspect
import shutil
from collections.abc import Sequence
from typing import Any

from typer.core import TyperCommand, TyperGroup

WIDTH = 80
"""Columns of help on terminals that have at least as many."""

GROUPS = {
    "Data": ("init", "data", "review", "forget", "monitor"),
    "Run": ("plan", "run", "retrain", "join"),
    "Look": ("status", "report", "open", "why", "ui", "chat"),
    "Compare": ("compare", "sweep", "compare-logs", "methods"),
    "Promote": ("promote", "approve", "rollback", "evidence"),
    "Serve": ("serve", "up"),
    "Workspace": ("new", "use", "rounds", "doctor", "verify", "share", "backup", "restore", "delta", "merge", "tidy"),
}
"""The groups of `ratchet --help`, and the commands of each in the order in which they are shown."""


def first_sentence(docstring: str | None) -> str:
    """Return the first sentence of a docstring, whole and in one line."""
    paragraph = " ".join(inspect.cleandoc(docstring or "").partition("\n\n")[0].split())
    return paragraph.partition(". ")[0].rstrip(".") + "."


def settings() -> dict[str, Any]:
    """Return the settings that fit help to the terminal, at most `WIDTH` columns; the library would use at least 50."""
    return {"terminal_width": min(shutil.get_terminal_size().columns, WIDTH) - 1}


class Command(TyperCommand):
    """A command, with arguments and options in columns that fit."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        _write_parameters(self, ctx, formatter)


class Commands(TyperGroup):
    """All commands, in groups."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        self.format_commands(ctx, formatter)
        _write_parameters(self, ctx, formatter)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the groups, with the same column widths in each."""
        width = max(map(len, self.list_commands(ctx)))
        for title, names in GROUPS.items():
            rows = [(f"{name:<{width}}", self.commands[name].get_short_help_str()) for name in names]
            _write_rows(title, rows, formatter)


class Subcommands(TyperGroup):
    """A command with subcommands, in columns that fit."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        names = self.list_commands(ctx)
        width = max(map(len, names))
        rows = [(f"{name:<{width}}", self.commands[name].get_short_help_str()) for name in names]
        _write_rows("Commands", rows, formatter)
        _write_parameters(self, ctx, formatter)


def _write_parameters(command: Any, ctx: Any, formatter: Any) -> None:
    for title, kind in (("Arguments", "argument"), ("Options", "option")):
        records = [param.get_help_record(ctx) for param in command.get_params(ctx) if param.param_type_name == kind]
        _write_rows(title, [record for record in records if record], formatter)


def _write_rows(title: str, rows: Sequence[tuple[str, str]], formatter: Any) -> None:
    """Write a section of two columns. If the first cell is wider than a third of the line, the second begins on the next line."""
    if rows:
        with formatter.section(title):
            formatter.write_dl(rows, col_max=max(formatter.width // 3, 10))
