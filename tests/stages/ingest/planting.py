"""Distributions of a few planted modules."""

import textwrap
from pathlib import Path

from tasks.core.records import Refusal, Tests
from tasks.io.sources.package import folder
from tasks.stages.ingest.mine import Candidate, mine


def plant(root: Path, **modules: str) -> Path:
    """A package `planted` of these modules; `init` is its `__init__`."""
    package = root / "planted"
    package.mkdir(exist_ok=True)
    for name, text in {"init": "", **modules}.items():
        path = package / ("__init__.py" if name == "init" else f"{name}.py")
        path.write_text(textwrap.dedent(text).lstrip("\n"))
    return package


def mined(root: Path, **modules: str) -> dict[str, Candidate | Refusal]:
    """What the miner makes of each function of a planted package, by its name."""
    found = mine(folder(plant(root, **modules)))
    return {item.where if isinstance(item, Refusal) else checks(item).entry: item for item in found}


def candidate(root: Path, **modules: str) -> Candidate:
    """The only function of a planted package that has a doctest."""
    (item,) = mined(root, **modules).values()
    assert isinstance(item, Candidate), item
    return item


def refusal(root: Path, **modules: str) -> Refusal:
    """Why the only function of a planted package that has a doctest is refused."""
    (item,) = mined(root, **modules).values()
    assert isinstance(item, Refusal), item
    return item


def checks(item: Candidate) -> Tests:
    """The tests of a candidate."""
    assert item.example.tests is not None
    return item.example.tests
