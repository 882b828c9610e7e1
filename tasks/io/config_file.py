"""`params.yaml` as typed settings. All problems are reported at once, each with its line and a remedy."""

import difflib
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from tasks.core.text.visible import without_passwords
from tasks.core.text.writing import SECRET

P = TypeVar("P", bound=BaseModel)
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
DUMPER = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
"""PyYAML's safe parser and writer, in C if it was built with them: a `dvc.lock` has thousands of lines, which take 0.06 CPU-seconds to read
in C and 0.4 in Python."""


def read(path: Path, schema: type[P]) -> P:
    """Read the settings in the YAML file at `path`.

    Raises FileNotFoundError without the file, and one ValueError that lists every problem: `params.yaml:12: tune.rank: …`.
    """
    raw, lines = parse(path)
    try:
        return schema.model_validate(raw)
    except ValidationError as error:
        raise ValueError(_explain(path, error, lines, schema)) from None


def check_present(path: Path) -> None:
    """Raise FileNotFoundError if there is no settings file, which is so outside of a workspace."""
    if not path.is_file():
        raise FileNotFoundError(
            f"{path}: there is no such file. Run this in the folder of a workspace, where `ratchet use reasoning` writes the default file."
        )


def parse(path: Path) -> tuple[dict[str, Any], dict[tuple[str | int, ...], int]]:
    """Return the mapping in a YAML file, and the line (from 1) of each of its keys and items.

    Raises FileNotFoundError without the file, and ValueError if it is not valid YAML, does not hold a mapping, or repeats a key.
    """
    check_present(path)
    try:
        root = yaml.compose(path.read_text(encoding="utf-8"), Loader=LOADER)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}:{mark.line + 1}" if mark else str(path)
        raise ValueError(f"{where}: this is no YAML: {getattr(error, 'problem', None) or error}.") from None
    if not isinstance(root, yaml.MappingNode):
        raise ValueError(f"{path}: expected `section: …` lines, found {'nothing' if root is None else root.tag}.")
    lines: dict[tuple[str | int, ...], int] = {}
    _walk(path, root, (), lines)
    return yaml.SafeLoader.construct_document(yaml.SafeLoader(""), root), lines


def _walk(path: Path, node: yaml.Node, at: tuple[str | int, ...], lines: dict[tuple[str | int, ...], int]) -> None:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            place = (*at, key.value)
            if place in lines:
                raise ValueError(
                    f"{path}:{key.start_mark.line + 1}: {_dotted(place)} stands in line {lines[place]} already. Keep one."
                )
            lines[place] = key.start_mark.line + 1
            _walk(path, value, place, lines)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            lines[(*at, index)] = value.start_mark.line + 1
            _walk(path, value, (*at, index), lines)


def _explain(
    path: Path, error: ValidationError, lines: dict[tuple[str | int, ...], int], schema: type[BaseModel]
) -> str:
    problems = []
    for problem in _of_nearest_members(error.errors(), lines):
        # Pydantic puts the names of union members into the location, but the file has only keys and indices.
        place: tuple[str | int, ...] = ()
        for part in problem["loc"]:
            if (*place, part) in lines or part == problem["loc"][-1]:
                place = (*place, part)
        line = next((lines[place[:n]] for n in range(len(place), 0, -1) if place[:n] in lines), 1)
        text = problem["msg"].removeprefix("Value error, ")
        if problem["type"] == "extra_forbidden":
            known_keys = _known_keys(schema, problem["loc"][:-1])
            near = difflib.get_close_matches(str(place[-1]), known_keys, n=2, cutoff=0.6)
            known = f"Known: {', '.join(sorted(known_keys))}." if known_keys else "This section takes none."
            text = "there is no such key. " + (f"Did you mean {' or '.join(near)}?" if near else known)
        elif problem["type"] == "missing":
            text = "this key is missing"
        elif problem["type"] != SECRET and not isinstance(problem["input"], (dict, list)):
            text = without_passwords(f"{text} (found {problem['input']!r})")
        problems.append(f"{path}:{line}: {_dotted(place)}: {text}")
    return "\n".join(dict.fromkeys(problems))


def _of_nearest_members(
    problems: Sequence[ErrorDetails], lines: Mapping[tuple[str | int, ...], int]
) -> list[ErrorDetails]:
    """Return the problems of the union members that fit best. Pydantic reports those of every member."""

    def member(problem: ErrorDetails) -> tuple[tuple[str | int, ...], str | int] | None:
        location = problem["loc"]
        first = next((n for n in range(len(location) - 1) if location[: n + 1] not in lines), None)
        return None if first is None else (location[:first], location[first])

    counts = Counter(filter(None, map(member, problems)))
    fewest: dict[tuple[str | int, ...], int] = {}
    for (place, _), number in counts.items():
        fewest[place] = min(number, fewest.get(place, number))
    return [one for one in problems if (of := member(one)) is None or counts[of] == fewest[of[0]]]


def _known_keys(schema: Any, location: tuple[str | int, ...]) -> list[str]:
    """Return the keys of the model at Pydantic's `location`, in the spelling of the file.

    In a union, they are those of the member that the location names, else those of all members.
    """
    models = [schema]
    for part in location:
        steps = [model.model_fields[part].annotation for model in models if part in getattr(model, "model_fields", {})]
        inner = [inner for step in steps for inner in _models(step)]
        models = inner or [model for model in models if part in _tags(model)] or models
    fields = [item for model in models for item in getattr(model, "model_fields", {}).items()]
    return sorted({field.alias or name for name, field in fields})


def _tags(model: Any) -> list[Any]:
    """Return the names by which a location may refer to this member of a union: its own name, and the values of its literals."""
    fields = getattr(model, "model_fields", {}).values()
    tags = [tag for field in fields if get_origin(field.annotation) is Literal for tag in get_args(field.annotation)]
    return [getattr(model, "__name__", None), *tags]


def _models(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in getattr(annotation, "__args__", ()) for model in _models(part)]


def _dotted(place: tuple[str | int, ...]) -> str:
    return ".".join(str(part) for part in place)
