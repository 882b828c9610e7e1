"""Read the recipe of a comparison: compositions of methods to train on one task at equal tokens."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from tasks import configuration, methods
from tasks.core.config import Config
from tasks.core.records import GENERAL
from tasks.core.training import FAMILIES
from tasks.io import config_file

RECIPES = Path("params/compare")
RATES = (1e-4, 3e-4, 1e-3, 3e-3)
MEASURES = {"tune": "domain", "pretrain": "domain_text"}
"""The measure that each stage should improve, by its name in `evaluate`."""
ITEMS = {"tune": "r0", "pretrain": None}
"""The item of each stage, on whose data it trains."""
TESTS = {"tune": Path("data/ingested/test.parquet"), "pretrain": Path("data/ingested/test_documents.parquet")}
"""The table with whose items the model of each stage is measured."""
BASES = {"tune": "models/pretrained", "pretrain": "models/base"}
"""The model from which each stage starts."""


def _differ(seeds: tuple[int, ...]) -> tuple[int, ...]:
    """Raise ValueError for a seed that is named twice. Its training would count as two, and intervals over seeds would be too narrow."""
    if len({*seeds}) < len(seeds):
        twice = next(seed for seed in seeds if seeds.count(seed) > 1)
        raise ValueError(f"seed {twice} is named twice. Name each once.")
    return seeds


Seeds = Annotated[
    tuple[int, ...],
    BeforeValidator(lambda given: range(given) if isinstance(given, int) else given),
    AfterValidator(_differ),
]
"""A list of seeds, or their number, counted from 0."""
Figures = dict[str, Any]
"""The contents of a trial's result.json, and its folder."""


class Recipe(Config):
    """A comparison. The data, and all settings that it does not name, come from params.yaml."""

    compositions: dict[str, dict[str, Any]] = Field(min_length=1)
    """Name → changes of the stage's section (`adapter: lora`), and under `methods` changes of the methods' sections. The first
    composition is the one with which the others are compared."""
    learning_rates: tuple[float, ...] | dict[str, tuple[float, ...]] = RATES
    """Learning rates that are tried for each composition on validation, for all compositions or by name. If the best is the first or the
    last, the search continues beyond it; if none is better than no training, beyond the largest."""
    seeds: Seeds = Field((0, 1, 2), min_length=1)
    """Seeds of the trainings of each composition with its best learning rate: a list, or their number, counted from 0."""
    tokens: int = Field(40_000, ge=1)
    """Tokens of each training that is measured on the test sets."""
    search_tokens: int | None = Field(None, ge=1)
    """Tokens of each training that chooses a learning rate; by default the same as for the others."""
    profile: str | None = None
    """The profile for whose data and model it is written."""
    stage: Literal["tune", "pretrain"] = "tune"
    """The stage in which the compositions train."""
    changes: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """Changes of params.yaml for all compositions and for the base, by section: `{tune: {pack_tokens: 256}}`."""

    @cached_property
    def settings(self) -> dict[str, Any]:
        """The contents of params.yaml at the first access. A later edit changes no trial."""
        return configuration.load().model_dump(mode="json", exclude_none=True, by_alias=True)

    def rates(self, name: str) -> tuple[float, ...]:
        """Return the learning rates to try for a composition. Raises ValueError if they are missing or too few to choose from."""
        rates = self.learning_rates if isinstance(self.learning_rates, tuple) else self.learning_rates.get(name, ())
        if len(distinct := tuple(dict.fromkeys(rates))) < 4:
            raise ValueError(
                f"learning_rates of {name}: a fair choice needs at least 4 different values (found {len(distinct)})."
            )
        return distinct


@dataclass(frozen=True)
class Trial:
    """One training of a comparison, or the measurement of the base."""

    composition: str | None
    """None for the base, which is only measured."""
    rate: float
    seed: int
    test: bool


