"""MLflow's registry: a mirror of the history of promotions, made anew from it whenever MLflow has missed something."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tasks.io import progress, run_store

NAME = "ratchet"
NUMBER = "ratchet.version"
"""The tag that holds our number of a version. MLflow's own is the same, unless versions were deleted there."""
CANDIDATE = "ratchet.candidate"
"""The tag that holds the hash of its files."""


@dataclass(frozen=True)
class Version:
    """A model that was judged."""

    number: int
    candidate: str
    description: str
    tags: dict[str, str]


def mirror(versions: Sequence[Version], aliases: dict[str, int]) -> bool:
    """Register what is missing, each version once, with its last verdict, and set the aliases. False, with a warning, where MLflow does not answer."""
    try:
        client, _ = run_store.connect()
        known = _known(client)
        own = {version.number: _registered(client, version, known) for version in versions}
        _set_aliases(client, {alias: own[number] for alias, number in aliases.items()})
    except run_store.outages() as error:
        progress.say(f"MLflow ({run_store.shown()}) does not answer; its registry is set right next time. {error}")
        return False
    return True


def _known(client: Any) -> dict[tuple[str, str], Any]:
    """The versions that MLflow has, by our number and the candidate: two workspaces may share a registry."""
    if not client.search_registered_models(f"name = '{NAME}'"):
        client.create_registered_model(
            NAME, description="Every model that the gate has judged; `champion` is in place."
        )
    found = client.search_model_versions(f"name = '{NAME}'")
    return {(version.tags.get(NUMBER, ""), version.tags.get(CANDIDATE, "")): version for version in found}


def _registered(client: Any, version: Version, known: dict[tuple[str, str], Any]) -> str:
    """MLflow's number of a version, which says of it what the last decision was."""
    there = known.get((str(version.number), version.candidate))
    if there is None:
        return _register(client, version)
    if there.description != version.description:
        client.update_model_version(NAME, there.version, version.description)
    for name, value in version.tags.items():
        if there.tags.get(name) != value:
            client.set_model_version_tag(NAME, there.version, name, value)
    return str(there.version)


def _register(client: Any, version: Version) -> str:
    tags = version.tags | {NUMBER: str(version.number), CANDIDATE: version.candidate}
    source = f"ratchet:{version.candidate}"  # files stay in the store of versions, which the hash names
    return str(client.create_model_version(NAME, source, tags=tags, description=version.description).version)


def _set_aliases(client: Any, wanted: dict[str, str]) -> None:
    present = client.get_registered_model(NAME).aliases
    for alias in ("champion", "challenger"):
        if alias in wanted and str(present.get(alias)) != wanted[alias]:
            client.set_registered_model_alias(NAME, alias, wanted[alias])
        elif alias in present and alias not in wanted:
            client.delete_registered_model_alias(NAME, alias)
