"""The chat templates of a tokenizer in a GGUF file: the default one without a name, and any number of named ones."""

from collections.abc import Mapping
from typing import Any

import gguf

KEYS = gguf.Keys.Tokenizer


def write(writer: Any, templates: str | Mapping[str, str]) -> None:
    """Write one chat template, or several named ones in a fixed order. `GGUFWriter.add_chat_template` does not keep the order."""
    named = {"default": templates} if isinstance(templates, str) else dict(sorted(templates.items()))
    if default := named.pop("default", ""):
        writer.add_chat_template(default)
    if named:
        writer.add_array(KEYS.CHAT_TEMPLATES, list(named))
    for name, template in named.items():
        writer.add_string(KEYS.CHAT_TEMPLATE_N.format(name=name), template)


def read(reader: Any) -> str | dict[str, str] | None:
    """Return the chat templates of a file in the form of a tokenizer: all by name, or only the default as a text; None if there is none.

    transformers' reader (5.24) reads only the default.
    """
    fields = reader.fields
    names = fields[KEYS.CHAT_TEMPLATES].contents() if KEYS.CHAT_TEMPLATES in fields else []
    keys = {name: KEYS.CHAT_TEMPLATE_N.format(name=name) for name in names} | {"default": KEYS.CHAT_TEMPLATE}
    templates = {name: fields[key].contents() for name, key in keys.items() if key in fields}
    return templates["default"] if templates.keys() == {"default"} else templates or None
