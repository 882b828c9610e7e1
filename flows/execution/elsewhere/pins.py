"""Compare the Python and the packages of a host with those here, as other versions could write other bytes, or fail."""

import platform
from collections.abc import Mapping

from flows.execution.elsewhere import far_side
from flows.execution.elsewhere.channel import Unreachable
from flows.execution.elsewhere.connection import Facts
from flows.execution.elsewhere.hosts import Host
from tasks.io import provenance

SHOWN = 5
"""Packages that a message names; further ones are counted."""
OWN = "ratchet-llm"
"""Our own package, which is not compared, as its code is sent with each stage."""


def check(name: str, host: Host, facts: Facts) -> None:
    """Raise Unreachable if a host has another Python, another version of a common package, or lacks a package that outputs depend on."""
    here, there = platform.python_version(), facts.python
    differences = [] if _minor(here) == _minor(there) else [f"Python {there} (here {here})"]
    differences += _differences(far_side.packages(), facts.packages)
    if not differences:
        return
    shown = ", ".join(differences[:SHOWN])
    more = f" and {len(differences) - SHOWN} more" if len(differences) > SHOWN else ""
    raise Unreachable(
        f"{name} has other versions: {shown}{more}. Install the same there by\n"
        f"    {host.python} -m pip install -c constraints.txt …, as here"
    )


def _differences(here: Mapping[str, str], there: Mapping[str, str]) -> list[str]:
    """Return the packages whose versions differ. The build of torch (`+cpu`) depends on the machine, and is not compared."""
    different = [
        f"{name} {there[name]} (here {here[name]})"
        for name in sorted(here.keys() & there.keys() - {OWN})
        if here[name].partition("+")[0] != there[name].partition("+")[0]
    ]
    return different + [f"{name} is absent" for name in provenance.PACKAGES if name in here and name not in there]


def _minor(version: str) -> list[str]:
    return version.split(".")[:2]
