"""The reference of settings, from the JSON schema of params.yaml: a section for each record, under the path at which it is written."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tasks import configuration

ROOT = Path(__file__).resolve().parents[1]
HEAD = """# Settings

Every key of `params.yaml`: what it does, its type and its default. Made from the code by `make reference`; `docs/params.schema.json` is the same as a
JSON schema, for editors.

- The title of a section is the path of its keys, such as `tune.probe`; `*` stands for a name of your own. Stages have the order of the graph.
- `or null` means that `null` switches the key off.
- A default in braces lists only the values that differ from the defaults of that section.
"""
BOUNDS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
NOTHING = "no settings"


def schema() -> dict[str, Any]:
    """Return the JSON schema of params.yaml."""
    return configuration.schema().model_json_schema()


@dataclass
class _Section:
    """A record of the schema."""

    title: str
    paths: list[str] = field(default_factory=list)
    """All paths at which it is written, the first one first."""


class _Reference:
    def __init__(self, full: dict[str, Any]) -> None:
        self._records: dict[str, dict[str, Any]] = full["$defs"]
        self._top = full
        self._keys = _in_order(full["properties"])
        self._sections: dict[str, _Section] = {}
        """Name of a record in the schema → its section, in the order of the page."""
        for key in self._keys:
            self._visit(full["properties"][key], key)
        titles = [_slug(section.title) for section in self._sections.values()]
        assert len(set(titles)) == len(titles), "two sections have one anchor"

    def _visit(self, value: dict[str, Any], path: str) -> None:
        """Note the sections of the records that a key may hold, and those within them."""
        names = list(_records_in(value))
        path += ".*" if isinstance(value.get("additionalProperties"), dict) else ""
        for name in names:
            record = self._records[name]
            if (section := self._sections.get(name)) is None:
                title = f"{path}, {_variant(record)}" if len(names) > 1 else path
                self._sections[name] = _Section(title, [path])
                for key, nested in record.get("properties", {}).items():
                    self._visit(nested, f"{path}.{key}")
            elif path not in section.paths:
                section.paths.append(path)

    def parts(self) -> Iterator[str]:
        """Yield the parts of the page."""
        yield HEAD
        yield _table(self._row(key, self._top["properties"][key], key in self._top["required"]) for key in self._keys)
        for name, section in self._sections.items():
            record = self._records[name]
            if not record.get("properties"):
                continue
            level = "##" if section.title.removesuffix(".*") in self._keys else "###"
            yield f"{level} {section.title}\n"
            others = [path for path in section.paths[1:] if path != section.title]
            also = f" Also at {', '.join(f'`{path}`' for path in others)}." if others else ""
            if about := _line(record) + also:
                yield about.strip() + "\n"
            required = record.get("required", ())
            yield _table(self._row(key, value, key in required) for key, value in record["properties"].items())

    def anchor(self, path: str) -> str:
        """Return the anchor of the section with this title; empty if it has no keys."""
        titled = (name for name, section in self._sections.items() if section.title == path)
        return next((_slug(path) for name in titled if self._records[name].get("properties")), "")

    def _row(self, key: str, value: dict[str, Any], is_required: bool) -> str:
        """Return the row of a key: what it does, then its type and default. A key without a text of its own has that of its record."""
        records = [self._records[name] for name in _records_in(value)]
        about = _line(value) or (_line(records[0]) if len(records) == 1 else "")
        facts = f"{self._type(value)}; {'required' if is_required else self._default(value)}"
        return f"| `{key}` | {about}{'<br>' if about else ''}{facts} |"

    def _type(self, value: dict[str, Any]) -> str:
        """Return the type in a few words, with links to the sections of records."""
        if "$ref" in value:
            return self._link(_name(value))
        for several in ("anyOf", "oneOf"):
            if several in value:
                options = [option for option in value[several] if option.get("type") != "null" or value.get("default")]
                return _either([self._type(option) for option in options])
        if "const" in value:
            return f"`{value['const']}`"
        if "enum" in value:
            return _either([f"`{each}`" for each in value["enum"]])
        if value.get("type") == "array":
            return f"list of {self._type(value['items'])}" if "items" in value else "list"
        if value.get("type") == "object" and isinstance(value.get("additionalProperties"), dict):
            return f"map to {self._type(value['additionalProperties'])}"
        bounds = " ".join(f"{sign} {value[key]}" for key, sign in BOUNDS.items() if key in value)
        return f"{value.get('type', 'any')} {bounds}".strip()

    def _link(self, name: str) -> str:
        record, title = self._records[name], self._sections[name].title
        if not record.get("properties"):
            return NOTHING
        return f"[`{title.rpartition(', ')[2]}`](#{_slug(title)})"

    def _default(self, value: dict[str, Any]) -> str:
        """Return the default of a key. A default that is the record's own is not repeated."""
        default = value.get("default")
        if isinstance(default, dict):
            names = list(_records_in(value))
            default = self._changed(default, self._records[names[0]]) if len(names) == 1 else default
        if default in (None, {}, [], ""):
            return "optional"
        return f"default `{default if isinstance(default, str) else json.dumps(default, ensure_ascii=False)}`"

    def _changed(self, values: dict[str, Any], record: dict[str, Any]) -> dict[str, Any]:
        """Return the values that differ from the defaults of their record."""
        changed = {}
        for key, given in values.items():
            declared = record.get("properties", {}).get(key, {})
            names = list(_records_in(declared))
            if isinstance(given, dict) and len(names) == 1:
                given = self._changed(given, self._records[names[0]])
                if not given:
                    continue
            elif given == declared.get("default"):
                continue
            changed[key] = given
        return changed


def page() -> str:
    """Return the page."""
    return "\n".join(_Reference(schema()).parts())


def anchor(path: str) -> str:
    """Return the anchor of the section at a path of params.yaml; empty if there is nothing to set."""
    return _Reference(schema()).anchor(path)


def _in_order(keys: dict[str, Any]) -> list[str]:
    """Return the sections of params.yaml: those of stages in the order of the graph, then the others."""
    graph = yaml.safe_load((ROOT / configuration.GRAPH).read_text(encoding="utf-8"))
    of_stages = [stage for stage in graph["stages"] if stage in keys]
    return [*of_stages, *(key for key in keys if key not in of_stages)]


def _records_in(value: Any) -> Iterator[str]:
    """Yield the names of the records that a value of the schema refers to."""
    if isinstance(value, dict):
        if "$ref" in value:
            yield _name(value)
        for key in ("anyOf", "oneOf", "items", "additionalProperties"):
            yield from _records_in(value.get(key))
    elif isinstance(value, list):
        for option in value:
            yield from _records_in(option)


def _either(options: list[str]) -> str:
    *others, last = options
    return f"{', '.join(others)} or {last}" if others else last


def _name(value: dict[str, Any]) -> str:
    return str(value["$ref"]).rsplit("/", 1)[1]


def _variant(record: dict[str, Any]) -> str:
    """Return what tells a record from others at the same path: a key with a fixed value, or its name."""
    fixed = next(
        (f"{key}: {value['const']}" for key, value in record.get("properties", {}).items() if "const" in value), ""
    )
    return fixed or re.sub(r"(?<=[a-z])(?=[A-Z])", " ", record["title"]).lower()


def _slug(title: str) -> str:
    """Return the anchor that the site gives a heading."""
    return re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", title).strip().lower())


def _line(value: dict[str, Any]) -> str:
    return " ".join(value.get("description", "").split()).replace("|", "\\|")


def _table(rows: Iterator[str]) -> str:
    return "| key | meaning, type and default |\n| --- | --- |\n" + "\n".join(rows) + "\n"
