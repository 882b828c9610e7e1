"""The whole `params.yaml` as one typed record, assembled from the declarations of all stages."""

import hashlib
import importlib
import json
import math
from collections.abc import Mapping, Sequence
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

from pydantic import create_model

from tasks import methods, stages
from tasks.core.compute import Compute
from tasks.core.config import Config
from tasks.core.operation import Resources, ServeConfig
from tasks.core.promotion.gate import GateConfig
from tasks.core.stage import Model, Round, Stage, Turn
from tasks.io import config_file, provenance
from tasks.methods.monitors import MonitorConfig
from tasks.stages.compress.config import CompressConfig
from tasks.stages.fetch.config import FetchConfig

PARAMS = Path("params.yaml")
GRAPH = Path("dvc.yaml")


class PipelineConfig(Config):
    """The contents of params.yaml: sections that belong to no stage, and sections of stages that flows read too. `schema` adds the others.

    `ratchet rounds` writes `rounds`, `turns` and `models`, since DVC cannot compute them.
    """

    rounds: dict[str, Round]
    """The trainings of the loop, `r0`, `r1`, …; `ratchet rounds NUMBER` writes them."""
    turns: dict[str, Turn]
    """The steps from one round to the next, by the round that each produces."""
    models: dict[str, Model]
    """The models that are measured and compared."""
    monitor: MonitorConfig = MonitorConfig()
    """Settings of `ratchet monitor`. No stage reads them."""
    serve: ServeConfig = ServeConfig()
    """Settings of `ratchet serve`. No stage reads them."""
    resources: dict[str, Resources] = {}  # noqa: RUF012  # pydantic copies it
    """Stage → the resources that it requests, if they differ from those that follow from `compute`."""
    compute: Compute
    fetch: FetchConfig
    compress: CompressConfig
    gate: GateConfig
    methods: Config = Config()
    """A section for each method that is used."""


def stage_names() -> list[str]:
    """Return the names of the stages, which are those of their folders."""
    folder = Path(stages.__file__).parent
    return sorted(path.parent.name for path in folder.glob("*/config.py"))


def declaration(stage: str) -> Stage:
    """Return the files and parts that a stage declares, without importing the stage's code."""
    return importlib.import_module(f"tasks.stages.{stage}.config").STAGE


def stage_config_type(stage: str) -> type[Config]:
    """Return the type of a stage's settings. Its fields are the sections that the stage reads."""
    return importlib.import_module(f"tasks.stages.{stage}.config").StageConfig


@cache
def schema() -> type[PipelineConfig]:
    """Return the type of the whole file: the union of the sections that stages read."""
    known = {name: field.annotation for name, field in PipelineConfig.model_fields.items() if name != "methods"}
    fields: dict[str, Any] = {}
    for stage in stage_names():
        for name, field in stage_config_type(stage).model_fields.items():
            if name == "methods":
                continue
            assert known.setdefault(name, field.annotation) == field.annotation, f"two types for section {name!r}"
            if name not in PipelineConfig.model_fields:
                fields[name] = (field.annotation, ... if field.is_required() else field.default)
    fields["methods"] = (_methods_type(), _methods_type()())
    return create_model("Settings", __base__=PipelineConfig, **fields)


@cache
def _methods_type() -> type[Config]:
    """Return the type of section `methods`, with a field for every method. A method without settings has an empty section."""
    fields: dict[str, Any] = {name: (config | None, None) for name, config in methods.configs().items()}
    return create_model("Methods", __base__=Config, **fields)


def load(path: Path = PARAMS) -> PipelineConfig:
    """Return all settings in `path`. Raises one ValueError that lists all problems, with their line in the file where it is known."""
    config = config_file.read(path, schema())
    problems = (
        _unrolled_problems(config)
        + _monitor_problems(config)
        + _resources_problems(config)
        + _turn_problems(config)
        + _bank_problems(config)
        + _replay_problems(config)
        + [
            problem
            for stage in stage_names()
            if _is_run(stage, config)
            for family, name in parts(stage, config).items()
            for problem in _part_problems(declaration(stage).parts[family], family, name, config)
        ]
    )
    if problems:
        raise ValueError("\n".join(f"{path}: {problem}" for problem in dict.fromkeys(problems)))
    return config


def names_of_rounds(number: int) -> list[str]:
    """Return the names `r0`, `r1`, …"""
    return [f"r{n}" for n in range(number)]


def turns_between(rounds: Sequence[str]) -> dict[str, Turn]:
    """Return the turns from each round to the next, by the round that they produce."""
    return {after: Turn(prev=before) for before, after in pairwise(rounds)}


