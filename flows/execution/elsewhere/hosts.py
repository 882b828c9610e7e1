"""Read the hosts file: the machines and clusters that `resources.STAGE.host` may name.

It is local to a user and machine, like ~/.ssh/config: params.yaml, which git tracks, holds host names, but no addresses or folders.
"""

import difflib
import os
import shlex
from pathlib import Path
from typing import Self

from pydantic import Field, field_validator, model_validator

from tasks.core import environment
from tasks.core.config import Config
from tasks.io import config_file

EXAMPLE = "hosts: {gpu-box: {ssh: me@10.0.0.7, folder: ~/ratchet, python: ~/venv/bin/python}}"


class Host(Config):
    """A machine on which stages may run."""

    ssh: str = ""
    """The destination as `ssh` takes it; default: the name of the host, which ~/.ssh/config may define."""
    ray: str = ""
    """In place of `ssh`: the address of a Ray cluster, `HOST:PORT`, or `auto` for the cluster of this machine. A stage is one Ray task; Ray
    chooses the node, and its Python."""
    folder: str = Field("~/ratchet", min_length=1)
    """The folder there for inputs, outputs and unfinished work."""
    python: str = "python3"
    """The command of the host's Python that has the packages installed."""
    options: tuple[str, ...] = ()
    """Further arguments of `ssh`, `["-p", "2222"]` for instance."""

    @field_validator("python")
    @classmethod
    def _is_a_command(cls, value: str) -> str:
        try:
            words = shlex.split(value)
        except ValueError as error:
            raise ValueError(f"no shell reads this command: {error}") from None
        if not words:
            raise ValueError("a command is missing; without `python`, it is python3")
        return value

    @model_validator(mode="after")
    def _is_one_or_the_other(self) -> Self:
        if self.ray and (others := sorted(self.model_fields_set & {"ssh", "python", "options"})):
            raise ValueError(
                f"`ray` names a cluster, and {', '.join(others)} are about SSH. Leave one or the other out."
            )
        return self


class Hosts(Config):
    """The hosts file."""

    hosts: dict[str, Host] = Field(min_length=1)

    @field_validator("hosts", mode="before")
    @classmethod
    def _may_be_names_alone(cls, value: object) -> object:
        """Turn an entry without a value, such as `gpu-box:`, into a host that ~/.ssh/config defines."""
        return (
            {name: {} if host is None else host for name, host in value.items()} if isinstance(value, dict) else value
        )


def path() -> Path:
    """Return the path of the hosts file: RATCHET_HOSTS, otherwise `ratchet/hosts.yaml` in the user's configuration folder."""
    if named := os.environ.get(environment.HOSTS):
        return Path(named)
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "ratchet/hosts.yaml"


def known() -> dict[str, Host]:
    """Return the hosts of the hosts file by name; none if there is no file. Raises one ValueError with every problem of the file."""
    if not path().is_file():
        return {}
    hosts = config_file.read(path(), Hosts).hosts
    return {
        name: host if host.ssh or host.ray else host.model_copy(update={"ssh": name}) for name, host in hosts.items()
    }


def find(name: str, stage: str) -> Host:
    """Return the host on which `resources` puts a stage. Raises ValueError, with what would help, if the hosts file lacks it."""
    hosts = known()
    if name in hosts:
        return hosts[name]
    where = f"params.yaml: resources.{stage}.host: {name}"
    if not hosts:
        raise ValueError(
            f"{where}: there is no hosts file {path()}, which says how to reach it. Write one, for instance\n    {EXAMPLE}"
        )
    near = difflib.get_close_matches(name, hosts, n=2)
    hint = f"Did you mean {' or '.join(near)}?" if near else f"There are: {', '.join(hosts)}."
    raise ValueError(f"{where}: {path()} has no such host. {hint}")
