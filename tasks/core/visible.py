"""Text of others where people see it: nothing in it hides, or changes what is shown beside it."""

import re

CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff]")


def visible(text: str, chars: int) -> str:
    """The text cut to `chars` characters, with a word on how many are left, and its control and direction characters spelled out."""
    shown = text if len(text) <= chars else f"{text[:chars]}\n… {len(text) - chars:,} characters more"
    return CONTROLS.sub(lambda found: f"\\u{ord(found[0]):04x}", shown)
