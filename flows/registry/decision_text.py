"""Write a decision of the gate as Markdown, for Prefect's pages: what was decided, and each measure that it was decided by."""

from collections.abc import Mapping
from typing import Any

from flows.registry.history import PromotionDecision


def markdown(decision: PromotionDecision) -> str:
    """Return a decision as Markdown: its verdict and reason, and a table of the checks."""
    lines = [
        f"**Version {decision.version} ({decision.name}): {decision.verdict}.** {decision.reason}",
        "",
        f"It had to beat {f'version {decision.champion}' if decision.champion else 'the model that all began with'}. "
        f"This was look {decision.look}, at an error level of {decision.level:.2g}.",
        "",
        "| measure | against | items | worse by | allowed | finding |",
        "| --- | --- | ---: | --- | ---: | --- |",
        *(_row(check) for check in decision.checks),
    ]
    return "\n".join(lines)


def _row(check: Mapping[str, Any]) -> str:
    worse = check["worse_by"]
    interval = f"{worse['value']:+.3f} [{worse['low']:+.3f}, {worse['high']:+.3f}]" if worse else "not measured"
    cells = (check["measure"], check["bar"], check["items"], interval, f"{check['margin']:.3f}", check["finding"])
    return f"| {' | '.join(map(str, cells))} |"
