"""MLflow's model registry: a mirror of the promotion history, completed whenever MLflow has missed something."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tasks.io.runs import logged_models, run_store
from tasks.io.runs.logged_models import CANDIDATE
from tasks.io.system import progress

NAME = "ratchet"
NUMBER = "ratchet.version"
"""The tag that holds our number of a version. MLflow's own is the same, unless versions were deleted there."""


@dataclass(frozen=True)
class Version:
    """A model version: a candidate that the gate has judged."""

    number: int
    candidate: str
    description: str
    tags: dict[str, str]


def mirror(versions: Sequence[Version], aliases: dict[str, int]) -> bool:
    """Register missing versions with their last decision, and set the aliases. Returns False, with a warning, if MLflow does not answer."""
    try:
        client, experiment = run_store.connect()
        known = _known(client)
        mlflow_numbers = {version.number: _registered(client, experiment, version, known) for version in versions}
        _set_aliases(client, {alias: mlflow_numbers[number] for alias, number in aliases.items()})
    except run_store.outages() as error:
        progress.say(f"MLflow ({run_store.shown()}) does not answer; its registry is set right next time. {error}")
        return False
    return True


def _known(client: Any) -> dict[tuple[str, str], Any]:
    """Return MLflow's versions by our number and candidate: two workspaces may share a registry."""
    if not client.search_registered_models(f"name = '{NAME}'"):
        client.create_registered_model(
            NAME, description="Every model that the gate has judged; `champion` is in place."
        )
    versions = client.search_model_versions(f"name = '{NAME}'")
    return {(version.tags.get(NUMBER, ""), version.tags.get(CANDIDATE, "")): version for version in versions}


def _registered(client: Any, experiment: str, version: Version, known: dict[tuple[str, str], Any]) -> str:
    """Return MLflow's number of a version, registered or updated to the last decision."""
    registered = known.get((str(version.number), version.candidate))
    if registered is None:
        return _register(client, experiment, version)
    if registered.description != version.description:
        client.update_model_version(NAME, registered.version, version.description)
    for name, value in version.tags.items():
        if registered.tags.get(name) != value:
            client.set_model_version_tag(NAME, registered.version, name, value)
    return str(registered.version)


def _register(client: Any, experiment: str, version: Version) -> str:
    tags = version.tags | {NUMBER: str(version.number), CANDIDATE: version.candidate}
    source = f"ratchet:{version.candidate}"  # files stay in the store of versions, which the hash names
    run = logged_models.measuring_run(client, experiment, version.candidate)
    created = client.create_model_version(NAME, source, run, tags=tags, description=version.description)
    return str(created.version)


def _set_aliases(client: Any, wanted: dict[str, str]) -> None:
    present = client.get_registered_model(NAME).aliases
    for alias in ("champion", "challenger"):
        if alias in wanted and str(present.get(alias)) != wanted[alias]:
            client.set_registered_model_alias(NAME, alias, wanted[alias])
        elif alias in present and alias not in wanted:
            client.delete_registered_model_alias(NAME, alias)
