"""The methods: a family is a folder, a method is a folder in it, and its name is the folder's name.

A method's `__init__.py` is its card: idea, paper, equation. `config.py` holds its settings and `SPEC`, the facts about it that need no
torch; `method.py` holds its functions and `METHOD`, the record of them.
"""

import difflib
import importlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.core.config import Config

ROOT = Path(__file__).parent
FILES = ("__init__.py", "config.py", "method.py")
"""The files that every method's folder has; it may have more."""


@dataclass(frozen=True, kw_only=True)
class Spec:
    """The facts about a method that need no torch; each family adds its own."""

    config: type[Config]
    """Its section under `methods:` of params.yaml."""
    wraps: str = ""
    """The library class that does the work; empty where the folder itself is the method."""


@dataclass(frozen=True, kw_only=True)
class TrainingSpec(Spec):
    """The facts about a method that takes part in a training."""

    acts_between_steps: bool = False
    """True where the method has `on_step`."""
    alone: str = ""
    """The reason why several processes cannot share its training; empty if they can."""
    of_rows: bool = False
    """True if the method depends on which sequences share a row, or on records that one pass makes of the whole row. Such a method does not
    work with models that read the sequences of a row one by one."""


@dataclass(frozen=True)
class Description:
    """A method in one line, by its own card and facts."""

    family: str
    name: str
    title: str
    """The first line of the card."""
    paper: str
    """The first link of the card; empty for a method without a paper."""
    wraps: str
    """As `Spec.wraps`."""
    mergeable: bool | None
    """True if plain weights can compute the same function, False if not; None for a method that adds no modules."""


def families() -> list[str]:
    """Return the families, by folder name."""
    return sorted(folder.name for folder in ROOT.iterdir() if (folder / "__init__.py").is_file())


def names(family: str) -> list[str]:
    """Return the methods of a family without importing any."""
    folders = [path for path in (ROOT / family).iterdir() if path.is_dir() and not path.name.startswith("_")]
    return sorted(folder.name for folder in folders if any(folder.glob("*.py")))


def spec(family: str, name: str) -> Any:
    """Return a method's `SPEC`, of its family's subclass of `Spec`, without importing torch. Raises ValueError as `load` does."""
    return _import(family, name, "config").SPEC


def load(family: str, name: str) -> Any:
    """Return a method's `METHOD`, the record of its functions. For most methods this imports torch.

    Raises ValueError with near matches for an unknown name, and for a folder that lacks one of `FILES`.
    """
    return _import(family, name, "method").METHOD


def _import(family: str, name: str, module: str) -> Any:
    missing = [file for file in FILES if not (ROOT / family / name / file).is_file()]
    if missing or Path(name).name != name:
        if name not in (known := names(family)):
            raise ValueError(f"{family} has no method {name!r}. {_hint(name, known)}")
        raise ValueError(
            f"tasks/methods/{family}/{name} has no {' and no '.join(missing)}. "
            f"A method's folder holds {', '.join(FILES)}: `config.py` its settings and SPEC, `method.py` its METHOD."
        )
    return importlib.import_module(f"tasks.methods.{family}.{name}.{module}")


def configs() -> dict[str, type[Config]]:
    """Return the config class of each method by the method's name, as in section `methods` of params.yaml.

    Raises ValueError if two families have a method of the same name and one of the two has settings.
    """
    classes: dict[str, type[Config]] = {}
    owners: dict[str, str] = {}
    for family in families():
        for name in names(family):
            config = spec(family, name).config
            if name in classes and (classes[name].model_fields or config.model_fields):
                raise ValueError(
                    f"{owners[name]} and {family} both have a method {name!r}, and `methods.{name}` of params.yaml can be the "
                    "section of one alone. Rename one of the two folders; only methods without settings may share a name."
                )
            classes.setdefault(name, config)
            owners.setdefault(name, family)
    return classes


def families_of(name: str) -> list[str]:
    """Return the families that have a method of this name. Only neutral methods without settings share a name.

    Raises ValueError with near matches if none has.
    """
    matches = [family for family in families() if name in names(family)]
    if not matches:
        raise ValueError(f"There is no method {name!r}. {_hint(name, _every_name())}")
    return matches


def check(name: str) -> None:
    """Raise ValueError with near matches if no family and no method has this name."""
    if name not in (known := {*families(), *_every_name()}):
        raise ValueError(f"There is no family or method {name!r}. {_hint(name, known)}")


def _every_name() -> set[str]:
    return {name for family in families() for name in names(family)}


def _hint(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, sorted(known), n=3, cutoff=0.5)
    return f"Did you mean {' or '.join(near)}?" if near else f"There are: {', '.join(sorted(known))}."


def describe(family: str, name: str) -> Description:
    """Return a method's title, paper and facts, without importing torch."""
    facts = spec(family, name)
    text = importlib.import_module(f"tasks.methods.{family}.{name}").__doc__ or ""
    link = re.search(r"https://\S+?(?=[,;:)]?(\s|\.\s|\.?$))", text)
    title = text.strip().split("\n", 1)[0].rstrip(".")
    return Description(family, name, title, link[0] if link else "", facts.wraps, _mergeable(family, name, facts))


def _mergeable(family: str, name: str, facts: Any) -> bool | None:
    """Return `Description.mergeable`."""
    if name == "none":
        return None
    match family:
        case "adapters":
            return bool(facts.merges)
        case "selectors":
            return True if facts.merges else None
        case "expanders":
            return False  # a grown model keeps its new layers
    return None


def alone(chosen: Mapping[str, str], *, fsdp: bool = False) -> list[str]:
    """Return the reasons why several processes cannot share the training of a composition; empty if they can.

    `chosen` maps the families of a training to names of methods. With `fsdp` the processes also shard the weights.
    """
    specs = {family: spec(family, name) for family, name in chosen.items()}
    reasons = [f"{family} {chosen[family]}: {facts.alone}" for family, facts in specs.items() if facts.alone]
    if fsdp and chosen.get("bases", "none") != "none":
        reasons.append(f"bases {chosen['bases']}: FSDP cannot cut quantised weights")
    if fsdp and "selectors" in specs and specs["selectors"].merges:
        reasons.append(f"selectors {chosen['selectors']}: it puts deltas on whole weights, and FSDP has cut them")
    if fsdp and any(facts.acts_between_steps for facts in specs.values()):
        reasons.append("a part acts between steps, on weights that FSDP has cut")
    if fsdp and spec("optimizers", chosen.get("optimizers", "adamw")).gradient_free:
        reasons.append(f"optimizers {chosen['optimizers']}: it moves whole weights, and FSDP has cut them")
    elif fsdp and spec("objectives", chosen.get("objectives", "cross_entropy")).hits:
        reasons.append(
            f"objectives {chosen['objectives']}: optimizers without gradient move whole weights, and FSDP has cut them"
        )
    return reasons
