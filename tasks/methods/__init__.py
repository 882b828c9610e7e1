"""The methods: a family is a folder, a method is a file in it, and its name is the file's name."""

import difflib
import importlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

ROOT = Path(__file__).parent


@dataclass(frozen=True)
class Description:
    """A method in a line, as its own file tells it."""

    family: str
    name: str
    title: str
    """The first line of its docstring."""
    paper: str
    """The first link there; empty for what no paper stands behind."""
    wraps: str
    """The library class that does the work; empty where the file itself is the method."""
    mergeable: bool | None
    """For adapters: whether plain weights can compute the same. None for other families."""


def families() -> list[str]:
    """The families, by folder name."""
    return sorted(folder.name for folder in ROOT.iterdir() if (folder / "__init__.py").is_file())


def names(family: str) -> list[str]:
    """The methods of a family, found without importing any."""
    found = [path for path in (ROOT / family).iterdir() if not path.name.startswith("_")]
    return sorted(path.stem for path in found if path.suffix == ".py" or (path / "__init__.py").is_file())


def load(family: str, name: str) -> ModuleType:
    """The module of a method; its record is `METHOD`. Raises ValueError with near matches for an unknown name."""
    if name not in (known := names(family)):
        raise ValueError(f"{family} has no method {name!r}. {_hint(name, known)}")
    return importlib.import_module(f"tasks.methods.{family}.{name}")


def families_of(name: str) -> list[str]:
    """The families that have a method called so. Only neutral methods without settings share a name.

    Raises ValueError with near matches where none has.
    """
    found = [family for family in families() if name in names(family)]
    if not found:
        raise ValueError(f"There is no method {name!r}. {_hint(name, _every_name())}")
    return found


def check(name: str) -> None:
    """Raise ValueError with near matches where neither a family nor a method is called so."""
    if name not in (known := {*families(), *_every_name()}):
        raise ValueError(f"There is no family or method {name!r}. {_hint(name, known)}")


def _every_name() -> set[str]:
    return {name for family in families() for name in names(family)}


def _hint(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, sorted(known), n=3, cutoff=0.5)
    return f"Did you mean {' or '.join(near)}?" if near else f"There are: {', '.join(sorted(known))}."


def describe(family: str, name: str) -> Description:
    """What a method's file says of it, without importing torch."""
    module = load(family, name)
    text = module.__doc__ or ""
    link = re.search(r"https://\S+?(?=[,;:)]?(\s|\.\s|\.?$))", text)
    method = module.METHOD
    title = text.strip().split("\n", 1)[0].rstrip(".")
    return Description(
        family, name, title, link[0] if link else "", getattr(method, "wraps", ""), _mergeable(family, name, method)
    )


def _mergeable(family: str, name: str, method: Any) -> bool | None:
    """Whether what a method puts beside weights can be written into them; None where it puts nothing there."""
    if name == "none":
        return None
    match family:
        case "adapters":
            return method.merge is not None
        case "selectors":
            return True if method.merge else None
        case "expanders":
            return False  # a grown model stays as large as it grew
    return None


def alone(chosen: Mapping[str, str], *, fsdp: bool = False) -> list[str]:
    """Why several processes cannot share the training of a composition, a sentence each; empty where they can.

    `chosen` maps families to names. With `fsdp` they share the weights too.
    """
    reasons = [
        f"{family} {name}: {reason}"
        for family, name in chosen.items()
        if (reason := getattr(load(family, name).METHOD, "alone", ""))
    ]
    if fsdp and chosen.get("bases", "none") != "none":
        reasons.append(f"bases {chosen['bases']}: FSDP cannot cut quantised weights")
    if fsdp and any(getattr(load(family, name).METHOD, "on_step", None) for family, name in chosen.items()):
        reasons.append("a part acts between steps, on weights that FSDP has cut")
    if fsdp and load("optimizers", chosen.get("optimizers", "adamw")).METHOD.gradient_free:
        reasons.append(f"optimizers {chosen['optimizers']}: it moves whole weights, and FSDP has cut them")
    elif fsdp and load("objectives", chosen.get("objectives", "cross_entropy")).METHOD.hits:
        reasons.append(
            f"objectives {chosen['objectives']}: optimizers without gradient move whole weights, and FSDP has cut them"
        )
    return reasons
