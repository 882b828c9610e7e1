"""Define the schema of `--json`: the report of each command that has one. docs/generate.py writes its reference."""

from flows.commands import _comparisons, _data_reports, _plan_report, _reports, _status_report, _verify_report

REPORTS: dict[str, type[_reports.Report]] = {
    "plan": _plan_report.PlanReport,
    "status": _status_report.StatusReport,
    "doctor": _reports.DoctorReport,
    "methods": _reports.MethodsReport,
    "compare": _comparisons.CompareReport,
    "sweep": _comparisons.SweepReport,
    "compare-logs": _comparisons.CompareLogsReport,
    "why": _comparisons.WhyReport,
    "data": _data_reports.DataReport,
    "data sample": _data_reports.DataSampleReport,
    "data search": _data_reports.DataSearchReport,
    "data show": _data_reports.DataShowReport,
    "data diff": _data_reports.DataDiffReport,
    "data clusters": _data_reports.DataClustersReport,
    "data sql": _data_reports.DataSqlReport,
    "verify": _verify_report.VerifyReport,
}
"""Command → its report."""
