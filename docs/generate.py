"""Writes what the code knows best: `make docs` makes docs/settings.md and docs/params.schema.json from the typed settings."""

import json
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tasks import settings  # noqa: E402  # the path comes first, where this runs as a script

HEAD = """# Settings

Every key of `params.yaml`: its type, its default (— where it must be given), and what it does. Made from the code by `make docs`;
[params.schema.json](params.schema.json) says the same to editors.
"""


def schema() -> dict[str, Any]:
    """The JSON schema of params.yaml."""
    return settings.schema().model_json_schema()


def reference() -> str:
    """All sections as Markdown tables."""
    whole = schema()
    records = {"params.yaml": whole} | whole["$defs"]
    return "\n".join([HEAD, *(_section(name, record) for name, record in records.items() if record.get("properties"))])


def _section(name: str, record: dict[str, Any]) -> str:
    required = set(record.get("required", ()))
    rows = [
        f"| `{key}` | {_type(field)} | {'—' if key in required else _shown(field.get('default'))} | {_line(field)} |"
        for key, field in record["properties"].items()
    ]
    about = "" if name == "params.yaml" else _line(record) + "\n\n"
    return f"## {name}\n\n{about}| key | type | default | |\n| --- | --- | --- | --- |\n" + "\n".join(rows) + "\n"


def _type(field: dict[str, Any]) -> str:
    """The type in a few words; a link where it is a section of its own."""
    if "$ref" in field:
        name = field["$ref"].rsplit("/", 1)[1]
        return f"[{name}](#{name.lower()})"
    for several in ("anyOf", "oneOf"):
        if several in field:
            return " or ".join(_type(option) for option in field[several])
    if "const" in field:
        return f"`{field['const']}`"
    if "enum" in field:
        return ", ".join(f"`{value}`" for value in field["enum"])
    if field.get("type") == "array":
        return f"list of {_type(field['items'])}" if "items" in field else "list"
    if field.get("type") == "object" and isinstance(field.get("additionalProperties"), dict):
        return f"map to {_type(field['additionalProperties'])}"
    limits = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    bounds = " ".join(f"{sign} {field[key]}" for key, sign in limits.items() if key in field)
    return f"{field.get('type', 'any')} {bounds}".strip()


def _shown(value: Any) -> str:
    return f"`{json.dumps(value, ensure_ascii=False)}`"


def _line(field: dict[str, Any]) -> str:
    return " ".join(field.get("description", "").split()).replace("|", "\\|")


def main() -> None:
    """Write both files."""
    (ROOT / "docs/settings.md").write_text(reference(), encoding="utf-8")
    text = json.dumps(schema(), indent=1, ensure_ascii=False)
    (ROOT / "docs/params.schema.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
