"""Settings of the columns of a table: their names, if they are not the usual ones, and the row that names them."""

from typing import Literal

from pydantic import Field, model_validator

from tasks.core.config import Config
from tasks.core.text.templates import check_template


class Columns(Config):
    """The columns that make a conversation, if their names are not the usual ones.

    Each is the name of a column, or a Jinja template of columns, such as `{{ title }}: {{ body }}`. Write `row["a name"]` for a column whose
    name is not a single word. A row that lacks one of the columns is read by the usual names. A row for which a template would write null is
    refused; test for it with `{% if title %}{{ title }}: {% endif %}{{ body }}`.
    """

    prompt: str | None = None
    response: str | None = None
    messages: str | None = None
    """Turns with `role` and `content`, as a list or as JSON text."""
    rejected: str | None = None
    """A worse response to the same prompt, which makes the row a preference pair."""

    @model_validator(mode="after")
    def _make_a_conversation(self) -> "Columns":
        if (self.prompt is None) != (self.response is None) or (self.prompt is None) == (self.messages is None):
            raise ValueError("name either `prompt` and `response`, or `messages`")
        if self.rejected is not None and self.response is None:
            raise ValueError("`rejected` stands beside `prompt` and `response`")
        for value in filter(None, (self.prompt, self.response, self.messages, self.rejected)):
            check_template(value)
        return self


class Header(Config):
    """The option of a table in a file whose first row may or may not name the columns."""

    header: bool | None = Field(None, exclude_if=lambda value: value is None)
    """Whether a row of CSV and Excel tables names the columns. Without it, this is detected, and in doubt the first row does. With `false`,
    columns are `column 1`, `column 2`, and so on."""


class Thread(Config):
    """The columns of a table with one message in each row. The messages of a conversation become one row.

    Consecutive messages of the same role are one turn. Messages of the assistant before the first question, and all messages after its last
    answer, are left out. A row that lacks one of the columns is read like a row of any other table.
    """

    by: str
    """The column that names the conversation, within its file, to which a message belongs."""
    role: str = "role"
    content: str = "content"
    id: str | None = None
    """The column with the id of each message, to which `parent` refers."""
    parent: str | None = None
    """The column with the id of the message that a message answers. The messages of a conversation are then a tree, and each branch that
    ends in an answer becomes a row. An answer in several branches trains in the first of them only, unless a new answer continues its turn. A
    tree stays in one split."""
    order: str | None = None
    """The column by which the messages of a conversation are ordered: numbers, or dates in ISO 8601 format. Without it, the order is that of
    the rows."""
    roles: dict[str, Literal["system", "user", "assistant", "tool"] | None] = Field(default_factory=dict)
    """The role for each value of the column `role` that is not a usual name: `{anna: assistant, visitor: user}`. Messages of a value that is
    mapped to `null` are left out."""
    others: Literal["user", "assistant"] | None = None
    """The role of all other values, if the column holds names. Without it, a conversation with an unknown name is refused."""

    @model_validator(mode="after")
    def _parents_have_names(self) -> "Thread":
        if (self.id is None) != (self.parent is None):
            raise ValueError("`parent` names messages by their `id`: name both columns, or neither")
        return self
