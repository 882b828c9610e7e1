"""The columns of a table whose names are not the usual ones."""

from typing import Literal

from pydantic import Field, model_validator

from tasks.core.config import Config
from tasks.core.text.templates import check_template


class Columns(Config):
    """The columns that make a conversation, where their names are not the usual ones.

    Each is the name of a column, or a Jinja template of columns: `{{ title }}: {{ body }}`; `row["a name"]` is a column whose name is
    no word. A row that lacks one of them is read by the usual names, and one where a template would write null is refused:
    `{% if title %}{{ title }}: {% endif %}{{ body }}`.
    """

    prompt: str | None = None
    response: str | None = None
    messages: str | None = None
    """Turns with `role` and `content`, as a list or as JSON text."""
    rejected: str | None = None
    """A worse response to the same prompt, which makes a preference of the row."""

    @model_validator(mode="after")
    def _make_a_conversation(self) -> "Columns":
        if (self.prompt is None) != (self.response is None) or (self.prompt is None) == (self.messages is None):
            raise ValueError("name either `prompt` and `response`, or `messages`")
        if self.rejected is not None and self.response is None:
            raise ValueError("`rejected` stands beside `prompt` and `response`")
        for value in filter(None, (self.prompt, self.response, self.messages, self.rejected)):
            check_template(value)
        return self


class Thread(Config):
    """The columns of a table that holds one message a row: the messages of a conversation become one row.

    Messages that follow each other in one role are one turn. What the assistant says before the first question, and what is said after its
    last answer, is left out. A row that lacks one of the columns is read as any other.
    """

    by: str
    """The column that says which conversation of its file a message belongs to."""
    role: str = "role"
    content: str = "content"
    id: str | None = None
    """The column with the name of each message, by which `parent` names one."""
    parent: str | None = None
    """The column that names the message which a message answers: those of a conversation are a tree then, and each branch of it down to a last answer
    becomes a row. An answer of several branches trains in the first of them, or with each answer that goes on with it, and no split parts a tree."""
    order: str | None = None
    """The column by which the messages of a conversation are ordered: numbers, or dates as ISO 8601 writes them. Without it their rows
    are in order."""
    roles: dict[str, Literal["system", "user", "assistant", "tool"] | None] = Field(default_factory=dict)
    """Who a value of the column `role` is, where it is no usual name: `{anna: assistant, visitor: user}`. The messages of one that is `null` are left
    out."""
    others: Literal["user", "assistant"] | None = None
    """Who everybody else is, where the column holds names. Without it, a conversation with an unknown name is refused."""

    @model_validator(mode="after")
    def _parents_have_names(self) -> "Thread":
        if (self.id is None) != (self.parent is None):
            raise ValueError("`parent` names messages by their `id`: name both columns, or neither")
        return self
