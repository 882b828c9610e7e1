"""Write a decision of the gate as Markdown, for Prefect's pages: the decision, and each measure that it rests on."""

from collections.abc import Mapping
from typing import Any

from flows.registry.history import PromotionDecision


def markdown(decision: PromotionDecision) -> str:
    """Return a decision as Markdown: its verdict and reason, and a table of the checks."""
    lines = [
        f"**Version {decision.version} ({decision.name}): {decision.verdict}.** {decision.reason}",
        "",
        f"It had to beat {f'version {decision.champion}' if decision.champion else 'the base model'}. "
        f"This was look {decision.look}, at an error level of {decision.level:.2g}.",
        "",
        "| measure | against | items | worse by | allowed | finding |",
        "| --- | --- | ---: | --- | ---: | --- |",
        *(_row(check) for check in decision.checks),
    ]
    return "\n".join(lines)


def _row(check: Mapping[str, Any]) -> str:
    cells = (
        check["measure"],
        check["bar"],
        check["items"],
        _interval(check["worse_by"]),
        f"{check['margin']:.3f}",
        check["finding"],
    )
    return f"| {' | '.join(map(str, cells))} |"


def _interval(worse_by: Mapping[str, float | None] | None) -> str:
    """Return a difference with its bounds. With few items there are no bounds, and if a model diverged there is no difference."""
    if worse_by is None:
        return "not measured"
    if worse_by["value"] is None:
        return "no number"
    bounds = (worse_by["low"], worse_by["high"])
    shown = ", ".join("none" if bound is None else f"{bound:+.3f}" for bound in bounds)
    return f"{worse_by['value']:+.3f} [{shown}]"