def _unrolled_problems(config: PipelineConfig) -> list[str]:
    expected = names_of_rounds(len(config.rounds))
    if expected and list(config.rounds) == expected and config.turns == turns_between(expected):
        return []
    rounds, turns = (", ".join(names) or "none" for names in (config.rounds, config.turns))
    return [
        f"rounds ({rounds}) and turns ({turns}) do not form a chain r0, r1, … in which each round but the first is "
        "made from the one before. `ratchet rounds NUMBER` writes both."
    ]


def _monitor_problems(config: PipelineConfig) -> list[str]:
    monitor, there = config.monitor, methods.names("monitors")
    if unknown := [name for name in monitor.methods if name not in there]:
        return [f"monitor.methods: there is no monitor {name!r}. There are: {', '.join(there)}." for name in unknown]
    asked = dict.fromkeys(monitor.methods)  # a monitor that is named twice counts once
    level = monitor.alpha / len(asked)
    return [
        f"monitor.alpha: {monitor.alpha:g} leaves each of {len(asked)} monitors a level of {level:g}, and no p-value of {name} "
        f"is less than 1 / {count + 1:.0f}: it could never detect drift. Set methods.{name}.permutations: {math.ceil(1 / level)}, or a higher alpha."
        for name in asked
        if 1 / ((count := _permutations(name, config)) + 1) > level
    ]


def _permutations(name: str, config: PipelineConfig) -> float:
    """Return the number of permutations behind the p-value of a monitor; infinity if the p-value is exact."""
    monitor_config: Any = getattr(config.methods, name) or methods.spec("monitors", name).config()
    return float(getattr(monitor_config, "permutations", math.inf))


def _resources_problems(config: PipelineConfig) -> list[str]:
    odd = [name for name in config.resources if name not in stage_names() and name not in _stages_of_graph()]
    problems = [f"resources: there is no stage {name!r}. There are: {', '.join(stage_names())}." for name in odd]
    shared = {name: declared.nodes for name, declared in config.resources.items() if declared.nodes > 1}
    for name, nodes in shared.items():
        if name in odd or name not in stage_names() or not declaration(name).trains:
            problems.append(
                f"resources.{name}.nodes: {nodes}: nodes share a training, and {name} does not train. Leave it out."
            )
        elif config.compute.processes % nodes:
            problems.append(
                f"resources.{name}.nodes: {nodes} cannot have equal parts of compute.processes: {config.compute.processes}. Set a multiple."
            )
    return problems


def _stages_of_graph() -> set[str]:
    """Return the stages of dvc.yaml, since a graph may have stages of the user's own."""
    try:
        return set(config_file.parse(GRAPH)[0].get("stages", {}))
    except (OSError, ValueError, AttributeError):  # the code that needs the graph reports the problem
        return set()


def _turn_problems(config: PipelineConfig) -> list[str]:
    """Return the problems of a turn's curator and generator.

    A curator that looks at tasks needs the generator of new tasks and a source of tasks, and that generator needs such a curator.
    """
    values: Any = config
    curator, generator = values.diagnose.curator, values.refine.generator.from_
    if not config.turns or curator not in methods.names("curators"):
        return []
    looks_at_tasks = methods.spec("curators", curator).looks_at == "tasks"
    problems = []
    if looks_at_tasks != (generator == "tasks"):
        problems.append(
            f"refine.generator: {{from: {generator}}} does not go with diagnose.curator: {curator}: a curator that looks at tasks "
            "(`failures`) needs {from: tasks}, and no other can use it."
        )
    if looks_at_tasks and all(source.from_ != "reasoning-gym" for source in values.ingest.sources):
        problems.append(
            f"diagnose.curator: {curator} asks fresh tasks, and no source of `ingest.sources` generates any with a verifier: add "
            "one (`from: reasoning-gym`), or set curator: middo."
        )
    return problems


def _bank_problems(config: PipelineConfig) -> list[str]:
    """Return the problems of banks: a turn needs a single model, and a router needs a bank."""
    values: Any = config
    bank, router, problems = values.tune.bank, values.evaluate.router, []
    if config.turns and bank != "none":
        problems.append(
            f"tune.bank: {bank} goes with one round: a turn diagnoses one model. `ratchet rounds 1` leaves the turns out."
        )
    if bank == values.pretrain.bank == "none" and router != "none" and router in methods.names("routers"):
        problems.append(
            f"evaluate.router: {router} chooses among the adapters of a bank, and there is none. Set tune.bank: task or pretrain.bank: domain, or router: none."
        )
    return problems


def _replay_problems(config: PipelineConfig) -> list[str]:
    """Return the problem of replay with an objective that follows the validation loss of every task: general text has no validation loss."""
    values: Any = config
    objective, replay = values.tune.objective, values.tune.replay
    if not replay or not getattr(getattr(config.methods, objective, None), "follows_validation", False):
        return []
    return [
        f"tune.replay: {replay:g} does not go with objective {objective!r} that follows the validation loss of every task: general text has none. "
        f"Set tune.replay: 0, or methods.{objective}.balance: none."
    ]


