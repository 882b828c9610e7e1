"""Make views of a trajectory, a conversation in which the assistant calls tools: its choices and its texts as separate examples.

Each of the assistant's turns becomes two examples. The answer of the first names the tool or none (task `select`). The answer of the second is
the turn: a tool call (task `call:TOOL`) or a text (task `answer`). Both have the same prompt: all turns before, and all tools. So the same
prompt works for both adapters.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tasks.core.answers import base, registry, schemas
from tasks.core.answers.base import AnswerCheck
from tasks.core.answers.tool_call import ToolCall
from tasks.core.answers.tool_choice import ANSWER, SELECT, ToolChoice, task_of, written
from tasks.core.records import Example, Message, Tests, Unfit, identify
from tasks.core.text.contamination import prompt_of
from tasks.stages.ingest.reading.rows.tool_calls import as_text


@dataclass(frozen=True)
class View(Example):
    """An example from one turn of a trajectory. Other views of the trajectory are similar, but are not duplicates of it."""

    trajectory: str = ""
    """The id of the whole trajectory; not written to any table."""

    @property
    def is_choice(self) -> bool:
        """Return True if its response is the choice of a tool."""
        return self.task == SELECT


def views(whole: Example, label: str, *, has_group: bool) -> list[View] | Unfit:
    """Return the views of a trajectory, or the reason why it has none. All are in one group, and so in one split.

    Trajectories that answer the same question are one group, unless the data have groups of their own (`has_group`).
    """
    known = schemas.of_tools(whole.tools)
    if isinstance(known, Unfit):
        return known
    if whole.rejected is not None or whole.desirable is not None:
        return Unfit("judged trajectory", "an answer that is judged good or bad cannot teach a call")
    context = whole.context_answers or ()
    turns = [
        place for place, message in enumerate(whole.messages) if message.role == "assistant" and place not in context
    ]
    for place in turns:
        if (unfit := _misfit(whole.messages[place], known)) is not None:
            return replace(unfit, detail=f"turn {place + 1}: {unfit.detail}")
    if not known:
        return Unfit("no tools", "it lists no tool to choose from")
    group = whole.group if has_group else f"{label}: prompt {identify(whole.messages[: turns[0]])}"
    return [view for place in turns for view in _of_turn(replace(whole, group=group), place)]


def _misfit(turn: Message, known: Mapping[str, Mapping[str, Any]]) -> Unfit | None:
    calls = turn.tool_calls or []
    if len(calls) > 1:
        names = ", ".join(call.name for call in calls)
        return Unfit("several calls at once", f"it calls {names}, and a choice is of one tool")
    return schemas.broken_call(calls[0].name, json.loads(calls[0].arguments), known) if calls else None


def _of_turn(whole: Example, place: int) -> list[View]:
    """Return the two views of a turn: its choice, and its call or text."""
    prompt, turn = whole.messages[:place], whole.messages[place]
    tool = turn.tool_calls[0].name if turn.tool_calls else None
    choice = Message("assistant", written(tool))
    return [
        _view(whole, prompt, choice, SELECT, ToolChoice(spelt_out=True)),
        _view(whole, prompt, turn, task_of(tool), ToolCall()) if tool else _view(whole, prompt, turn, ANSWER, None),
    ]


def _view(whole: Example, prompt: Sequence[Message], turn: Message, task: str, check: AnswerCheck | None) -> View:
    messages = [*prompt, turn]
    view = View(
        id=identify(messages, tools=whole.tools),
        messages=messages,
        task=task,
        domain=whole.domain,
        group=whole.group,
        split=whole.split,
        source=f"{whole.source}: turn {len(messages)}",
        license=whole.license,
        tools=whole.tools,
        trajectory=whole.id,
    )
    return replace(view, tests=_tests(view, check)) if check else view


def _tests(view: View, check: AnswerCheck) -> Tests:
    tests = registry.tests(check, base.Row(prompt_of(view), as_text(view.messages[-1])))
    assert not isinstance(tests, Unfit), "a turn whose call was read fits its own check"
    return tests
