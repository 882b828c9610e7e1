"""Runs programs with their tests, by the thousand, where they can do no harm."""

from tasks.io.sandbox.client import outputs, run
from tasks.io.sandbox.levels import probe
from tasks.io.sandbox.records import Case, Level, Limits, Outputs, Verdict

__all__ = ["Case", "Level", "Limits", "Outputs", "Verdict", "outputs", "probe", "run"]
