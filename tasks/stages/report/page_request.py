"""Make a page on request, with facts that no output of a stage may hold: `python -m tasks.stages.report.page_request < REQUEST`.

A request is JSON, which `flows.experiments.report_page` writes. Flows import no stage, so this runs in a process of its own.
"""

import gc
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from tasks.core.config import Config
from tasks.stages.report.config import STAGE, StageConfig
from tasks.stages.report.data.report_data import Change, ReportData, Surroundings
from tasks.stages.report.reading import Measured, read_models, read_workspace
from tasks.stages.report.render.pages import html_page


class Side(Config):
    """One of two models to compare."""

    name: str
    results: Path
    metrics: Path | None = None
    trained: Path | None = None


class Request(Config):
    """A page to make."""

    to: Path
    config: StageConfig
    sides: list[Side] = []  # noqa: RUF012  # pydantic copies it
    """Two models; empty for all models of the workspace."""
    examples: Path = Path(STAGE.reads["test"])
    """The table of examples to which the items belong."""
    documents: Path = Path(STAGE.reads["documents"])
    """The table of texts to which the items belong."""
    surroundings: dict[str, Any]


def main() -> int:
    """Read a request, write its page, and print the first verdict as JSON."""
    gc.disable()  # hundreds of thousands of records live until this process ends, so a collection would free nothing
    request = Request.model_validate_json(sys.stdin.read())
    try:
        data = replace(_data(request), surroundings=_surroundings(request.surroundings))
        request.to.parent.mkdir(parents=True, exist_ok=True)
        request.to.write_text(html_page(data), encoding="utf-8")
    except (ValueError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(json.dumps({"verdict": data.verdicts[data.lead].sentence}))
    return 0


def _data(request: Request) -> ReportData:
    inputs = {name: Path(path) for name, path in STAGE.reads.items()} | {
        "test": request.examples,
        "documents": request.documents,
    }
    if not request.sides:
        return read_workspace(inputs, request.config)
    models = [Measured(side.name, side.results, side.metrics, side.trained) for side in request.sides]
    return read_models(models, inputs, request.config.report)


def _surroundings(given: dict[str, Any]) -> Surroundings:
    return Surroundings(**{**given, "changes": [Change(**change) for change in given.get("changes", ())]})


if __name__ == "__main__":
    sys.exit(main())
