"""The schema of `--json`: the report of each command that has one. docs/generate.py writes its reference."""

from flows.commands import _comparisons, _reports, _workspace_reports

REPORTS: dict[str, type[_reports.Report]] = {
    "plan": _workspace_reports.PlanReport,
    "status": _workspace_reports.StatusReport,
    "doctor": _reports.DoctorReport,
    "methods": _reports.MethodsReport,
    "compare": _comparisons.CompareReport,
    "compare-logs": _comparisons.CompareLogsReport,
    "why": _comparisons.WhyReport,
    "verify": _workspace_reports.VerifyReport,
}
"""Command → its report."""
