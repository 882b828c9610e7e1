"""A docstring without what it says of its history: Sphinx's notes of versions tell nothing of what a function does. Ours."""

import re

from tasks.core.wording import requested
from tasks.stages.refine.rules import pieces

NOTE = re.compile(r"^\.\. version(?:added|changed)::.*\n?(?:(?:[ \t]+.*|[ \t]*)(?:\n|\Z))*", re.MULTILINE)


def without_notes(prompt: str) -> str:
    """The prompt, its docstring without notes of versions; the same where there are none."""
    asked = requested(prompt)
    text = pieces.docstring(asked.stub) if asked else None
    if asked is None or text is None:
        return prompt
    kept = NOTE.sub("", text).strip()
    is_note_alone = kept.count(">>>") == text.count(">>>") and kept not in ("", text.strip())
    return pieces.with_docstring(asked, kept) if is_note_alone else prompt
