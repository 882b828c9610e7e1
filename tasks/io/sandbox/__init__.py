"""Run programs with their tests, by the thousand, isolated from the machine."""

from tasks.io.sandbox.connection import Failed
from tasks.io.sandbox.judge import Judge
from tasks.io.sandbox.levels import probe
from tasks.io.sandbox.pool import outputs, run
from tasks.io.sandbox.records import Case, Level, Limits, Outputs, Verdict

__all__ = ["Case", "Failed", "Judge", "Level", "Limits", "Outputs", "Verdict", "outputs", "probe", "run"]
