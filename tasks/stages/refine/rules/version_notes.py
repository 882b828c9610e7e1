"""Remove Sphinx's version notes from docstrings, since they do not describe a function's behaviour. This rule is ours."""

import re

from tasks.core.text.wording import requested
from tasks.stages.refine.rules import code_text

NOTE = re.compile(r"^\.\. version(?:added|changed)::.*\n?(?:(?:[ \t]+.*|[ \t]*)(?:\n|\Z))*", re.MULTILINE)


def without_version_notes(prompt: str) -> str:
    """Return the prompt with version notes removed from its docstring; unchanged if there are none."""
    request = requested(prompt)
    text = code_text.docstring(request.stub) if request else None
    if request is None or text is None:
        return prompt
    kept = NOTE.sub("", text).strip()
    keeps_examples = kept.count(">>>") == text.count(">>>") and kept not in ("", text.strip())
    return code_text.with_docstring(request, kept) if keeps_examples else prompt
