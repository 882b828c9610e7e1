"""Write the output of `--json`: one object on stdout, the report of a command or its error, and nothing else."""

import contextlib
import dataclasses
import math
import os
import re
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import typer

from flows.commands._exit_codes import ExitCode
from flows.commands._reports import Failure, Problem
from tasks.core.text.visible import without_passwords

PLACE = re.compile(r"(?P<where>[^\s:]+\.\w+(?::\d+)?|\w+(?:\.\w+)+|[A-Z_]{3,}=\S*): (?P<rest>.+)", re.DOTALL)
"""The head of a message that names a file and its line, a setting, or a variable of the environment."""
SENTENCE = re.compile(r"(?<=[.?!])\s+(?=[A-Z`])")


@contextlib.contextmanager
def stdout_kept() -> Iterator[None]:
    """Redirect to stderr what this process and its child processes print to stdout inside the block."""
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)


def plain(value: Any) -> Any:
    """Return a value as JSON can hold it: records become objects, numbers that are not finite null, times and other types text."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if value is None or isinstance(value, str | int | float) else str(value)


def failure(error: Exception, arguments: Sequence[str]) -> tuple[int, Failure]:
    """Return the exit code of an error, and the error as a record. The traceback of an unexpected error is printed on stderr."""
    from tasks.io.system import process

    command = without_passwords(" ".join(["ratchet", *arguments]))
    if isinstance(error, typer.TyperException):
        message, code, context = without_passwords(error.format_message()), error.exit_code, getattr(error, "ctx", None)
        help_command = f"{context.command_path if context else 'ratchet'} --help"
        return code, Failure.of(command, code, message, [Problem(command, message, help_command)])
    if isinstance(error, process.expected()):
        message = process.explain(error)
    else:
        sys.excepthook(type(error), error, error.__traceback__)
        message = f"{type(error).__name__}: {without_passwords(str(error))}. This is a bug of Ratchet; the traceback is on stderr."
    return ExitCode.FAILED, Failure.of(command, ExitCode.FAILED, message, list(problems(message, command)))


def problems(message: str, command: str) -> Iterator[Problem]:
    """Yield the problems that a message names, one a line; an indented line belongs to the line before.

    A message says where, what was found, and what would fix it, in this order: the place comes before the first colon, the finding is the
    first sentence, and the remedy is the rest.
    """
    for text in re.split(r"\n(?=\S)", message.strip()):
        match = PLACE.match(text)
        where, rest = (match["where"], match["rest"]) if match else (command, text)
        what, *remedies = SENTENCE.split(rest, maxsplit=1)
        yield Problem(where, what, remedies[0] if remedies else None)