def _is_run(stage: str, config: PipelineConfig) -> bool:
    """Return True if a stage has anything to run. A stage without items needs no method."""
    items = declaration(stage).items
    return items is None or bool(getattr(config, items))


def _part_problems(place: str, family: str, name: str, config: PipelineConfig) -> list[str]:
    if name not in methods.names(family):
        return [f"{place}: {family} has no method {name!r}. There are: {', '.join(methods.names(family))}."]
    if getattr(config.methods, name) is None:
        return [f"methods.{name} is missing. Write `{name}: {{}}` there for its defaults."]
    return []


def for_stage(stage: str, config: PipelineConfig) -> Any:
    """Return the sections that a stage declares; of `methods`, only the sections of the stage's parts."""
    kind = stage_config_type(stage)
    values = {name: getattr(config, name) for name in kind.model_fields}
    if "methods" in values:
        values["methods"] = {
            name: getattr(config.methods, name).model_dump(mode="json") for name in parts(stage, config).values()
        }
    return kind.model_validate(values)


def parts(stage: str, config: PipelineConfig) -> dict[str, str]:
    """Return the method that the settings choose for each family that a stage composes: `{"adapters": "lora", …}`."""
    chosen = {}
    for family, place in declaration(stage).parts.items():
        section, key = place.split(".")
        chosen[family] = str(getattr(getattr(config, section), key))
    return chosen


def files(stage: str, item: str | None, config: PipelineConfig) -> tuple[dict[str, Path], dict[str, Path]]:
    """Return the paths that a stage reads and writes, by name. Raises ValueError if the stage has no such item."""
    declared = declaration(stage)
    values: Mapping[str, Any] = {}
    if declared.items is None:
        if item is not None:
            raise ValueError(f"Stage {stage} has no items, but was asked for {item!r}: `python -m tasks.run {stage}`.")
    else:
        items = getattr(config, declared.items)
        if item not in items:
            raise ValueError(
                f"Stage {stage} has no item {item!r}. params.yaml has {declared.items}: {', '.join(items)}."
            )
        values = {"item": item, **items[item].model_dump()}
    reads = {name: Path(path.format_map(values)) for name, path in declared.reads.items()}
    writes = {name: Path(path.format_map(values)) for name, path in declared.writes.items()}
    return reads, writes


def closure(stage: str) -> list[Path]:
    """Return the files of this project that a stage may run, including its data files, but without the folders of methods.

    For the families that it composes, the files that methods import from outside their own folders are included, such as `_peft.py` of
    adapters.
    """
    families = declaration(stage).parts
    imported = {
        file
        for family in families
        for name in methods.names(family)
        for file in provenance.closure(f"tasks.methods.{family}.{name}.method")
    }
    folders = {_folder(family, name) for family in families for name in methods.names(family)}
    shared = {file for file in imported if folders.isdisjoint(file.parents)}
    return sorted({*_own_code(stage), *shared})


def code(stage: str, config: PipelineConfig) -> list[Path]:
    """Return every file of this project whose edit can change a stage's outputs: the code of the stage and of the chosen methods."""
    chosen = parts(stage, config).items()
    imported = {f for family, name in chosen for f in provenance.closure(f"tasks.methods.{family}.{name}.method")}
    folders = {file for family, name in chosen for file in _files_in(_folder(family, name))}
    return sorted({*_own_code(stage), *imported, *folders})


def _own_code(stage: str) -> set[Path]:
    """Return the data files of a stage and the files that it imports; of methods, only the records of their families."""
    data = {path for path in _files_in(Path("tasks/stages") / stage) if path.suffix != ".py"}
    modules = [f"tasks.stages.{stage}.stage", *(f"tasks.methods.{family}" for family in declaration(stage).parts)]
    return data | {file for module in modules for file in provenance.closure(module)}


def _folder(family: str, name: str) -> Path:
    return Path("tasks/methods") / family / name


def _files_in(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts]


def key(stage: str, item: str | None, config: PipelineConfig) -> str:
    """Return a hash of everything that a stage's outputs depend on: the contents of inputs, settings, and code.

    It contains neither the item's name nor a path, so items whose outputs must be equal have the same key.
    """
    return key_of(basis(stage, item, config))


def key_of(stage_basis: Mapping[str, Any]) -> str:
    """Return the key of a stage with this basis."""
    return hashlib.sha256(json.dumps(stage_basis, sort_keys=True).encode()).hexdigest()[:32]


def basis(stage: str, item: str | None, config: PipelineConfig) -> dict[str, Any]:
    """Return everything that a stage's outputs depend on, with digests for inputs and code."""
    reads, _ = files(stage, item, config)
    return {
        "stage": stage,
        "inputs": {name: provenance.digest(path) for name, path in reads.items()},
        "settings": for_stage(stage, config).model_dump(mode="json"),
        "code": provenance.code_digest(code(stage, config)),
    }