def read(names: Sequence[str], **options: Any) -> tuple[str, Recipe]:
    """Return the name and the recipe for the arguments: a file of params/compare, or methods, with one composition for each.

    Raises FileNotFoundError for a missing file, and ValueError for an unknown method or one that is named twice.
    """
    given = {name: value for name, value in options.items() if value is not None}
    known = {path.stem: path for path in sorted(RECIPES.glob("*.yaml"))}
    file = known.get(names[0], Path(names[0]))
    if len(names) == 1 and file.is_file():
        if script := config_file.parse(file)[0].get("benchmark"):
            raise ValueError(f"{file}: its sides differ in more than what trains. `python {script}` runs it.")
        recipe: Recipe = config_file.read(file, Recipe)
        return file.stem, Recipe.model_validate(recipe.model_dump() | given)
    if missing := [name for name in names if Path(name).suffix in (".yaml", ".yml") and not Path(name).is_file()]:
        raise FileNotFoundError(f"There is no recipe {missing[0]}. There are: {', '.join(known) or 'none'}.")
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise ValueError(f"{twice[0]} is named twice: a comparison has each composition once.")
    try:
        compositions = {name: _alone(name) for name in names}
    except ValueError as error:
        raise ValueError(f"{error} Recipes: {', '.join(known) or 'none'}.") from None
    return "-".join(names), Recipe(compositions=compositions, **given)


def check_inputs(stage: str, profile: str | None = None) -> None:
    """Raise FileNotFoundError if an input of a stage's trials is missing, ValueError if the config asks for several processes.

    `profile` is the profile for which the trials are written.
    """
    config = configuration.load()
    if config.compute.processes > 1:
        raise ValueError("compute.processes: a comparison trains in one process, so that costs compare. Set it to 1.")
    item = ITEMS[stage]
    reads, _ = configuration.files(stage, item, config)
    if missing := [str(path) for path in reads.values() if not path.exists()]:
        place = f"{stage}@{item}" if item else stage
        first = "" if has_data_of(profile) else f" {_written_for(profile)}"
        raise FileNotFoundError(
            f"{', '.join(missing)}: not there yet. `ratchet run {place}` makes what a comparison needs.{first}"
        )


def check_test(stage: str, profile: str | None = None) -> None:
    """Raise ValueError if there are no items to measure a stage's trials. `profile` is the profile for which the trials are written."""
    if (table := TESTS[stage]).is_file() and _is_empty(table, stage):
        remedy = "Hold something out in `ingest`, and run it." if has_data_of(profile) else _written_for(profile)
        raise ValueError(
            f"{table} holds nothing of {MEASURES[stage]}, by which trials are measured in the end. {remedy}"
        )


def has_data_of(profile: str | None) -> bool:
    """Return True if params.yaml names the data and the model of a profile, or if no profile is given."""
    if profile is None:
        return True
    file = Path(f"params/{profile}.yaml")
    if not file.is_file():
        return False
    wanted, present = configuration.load(file), configuration.load()
    return all(getattr(wanted, section) == getattr(present, section) for section in ("fetch", "ingest"))


def _written_for(profile: str | None) -> str:
    return f"This one is written for profile {profile}: `ratchet use {profile}` first."


def _is_empty(table: Path, stage: str) -> bool:
    """Return True if a test table has no item for the measure that the stage should improve."""
    import polars as pl

    frame = pl.scan_parquet(table)
    if stage == "pretrain":
        frame = frame.filter(pl.col("domain") != GENERAL)
    return frame.head(1).collect().is_empty()


def _alone(name: str) -> dict[str, Any]:
    """Return the composition in which only this method is not neutral."""
    parts = {"adapter": "none", "selector": "all"}
    families = methods.families_of(name)
    for family in FAMILIES:
        if family in families:
            return parts | {family.removesuffix("s"): name}
    raise ValueError(f"{name} is one of the {families[0]}, which do not train: a comparison is of trainings.")
