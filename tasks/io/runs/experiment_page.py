"""The page of our experiment in MLflow: its description, and the columns that its table of runs begins with."""

import json
from collections.abc import Mapping

VIEW = "ratchet"
"""The name of the view, which an address asks for."""
DESCRIPTION = """\
Every run of this workspace.

- A run of `ratchet run` is a row that opens (▸) to one run for each stage. Its name says the profile, the candidate and what ran; its metrics are those of the
  candidate: `domain_loss` is its level, `domain_loss_change` the difference to the base model, `_low` and `_high` the ends of the interval of either.
- A stage that did not run again is tagged `ratchet.cached`, and `ratchet.produced_by` is the run that made its outputs. A flow in which nothing ran is tagged
  `ratchet.ran = nothing`.
- A run of a stage has its settings as parameters, its inputs by DVC's hash as data sets, and its training as metrics by step.
"""
COLUMNS = (
    "attributes.`Dataset`",
    "tags.`verdict`",
    "metrics.`domain_loss`",
    "metrics.`domain_loss_change`",
    "metrics.`domain_loss_change_low`",
    "metrics.`domain_loss_change_high`",
    "metrics.`general_loss_change`",
    "metrics.`general_loss_change_high`",
    "tags.`methods`",
    "tags.`base`",
    "tags.`sources`",
    "attributes.`Source`",
    "attributes.`Version`",
)
"""MLflow's names of the columns, in order; name, age and duration come before them."""
KIND = {"mlflow.experimentKind": "custom_model_development"}
"""The kind, which decides whether MLflow's pages begin with runs or with traces."""
TAGS: Mapping[str, str] = {
    **KIND,
    "mlflow.note.content": DESCRIPTION,
    f"mlflow.sharedViewState.{VIEW}": json.dumps({"selectedColumns": COLUMNS}),
}
"""The tags of the experiment that MLflow's pages read."""


def missing(tags: Mapping[str, str]) -> dict[str, str]:
    """Return the tags that an experiment lacks, or has in an earlier state. A description that somebody wrote is theirs."""
    written = {"mlflow.note.content"} & tags.keys()
    return {name: value for name, value in TAGS.items() if name not in written and tags.get(name) != value}


def address(experiment: str) -> str:
    """Return the part of an address after the host: the table of runs, with our columns."""
    # MLflow's own front page, and the experiment's, open on prompts and traces, of which there are none here.
    return f"#/experiments/{experiment}/runs?viewStateShareKey={VIEW}&workflowType=machine_learning"
