"""Hold the report of `ratchet verify` as a record."""

from collections.abc import Sequence
from dataclasses import dataclass

from flows.commands._reports import Report
from flows.registry.verification import Check


@dataclass(frozen=True)
class VerifyReport(Report):
    """The report of `ratchet verify`."""

    checks: Sequence[Check]

    @property
    def holds(self) -> bool:
        return all(check.holds for check in self.checks)
