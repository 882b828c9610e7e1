"""Define the exit codes of all commands."""

import signal
from enum import IntEnum


class ExitCode(IntEnum):
    """The exit code of a command; `MEANINGS` explains each."""

    DONE = 0
    FAILED = 1
    WRONG_CALL = 2
    DOES_NOT_HOLD = 3
    INTERRUPTED = 128 + signal.SIGINT
    TERMINATED = 128 + signal.SIGTERM


MEANINGS = {
    ExitCode.DONE: "The command did its work.",
    ExitCode.FAILED: "An error that you can fix stopped the command, such as the name of a stage, a model or a version that this workspace does "
    "not have; one message gives the cause and the fix. Finished work is kept.",
    ExitCode.WRONG_CALL: "The call is wrong in every workspace: a command or an option that does not exist, or a value of the wrong form. Nothing was done.",
    ExitCode.DOES_NOT_HOLD: "The command did its work, and a check of it does not hold: `doctor` found something that blocks a run, "
    "or `verify` found something that is not as recorded.",
    ExitCode.INTERRUPTED: "Ctrl-C ended it. What was finished is kept.",
    ExitCode.TERMINATED: "A plain `kill` (SIGTERM) ended it. What was finished is kept.",
}
