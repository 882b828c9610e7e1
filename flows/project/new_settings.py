"""Compose the settings of a new workspace from a profile, a model, a goal, a machine and the user's own data."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

import yaml

from flows.project import commented_settings, data_import, profiles, rounds
from flows.project.data_import import Sources
from tasks import configuration
from tasks.io import config_file

Goal = Literal["answers", "loop", "preferences", "texts"]
Machine = Literal["cpu", "cuda", "mps"]
GOALS: Mapping[Goal, str] = {
    "answers": "better answers to questions like those of the data, by one training",
    "loop": "the same, and a turn that repairs the data by what the trained model shows",
    "preferences": "answers that people prefer, from pairs of a better and a worse one or from judged answers",
    "texts": "the language of texts: the base is trained on them further; no examples needed",
}
MACHINES: tuple[Machine, ...] = get_args(Machine)
LARGER = ("max_tokens", "pack_tokens", "accumulation", "save_every", "workers")
"""Training settings that differ on a GPU, taken from profile `gpu-7b`."""
THREADS = 8
"""Largest number of threads of a model. Small models do not benefit from more."""
PREFERENCE_RATE = 5e-5
"""Learning rate of objectives that compare answers: a tenth of that in the profiles, because the training cannot recover the start model if it
leaves it."""
HEAD = """\
# Written by `ratchet new`.
# Goal `{goal}`: {about}.
# Every key, its default and its limits: docs/pages/reference/settings.md. `ratchet plan` says what a change reruns.

"""


@dataclass(frozen=True)
class Answers:
    """The answers to the questions of `ratchet new`."""

    sources: Sources | None
    """The user's own data; None for the functions of installed packages in the profiles."""
    preview: Mapping[str, Any]
    """The preview of the data; empty without own data."""
    model: Mapping[str, Any]
    """The entry `fetch.model`."""
    goal: Goal
    machine: Machine
    threads: int


def goals_of(sources: Sources | None, preview: Mapping[str, Any]) -> tuple[Goal, ...]:
    """Return the goals that the data allow, the most likely first."""
    if sources is None:
        return "answers", "loop", "texts"
    of_texts: tuple[Goal, ...] = ("texts",) if sources.corpus else ()
    if not sources.examples:
        return of_texts
    kinds = preview["kinds"]
    plain, compared = kinds["plain"], kinds["pairs"] + kinds["judged"]
    of_answers: tuple[Goal, ...] = ("answers", "loop") if plain else ()
    of_preferences: tuple[Goal, ...] = ("preferences",) if compared else ()
    first, second = (of_answers, of_preferences) if plain > compared else (of_preferences, of_answers)
    return *first, *second, *of_texts


def checked_goal(name: str, sources: Sources | None, preview: Mapping[str, Any]) -> Goal:
    """Return the goal with a name. Raises ValueError if there is none, or if the data do not allow it."""
    possible = goals_of(sources, preview)
    for goal in possible:
        if goal == name:
            return goal
    problem = f"These data do not allow the goal {name}" if name in GOALS else f"There is no goal {name!r}"
    raise ValueError(f"{problem}. Goals of these data: {', '.join(possible)}.")


def checked_machine(name: str) -> Machine:
    """Return the machine with a name. Raises ValueError if there is none."""
    for machine in MACHINES:
        if machine == name:
            return machine
    raise ValueError(f"There is no machine {name!r}. There are: {', '.join(MACHINES)}.")


def in_words(answers: Answers) -> str:
    """Return the answers in a few words."""
    sources = answers.sources
    data = (
        " and ".join(_place(one) for one in (*sources.examples, *sources.corpus)) if sources else "installed packages"
    )
    model = next(answers.model[key] for key in ("id", "name", "path") if key in answers.model)
    return f"goal {answers.goal}, data of {data}, model {model}, machine {answers.machine}"


def _place(source: Mapping[str, Any]) -> str:
    return str(source.get("path") or source["query"])


def write(answers: Answers, path: Path) -> None:
    """Write the settings to `path`, with a comment at each. Raises ValueError if they are invalid."""
    path.write_bytes(profiles.by_name()[_profile(answers)].read_bytes())
    sources = answers.sources
    if sources and answers.goal == "texts":
        sources = replace(sources, examples=())
    if sources:
        data_import.write_sources(sources, path)
    if answers.goal != "texts":
        rounds.write_rounds(2 if answers.goal == "loop" else 1, path)
    settings, _ = config_file.parse(path)
    _adapt(settings, answers)
    path.write_text(yaml.safe_dump(settings, sort_keys=False), encoding="utf-8")
    head = HEAD.format(goal=answers.goal, about=GOALS[answers.goal])
    path.write_text(head + commented_settings.text(settings, configuration.load(path)), encoding="utf-8")
    configuration.load(path)  # now with comments


def _adapt(settings: dict[str, Any], answers: Answers) -> None:
    """Set the settings that model, goal and machine require."""
    settings["compute"].update(_compute(answers))
    settings["fetch"]["model"] = dict(answers.model)
    if answers.goal == "texts":
        _read_texts(settings, answers)
    elif answers.goal == "preferences":
        objective = "dpo" if answers.preview["kinds"]["pairs"] >= answers.preview["kinds"]["judged"] else "kto"
        settings["tune"]["objective"] = objective
        settings["methods"][objective] = {}
        settings["methods"]["adamw"]["learning_rate"] = PREFERENCE_RATE


def _profile(answers: Answers) -> str:
    if answers.goal == "texts":
        return "telecom"
    return "gpu-7b" if answers.machine == "cuda" else profiles.OWN_DATA


def _compute(answers: Answers) -> dict[str, Any]:
    precision = {"cpu": "auto", "cuda": "bf16", "mps": "fp32"}[answers.machine]
    return {"device": answers.machine, "precision": precision, "threads": min(answers.threads, THREADS)}


def _read_texts(settings: dict[str, Any], answers: Answers) -> None:
    """Set the texts to read, and on a GPU their amount."""
    if answers.sources is None:
        packages, _ = config_file.parse(profiles.by_name()[profiles.OWN_DATA])
        settings["ingest"]["corpora"]["domain"] = packages["ingest"]["corpora"]["domain"]
    if answers.machine == "cuda":
        larger, _ = config_file.parse(profiles.by_name()["gpu-7b"])
        settings["pretrain"].update({key: larger["tune"][key] for key in LARGER})
