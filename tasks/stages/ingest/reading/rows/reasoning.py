"""Put the reasoning in a separate field or column in front of its answer."""

from collections.abc import Mapping
from typing import Any

from tasks.core.text.reasoning import reasoned
from tasks.stages.ingest.reading import cleaning
from tasks.stages.ingest.reading.rows.content_parts import expanded
from tasks.stages.ingest.reading.rows.conversations import response_column
from tasks.stages.ingest.reading.rows.turns import CONTENTS, content_of, role_of

FIELDS = ("reasoning_content", "reasoning", "thinking")
"""The fields of the reasoning of an answer: of OpenAI-compatible servers, of OpenRouter, and of Ollama and Anthropic."""


def with_reasoning(row: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Return the row with reasoning put before each answer.

    The reasoning is in the field `name` of each of the assistant's turns, or in the column `name` beside a response.
    """
    changed: dict[str, Any] = {
        column: [_with_reasoning(each, name) for turn in value for each in expanded(turn)]
        for column, value in row.items()
        if isinstance(value, list)
    }
    response = response_column(row)
    if response is not None and isinstance(row[response], str):
        changed[response] = _before(row[response], row.get(name))
    return {**row, **changed}


def _with_reasoning(turn: Any, name: str) -> Any:
    if role_of(turn) != "assistant":
        return turn
    content = content_of(turn)
    if content is not None and not isinstance(content, str):
        return turn
    others = {field: value for field, value in turn.items() if field not in CONTENTS}
    return {**others, "content": _before(content or "", turn.get(name))}


def _before(answer: str, reasoning: Any) -> str:
    """Return an answer with its reasoning, if there is any, in front."""
    if not isinstance(reasoning, str) or not reasoning.strip():
        return answer
    return reasoned(cleaning.clean(reasoning), answer)
