"""Check `tool_choice`: the answer names the tool of the reference, or none where the reference calls none.

A choice is written as a call without arguments, `<tool_call>{"name": "TOOL"}</tool_call>`, and as `null` where no tool is to be called. A
call is taken by its name, so that models which write whole calls are measured too. Names are compared whole: one may begin another.
"""

import json
from typing import Literal

from tasks.core.answers.base import AnswerCheck, Grade, Row, binary
from tasks.core.answers.json import parse
from tasks.core.answers.tool_call import NONE, TAG, calls
from tasks.core.records import Unfit

SELECT, ANSWER, CALL = "select", "answer", "call:"
"""Tasks of the examples that a trajectory becomes: the choice of a tool, an answer without a call, and before its name the call of a tool."""


class ToolChoice(AnswerCheck):
    """The answer names the reference's tool, or calls none where the reference calls none."""

    kind: Literal["tool_choice"] = "tool_choice"
    spelt_out: bool = False
    """True if none has to be written as `null`; else an answer that calls no tool has chosen none."""

    def expect(self, row: Row) -> str | Unfit | None:
        reference = self.reference_of(row)
        return reference if isinstance(reference, Unfit) else chosen(str(reference))

    def grade(self, answer: str, expected: str | None) -> Grade:
        made = chosen(answer, spelt_out=self.spelt_out)
        if isinstance(made, Unfit):
            return binary(False, "", made.reason)
        return binary(made == expected, self.shown(made), "wrong tool")

    def shown(self, expected: str | None) -> str:
        return NONE if expected is None else expected


def written(tool: str | None) -> str:
    """Return the choice of a tool, or of none, as a model writes it."""
    return f"<tool_call>\n{json.dumps({'name': tool}, ensure_ascii=False)}\n</tool_call>"


def chosen(text: str, *, spelt_out: bool = False) -> str | Unfit | None:
    """Return the tool that an answer names, None if it calls none, or the reason why it cannot be read: of a choice that is to be spelt out,
    also that there is none."""
    names = {call["name"] for call in calls(text)}
    if names:
        return names.pop() if len(names) == 1 else Unfit("several tools", ", ".join(sorted(names)))
    block = TAG.search(text)
    if block is None:
        return Unfit("no choice", text[:60]) if spelt_out else None
    return None if parse(block[1]) == {"name": None} else Unfit("no name", text[:60])


def task_of(tool: str) -> str:
    """Return the task of the examples that call a tool."""
    return CALL + tool
