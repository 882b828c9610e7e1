"""Write settings as YAML with a comment at each: the docstring of its field, or the title of its method."""

import math
import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

import yaml
from pydantic import BaseModel

from tasks import methods
from tasks.configuration import PipelineConfig
from tasks.core.config import descriptions

WIDTH = 120
NEXT = "\n"
SHORT = 70
"""The longest map below a section, in characters, that is written in one line."""


def text(tree: Mapping[str, Any], config: PipelineConfig) -> str:
    """Return the settings of `tree`, whose typed record is `config`, one key on each line."""
    return "\n".join(_lines(tree, config, 0)) + "\n"


def _lines(tree: Mapping[str, Any], record: Any, indent: int) -> Iterator[str]:
    for key, value in tree.items():
        head, about = f"{' ' * indent}{key}:", _about(key, record)
        if isinstance(value, dict) and not _is_short(value, indent):
            yield from _commented(head, about, indent)
            yield from _lines(value, _inner(key, record), indent + 2)
        elif isinstance(value, list) and any(isinstance(item, dict) for item in value):
            yield from _commented(head, about, indent)
            for item in value:
                yield textwrap.indent(f"- {_flow(item).replace(NEXT, NEXT + '  ')}", " " * (indent + 2))
        else:
            yield from _commented(f"{head} {_flow(value)}", about, indent)
        if not indent:
            yield ""


def _is_short(value: Mapping[str, Any], indent: int) -> bool:
    """Return True for a map that is written in one line: an empty map, a short map in a section, and the section of a stage that only passes on its input."""
    if not value or value.get("max_tokens") == 0:
        return True
    return bool(indent) and len(_flow(value)) <= SHORT


def _commented(line: str, about: str, indent: int) -> Iterator[str]:
    """Yield a line with its comment after it, or above it if the line would be too long."""
    if not about:
        yield line
    elif len(line) + len(about) + 4 <= WIDTH:
        yield f"{line}  # {about}"
    else:
        lead = f"{' ' * indent}# "
        yield from textwrap.wrap(about, WIDTH, initial_indent=lead, subsequent_indent=lead, break_on_hyphens=False)
        yield line


def _flow(value: Any) -> str:
    width = (
        WIDTH - 30 if isinstance(value, dict | list) else math.inf
    )  # a text that continues on the next line would be invalid YAML here
    dumped: str = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, allow_unicode=True, width=width)
    return dumped.removesuffix("...\n").rstrip()


def _inner(key: str, record: Any) -> Any:
    return record.get(key) if isinstance(record, Mapping) else getattr(record, key, None)


def _about(key: str, record: Any) -> str:
    """Return the first sentence about a setting, from its field, its method, or the record that is its value."""
    if isinstance(record, Mapping) or not isinstance(record, BaseModel):
        return ""
    if description := descriptions(type(record)).get(key):
        return _first_sentence(description)
    if type(record).__name__ == "Methods":
        return methods.describe(methods.families_of(key)[0], key).title
    value = getattr(record, key, None)
    return _first_sentence(type(value).__doc__ or "") if isinstance(value, BaseModel) else ""


def _first_sentence(docstring: str) -> str:
    return " ".join(docstring.split("\n\n")[0].split()).partition(". ")[0].rstrip(".")
