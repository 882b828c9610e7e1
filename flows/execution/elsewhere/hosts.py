"""Read the hosts file: the machines that `resources.STAGE.host` may name.

It belongs to a person at a machine, as ~/.ssh/config does: names stand in params.yaml, which git carries, addresses and folders do not.
"""

import difflib
import os
from pathlib import Path

from pydantic import Field

from tasks.core import environment
from tasks.core.config import Config
from tasks.io import config_file

EXAMPLE = "hosts: {gpu-box: {ssh: me@10.0.0.7, folder: ~/ratchet, python: ~/venv/bin/python}}"


class Host(Config):
    """A machine on which stages may run."""

    ssh: str = ""
    """The destination as `ssh` takes it; without one, the name of the host, which ~/.ssh/config may know."""
    folder: str = "~/ratchet"
    """The folder there for inputs, outputs and unfinished work."""
    python: str = "python3"
    """The command by which its Python is found, the one that has the packages."""
    options: tuple[str, ...] = ()
    """Further arguments of `ssh`, `["-p", "2222"]` for instance."""


class Hosts(Config):
    """The hosts file."""

    hosts: dict[str, Host] = Field(min_length=1)


def path() -> Path:
    """Return the place of the hosts file: RATCHET_HOSTS, else `ratchet/hosts.yaml` in the user's folder of settings."""
    if named := os.environ.get(environment.HOSTS):
        return Path(named)
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "ratchet/hosts.yaml"


def known() -> dict[str, Host]:
    """Return the hosts of the hosts file by name; none without a file. Raises one ValueError with every problem of the file."""
    if not path().is_file():
        return {}
    hosts = config_file.read(path(), Hosts).hosts
    return {name: host if host.ssh else host.model_copy(update={"ssh": name}) for name, host in hosts.items()}


def find(name: str, stage: str) -> Host:
    """Return the host on which `resources` puts a stage. Raises ValueError, with what would do, where the hosts file lacks it."""
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
