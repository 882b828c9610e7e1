"""How a conversation asks for a function and shows code: one wording for what is trained on and what is measured."""

from tasks.core.records import content_id


def request(name: str, stub: str, context: str) -> str:
    """What a person writes who wants the function behind `stub` (signature and docstring) and has `context`."""
    ask = f"Write the Python function `{name}`. It must do what its docstring says; leave the docstring out.\n\n{block(stub)}"
    return f"{ask}\n\nThese names are already defined:\n\n{block(context)}" if context else ask


def block(code: str) -> str:
    """Code as a conversation shows it."""
    return f"```python\n{code}\n```"


def field(name: str, text: str) -> str:
    """Data as a prompt shows it: between two marks that it cannot hold, so that nothing in it can end the field."""
    mark = content_id(text)[:8]
    while mark in text:
        mark = content_id(mark)[:8]
    return f"<{name} {mark}>\n{text}\n</{name} {mark}>"
