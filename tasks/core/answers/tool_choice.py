"""Check `tool_choice`: the answer names the tool of the reference, or no tool if the reference calls none.

A choice is a call without arguments, `<tool_call>{"name": "TOOL"}</tool_call>`, or `null` if no tool is to be called. Of a whole call, only the
name counts, so that models that write whole calls can be measured too. Whole names are compared, because a name may be the prefix of another.
"""

import json
from typing import Literal

from tasks.core.answers.base import AnswerCheck, Grade, Row, binary
from tasks.core.answers.json import parse
from tasks.core.answers.tool_call import NONE, TAG, calls
from tasks.core.records import Unfit

SELECT, ANSWER, CALL = "select", "answer", "call:"
"""Tasks of the examples into which a trajectory is divided: the choice of a tool, an answer without a call, and the prefix of the call of a tool, before its name."""


class ToolChoice(AnswerCheck):
    """The answer names the reference's tool, or no tool if the reference calls none."""

    kind: Literal["tool_choice"] = "tool_choice"
    spelt_out: bool = False
    """True if the choice of no tool must be written as `null`. If False, an answer without a call counts as the choice of no tool."""

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
    """Return the text of the choice of a tool, or of no tool."""
    return f"<tool_call>\n{json.dumps({'name': tool}, ensure_ascii=False)}\n</tool_call>"


def chosen(text: str, *, spelt_out: bool = False) -> str | Unfit | None:
    """Return the tool that an answer names, None if it chooses no tool, or the reason why it cannot be read. If the choice of no tool must be
    written out, an answer without a choice cannot be read."""
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
