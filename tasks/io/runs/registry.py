"""MLflow's model registry as a mirror of the promotion history. Entries that MLflow missed are added later."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.core import environment
from tasks.io.runs import logged_models, run_links, run_store
from tasks.io.runs.logged_models import CANDIDATE, Measured
from tasks.io.system import progress
from tasks.io.weights import mlflow_format

NAME = "ratchet"
"""The name of served models (`ratchet@3`), and their name in MLflow unless the environment sets another."""
BREAK = "\n\n"
"""The text between the decision on a version and the links, in its description."""
NUMBER = "ratchet.version"
"""The tag with our number of a version. MLflow's own number is the same, unless versions were deleted there."""


@dataclass(frozen=True)
class Version:
    """A model version: a candidate that the gate has judged."""

    number: int
    candidate: str
    description: str
    tags: dict[str, str]
    folder: Path
    """The folder of its files, which a promoted version has."""


def mirror(versions: Sequence[Version], aliases: dict[str, int]) -> bool:
    """Register missing versions with their last decision, and set the aliases. Returns False, with a warning, if MLflow does not answer."""
    try:
        client, experiment = run_store.connect()
        known = _known(client)
        if clash := _of_another(versions, known):
            progress.say(
                f"MLflow's registered model {run_store.name()!r} has another version {clash} than this workspace: it belongs to another one, "
                f"and nothing was registered. export {environment.NAME}=… gives this workspace a name of its own."
            )
            return False
        mlflow_numbers = {version.number: _registered(client, experiment, version, known) for version in versions}
        _set_aliases(client, {alias: mlflow_numbers[number] for alias, number in aliases.items()})
    except run_store.outages() as error:
        progress.say(
            f"MLflow ({run_store.shown()}) does not answer; its registry is set right next time. {run_store.reason(error)}"
        )
        return False
    return True


def _known(client: Any) -> dict[tuple[str, str], Any]:
    """Return MLflow's versions by our number and candidate."""
    if not client.search_registered_models(f"name = '{run_store.name()}'"):
        client.create_registered_model(
            run_store.name(), description="Every model that the gate has judged; `champion` is in place."
        )
    versions = client.search_model_versions(f"name = '{run_store.name()}'")
    return {(version.tags.get(NUMBER, ""), version.tags.get(CANDIDATE, "")): version for version in versions}


def _of_another(versions: Sequence[Version], known: dict[tuple[str, str], Any]) -> int | None:
    """Return a number for which MLflow has another candidate than this workspace; None if there is none. A number never changes its candidate."""
    numbers = {number for number, _ in known}
    clashes = (
        version.number
        for version in versions
        if (str(version.number), version.candidate) not in known and str(version.number) in numbers
    )
    return next(clashes, None)


def _registered(client: Any, experiment: str, version: Version, known: dict[tuple[str, str], Any]) -> str:
    """Register a version or update it to the last decision, and return MLflow's number of it."""
    mlflow_format.describe(version.folder)
    registered = known.get((str(version.number), version.candidate))
    if registered is None:
        return _register(client, experiment, version)
    if registered.description.partition(BREAK)[0] != version.description:
        description, _ = _described(client, experiment, version)
        client.update_model_version(run_store.name(), registered.version, description)
    for name, value in version.tags.items():
        if registered.tags.get(name) != value:
            client.set_model_version_tag(run_store.name(), registered.version, name, value)
    return str(registered.version)


def _register(client: Any, experiment: str, version: Version) -> str:
    description, measured = _described(client, experiment, version)
    tags = version.tags | {NUMBER: str(version.number), CANDIDATE: version.candidate}
    run = measured.run if measured else None
    created = client.create_model_version(run_store.name(), _source(version), run, tags=tags, description=description)
    if measured:
        logged_models.link_version(client, measured.model, run_store.name(), str(created.version))
    return str(created.version)


def _described(client: Any, experiment: str, version: Version) -> tuple[str, Measured | None]:
    """Return the description of a version, with links to its measurements, because MLflow's store keeps no link to an entity."""
    measured = logged_models.measured(client, experiment, version.candidate)
    return BREAK.join([version.description, *([measured.links(experiment)] if measured else [])]), measured


def _source(version: Version) -> str:
    """Return the folder from which MLflow opens a version; for a server, which cannot read folders of this machine, the hash of its files.

    It cannot be changed later, so a refused candidate has it too, because another decision may promote it.
    """
    return f"ratchet:{version.candidate}" if run_links.is_server() else str(version.folder.resolve())


def _set_aliases(client: Any, wanted: dict[str, str]) -> None:
    present = client.get_registered_model(run_store.name()).aliases
    for alias in ("champion", "challenger"):
        if alias in wanted and str(present.get(alias)) != wanted[alias]:
            client.set_registered_model_alias(run_store.name(), alias, wanted[alias])
        elif alias in present and alias not in wanted:
            client.delete_registered_model_alias(run_store.name(), alias)
