"""The page of our experiment in MLflow: its description, and the first columns of its table of runs."""

import json
from collections.abc import Mapping

VIEW = "ratchet"
"""The name of the view in the address."""
DESCRIPTION = """\
Every run of this workspace.

- A run of `ratchet run` is a row that opens (▸) to one run for each stage. Its name says the profile, the candidate and what ran; its metrics are those of the
  candidate: `domain_loss` is its level, `domain_loss_change` the difference to the base model, `_low` and `_high` the ends of the interval of either.
- A stage that did not run again is tagged `ratchet.cached`, and `ratchet.produced_by` is the run that made its outputs. A flow in which nothing ran is tagged
  `ratchet.ran = nothing`.
- A run of a stage has its settings as parameters, its inputs by DVC's hash as data sets, and its training as metrics by step.
"""
TRAINING = "workflowType=machine_learning"
"""The end of an address that opens MLflow's pages for trainings. Otherwise they open on prompts and traces, which exist only if
`RATCHET_TRACES` asks for them."""
CREATED, DURATION = "runDateAndNestInfo", "duration"
"""Two columns that are always shown."""
WIDTHS = {
    "attributes.`Run Name`": 330,
    "tags.`verdict`": 220,
    "metrics.`domain_loss`": 100,
    "metrics.`domain_loss_change`": 150,
    "metrics.`domain_loss_change_low`": 180,
    "metrics.`domain_loss_change_high`": 180,
    "metrics.`general_loss_change`": 155,
    "metrics.`general_loss_change_high`": 185,
    DURATION: 90,
    CREATED: 140,
    "attributes.`Dataset`": 200,
    "tags.`methods`": 180,
    "tags.`base`": 150,
    "tags.`sources`": 150,
    "attributes.`Source`": 120,
    "attributes.`Version`": 90,
}
"""MLflow's names of the columns, in order, with their widths in pixels."""
KIND = {"mlflow.experimentKind": "custom_model_development"}
"""The kind of the experiment, which decides if MLflow's pages begin with runs or with traces."""
VIEW_STATE = {
    "selectedColumns": [name for name in WIDTHS if name not in (CREATED, DURATION)],
    "columnOrder": list(WIDTHS),
    "columnWidths": WIDTHS,
}
TAGS: Mapping[str, str] = {
    **KIND,
    "mlflow.note.content": DESCRIPTION,
    f"mlflow.sharedViewState.{VIEW}": json.dumps(VIEW_STATE),
}
"""The tags of the experiment that MLflow's pages read."""


def missing(tags: Mapping[str, str]) -> dict[str, str]:
    """Return the tags that an experiment lacks, or has in an earlier version. A description that a user wrote is kept."""
    written = {"mlflow.note.content"} & tags.keys()
    return {name: value for name, value in TAGS.items() if name not in written and tags.get(name) != value}


def address(experiment: str) -> str:
    """Return the part of an address after the host: the table of runs, with our columns."""
    return f"#/experiments/{experiment}/runs?viewStateShareKey={VIEW}&{TRAINING}"
