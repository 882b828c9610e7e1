"""How a conversation asks for a function and shows code: one wording for what is trained on and what is measured."""


def request(name: str, stub: str, context: str) -> str:
    """What a person writes who wants the function behind `stub` (signature and docstring) and has `context`."""
    ask = f"Write the Python function `{name}`. It must do what its docstring says; leave the docstring out.\n\n{block(stub)}"
    return f"{ask}\n\nThese names are already defined:\n\n{block(context)}" if context else ask


def block(code: str) -> str:
    """Code as a conversation shows it."""
    return f"```python\n{code}\n```"
