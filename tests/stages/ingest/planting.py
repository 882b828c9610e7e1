"""Distributions of a few generated modules, and manuals of a few generated pages."""

import random
import textwrap
from pathlib import Path

from tasks.core.records import Refusal, Tests
from tasks.io.sources.package import folder
from tasks.stages.ingest.mining.candidates import Candidate, mine_candidates


def plant(root: Path, **modules: str) -> Path:
    """Write a package `planted` of these modules. `init` is the text of its `__init__`."""
    package = root / "planted"
    package.mkdir(exist_ok=True)
    for name, text in {"init": "", **modules}.items():
        path = package / ("__init__.py" if name == "init" else f"{name}.py")
        path.write_text(textwrap.dedent(text).lstrip("\n"))
    return package


def mined(root: Path, **modules: str) -> dict[str, Candidate | Refusal]:
    """Return the candidate or refusal of each function of a planted package, by its name."""
    items = mine_candidates(folder(plant(root, **modules)))
    return {item.where if isinstance(item, Refusal) else checks(item).entry: item for item in items}


def candidate(root: Path, **modules: str) -> Candidate:
    """Return the only function of a planted package that has a doctest."""
    (item,) = mined(root, **modules).values()
    assert isinstance(item, Candidate), item
    return item


def refusal(root: Path, **modules: str) -> Refusal:
    """Return the refusal of the only function of a planted package that has a doctest."""
    (item,) = mined(root, **modules).values()
    assert isinstance(item, Refusal), item
    return item


def checks(item: Candidate) -> Tests:
    """Return the tests of a candidate."""
    assert item.example.tests is not None
    return item.example.tests


def passage(manual: str, number: int) -> str:
    """Return a text that is on no other page."""
    draw = random.Random(f"{manual} {number}")
    return " ".join("".join(draw.choices("aeinorst", k=5)) for _ in range(30))


def page(folder: Path, number: int) -> None:
    """Write a page of a manual. Some of its lines are on all pages, some on the pages of this manual, and some on no other page."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"page{number}.html").write_text(
        f"""<html><head><title>{folder.name}</title></head><body><nav>Contents</nav>
        <form><label>Search documentation of {folder.name}</label></form>
        <h1><a rel="help" href="s">View Source</a> Chapter {number}</h1>
        <p>{passage(folder.name, number)}</p>
        <pre>ok = start({number}).
        end.</pre>
        <a rel="prev" href="p">← Previous Page Chapter {number - 1}</a>
        <a rel="next" href="n">Next Page → Chapter {number + 1}</a>
        <footer>Copyright © 1996-2026 Ericsson AB</footer></body></html>""",
        encoding="utf-8",
    )
