"""The chat templates of a tokenizer in a GGUF file: one by no name, the default, and any number by name."""

from collections.abc import Mapping
from typing import Any

import gguf

KEYS = gguf.Keys.Tokenizer


def write(writer: Any, templates: str | Mapping[str, str]) -> None:
    """Write one chat template, or several by name in a fixed order, which `GGUFWriter.add_chat_template` does not keep."""
    named = {"default": templates} if isinstance(templates, str) else dict(sorted(templates.items()))
    if default := named.pop("default", ""):
        writer.add_chat_template(default)
    if named:
        writer.add_array(KEYS.CHAT_TEMPLATES, list(named))
    for name, template in named.items():
        writer.add_string(KEYS.CHAT_TEMPLATE_N.format(name=name), template)


def read(reader: Any) -> str | dict[str, str] | None:
    """Return the chat templates of a file as a tokenizer holds them: all by name, or a default that stands alone; None where there is none.

    transformers' reader (5.24) takes the default alone.
    """
    fields = reader.fields
    names = fields[KEYS.CHAT_TEMPLATES].contents() if KEYS.CHAT_TEMPLATES in fields else []
    keys = {name: KEYS.CHAT_TEMPLATE_N.format(name=name) for name in names} | {"default": KEYS.CHAT_TEMPLATE}
    templates = {name: fields[key].contents() for name, key in keys.items() if key in fields}
    return templates["default"] if templates.keys() == {"default"} else templates or None
