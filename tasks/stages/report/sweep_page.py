"""Make the page of a sweep: `python -m tasks.stages.report.sweep_page < REQUEST`.

A request is JSON, which `flows.experiments.sweeps.outcome` writes. Flows import no stage, so this runs in a process of its own.
"""

import sys
from pathlib import Path
from typing import Any

from tasks.core.config import Config
from tasks.stages.report.render.pages import chart_page
from tasks.stages.report.render.parallel import Dimension, parallel_coordinates


class Line(Config):
    """An axis of the plot."""

    name: str
    values: list[Any]
    """The value of each point; null for a figure of a training that diverged."""
    is_logarithmic: bool = False
    is_reversed: bool = False


class Request(Config):
    """A page to make."""

    to: Path
    title: str
    lead: str
    best: int | None
    """The number of the chosen point; null if all diverged."""
    dimensions: list[Line]
    head: list[str]
    rows: list[list[str]]
    notes: list[str]


def main() -> int:
    """Read a request and write its page."""
    request = Request.model_validate_json(sys.stdin.read())
    figure = request.dimensions[-1]
    values = [float("nan") if value is None else value for value in figure.values]
    given = [*request.dimensions[:-1], figure.model_copy(update={"values": values})]
    dimensions = [Dimension(one.name, one.values, one.is_logarithmic, one.is_reversed) for one in given]
    chart = parallel_coordinates(dimensions, request.best, f"Every point by its settings and its {figure.name}")
    page = chart_page(
        title=request.title, lead=request.lead, chart=chart, head=request.head, rows=request.rows, notes=request.notes
    )
    request.to.write_text(page, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
