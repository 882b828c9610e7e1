"""MLflow's registry: a mirror of the history of promotions, made anew from it whenever MLflow has missed something."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tasks.io import run_store

NAME = "ratchet"
NUMBER = "ratchet.version"
"""The tag that holds our number of a version. MLflow's own is the same, unless versions were deleted there."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Version:
    """A model that was judged."""

    number: int
    candidate: str
    description: str
    tags: dict[str, str]


def mirror(versions: Sequence[Version], aliases: dict[str, int]) -> bool:
    """Register what is missing, each version once, and set the aliases. False, with a warning, where MLflow does not answer."""
    try:
        client, _ = run_store.connect()
        known = _known(client)
        for version in versions:
            if version.number not in known:
                known[version.number] = _register(client, version)
        _set_aliases(client, {alias: known[number] for alias, number in aliases.items()})
    except run_store.outages() as error:
        _log.warning("MLflow (%s) does not answer; its registry is set right next time. %s", run_store.shown(), error)
        return False
    return True


def _known(client: Any) -> dict[int, str]:
    """The versions that MLflow has: our number → its own."""
    if not client.search_registered_models(f"name = '{NAME}'"):
        client.create_registered_model(
            NAME, description="Every model that the gate has judged; `champion` is in place."
        )
    found = client.search_model_versions(f"name = '{NAME}'")
    return {int(version.tags[NUMBER]): str(version.version) for version in found if NUMBER in version.tags}


def _register(client: Any, version: Version) -> str:
    tags = version.tags | {NUMBER: str(version.number), "ratchet.candidate": version.candidate}
    source = f"ratchet:{version.candidate}"  # files stay in the store of versions, which the hash names
    return str(client.create_model_version(NAME, source, tags=tags, description=version.description).version)


def _set_aliases(client: Any, wanted: dict[str, str]) -> None:
    present = client.get_registered_model(NAME).aliases
    for alias in ("champion", "challenger"):
        if alias in wanted and str(present.get(alias)) != wanted[alias]:
            client.set_registered_model_alias(NAME, alias, wanted[alias])
        elif alias in present and alias not in wanted:
            client.delete_registered_model_alias(NAME, alias)
