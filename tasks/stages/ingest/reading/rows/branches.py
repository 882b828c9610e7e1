"""Read the conversations of ChatGPT's export, whose messages are a tree: only the branch that was shown last."""

from collections.abc import Mapping
from typing import Any

from tasks.stages.ingest.reading.rows.turns import merged

MESSAGES, LAST = "mapping", "current_node"
"""The columns of the messages by id, and of the id of the last message."""
SPOKEN = ("user", "assistant")


def is_tree(row: Mapping[str, Any]) -> bool:
    """Return True if a row is such a conversation."""
    return isinstance(row.get(MESSAGES), Mapping) and isinstance(row.get(LAST), str)


def shown_branch(row: Mapping[str, Any]) -> list[dict[str, str]]:
    """Return the turns from the root to the last message: only text, without messages to and from tools."""
    nodes, node, turns = row[MESSAGES], row[LAST], list[dict[str, str]]()
    visited = set[str]()
    while isinstance(node, str) and isinstance(nodes.get(node), Mapping) and node not in visited:
        visited.add(node)
        if turn := _turn(nodes[node].get("message")):
            turns.append(turn)
        node = nodes[node].get("parent")
    return merged(reversed(turns), "\n\n")


def _turn(message: Any) -> dict[str, str] | None:
    """Return the text of a message between user and assistant as a turn; None if it has none."""
    if not isinstance(message, Mapping) or message.get("recipient", "all") != "all":
        return None
    author, content = message.get("author"), message.get("content")
    if not isinstance(author, Mapping) or author.get("role") not in SPOKEN:
        return None
    parts = (
        content.get("parts") if isinstance(content, Mapping) and content.get("content_type", "text") == "text" else None
    )
    text = "\n".join(part for part in parts if isinstance(part, str)) if isinstance(parts, list) else ""
    return {"role": author["role"], "content": text} if text.strip() else None
