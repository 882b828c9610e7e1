"""Programs as they stand in answers."""

import ast
import re
from functools import lru_cache

from tasks.core.marks import Span

BLOCK = re.compile(r"```[a-zA-Z0-9]*[ \t]*\n(.*?)(?:\n```|\Z)", re.DOTALL)


def locate(text: str) -> Span:
    """Where the program of an answer stands: in its first code block, closed or cut off; all of it where it has none."""
    block = BLOCK.search(text)
    return block.span(1) if block else (0, len(text))


def program(text: str) -> str:
    """The program of an answer."""
    start, end = locate(text)
    return text[start:end]


@lru_cache(maxsize=4096)
def essence(code: str) -> str:
    """What a program says without its comments, docstrings and layout. Raises SyntaxError where it is no Python."""
    try:
        tree = ast.parse(code)
    except (ValueError, RecursionError, MemoryError) as error:  # null bytes, nesting without end
        raise SyntaxError(str(error) or type(error).__name__) from None
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and ast.get_docstring(
            node, clean=False
        ):
            node.body = node.body[1:] or [ast.Pass()]
    return ast.unparse(tree)
