"""Models as MLflow entities: the model that a flow offers for promotion, with its figures, and the run that measured it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tasks.io.runs import experiment_page

CANDIDATE = "ratchet.candidate"
"""The tag with the hash of a model's files. An entity has it, the flow's run that measured the model, and the registered version."""


def record(client: Any, experiment: str, run: str, event: Mapping[str, Any]) -> None:
    """Record a model (`name`, `candidate`, `metrics`, `dataset`, `time`) as the output of a run. Equal files are one entity, however often they are measured.

    On a server of MLflow 2, which has no such entities, nothing is recorded.
    """
    from mlflow.exceptions import MlflowException

    try:
        _record(client, experiment, run, event)
    except MlflowException as error:
        if not _lacks_models(error):
            raise


def _record(client: Any, experiment: str, run: str, event: Mapping[str, Any]) -> None:
    from mlflow.entities import LoggedModelOutput, Metric

    model = find(client, experiment, event["candidate"])
    if model is None:
        model = client.create_logged_model(experiment, event["name"], run, tags={CANDIDATE: event["candidate"]})
        client.finalize_logged_model(model.model_id, "READY")
    client.log_outputs(run, [LoggedModelOutput(model.model_id, 0)])
    places = [
        {"dataset_name": path, "dataset_digest": digest[:36]} for path, digest in event.get("dataset", {}).items()
    ]
    measured_on = places[0] if places else {}
    metrics = [
        Metric(name, value, event["time"], 0, model_id=model.model_id, run_id=run, **measured_on)
        for name, value in event["metrics"].items()
    ]
    client.log_batch(run, metrics=metrics)


def find(client: Any, experiment: str, candidate: str) -> Any:
    """Return the entity of the model with this hash of its files; None without one."""
    models = client.search_logged_models([experiment], f"tags.`{CANDIDATE}` = '{candidate}'", max_results=1)
    return models[0] if models else None


@dataclass(frozen=True)
class Measured:
    """The MLflow pages with the measurements of a model."""

    run: str
    """The MLflow run that first measured it."""
    model: str
    """The entity with the figures of all runs."""

    def links(self, experiment: str) -> str:
        """Return links to the pages of both, as Markdown for a page of the same MLflow."""
        place = f"#/experiments/{experiment}"
        model, run = (
            f"{place}/{page}?{experiment_page.TRAINING}" for page in (f"models/{self.model}", f"runs/{self.run}")
        )
        return f"[Figures of this model]({model}) · [the run that measured it]({run})"


def measured(client: Any, experiment: str, candidate: str) -> Measured | None:
    """Return the pages that measured the model with this hash of its files; None if MLflow does not know it."""
    from mlflow.exceptions import MlflowException

    try:
        model = find(client, experiment, candidate)
    except MlflowException as error:
        if not _lacks_models(error):
            raise
        return None
    return Measured(str(model.source_run_id), str(model.model_id)) if model else None


def link_version(client: Any, model: str, name: str, version: str) -> None:
    """Let the page of an entity name the registered version that it became."""
    tag = "mlflow.modelVersions"
    known = json.loads(client.get_logged_model(model).tags.get(tag, "[]"))
    if (entry := {"name": name, "version": version}) not in known:
        client.set_logged_model_tags(model, {tag: json.dumps([*known, entry])})


def _lacks_models(error: Exception) -> bool:
    """Return True if a server answered that it does not support logged models."""
    return getattr(error, "error_code", None) == "ENDPOINT_NOT_FOUND"
