"""Python programs in the text of answers: their span, and their text without comments and docstrings."""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from functools import lru_cache
from itertools import accumulate
from textwrap import dedent

from tasks.core.records import Example
from tasks.core.text.reasoning import START, answer_start

Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
Span = tuple[int, int]
"""Start and end of a range of characters, counted from 0; the end is excluded."""
OPENING = re.compile(
    r"^(?P<indent>[ \t]*(?:(?:[-*+]|\d{1,9}[.)])[ \t]+)?)(?P<fence>```|~~~)[^`~\n]*\n"  # on its own line or on that of a list item, with any note after it
    r"|```[a-zA-Z0-9]*[ \t]*\r?\n",  # after a text on the same line
    re.MULTILINE,
)


def locate(text: str) -> Span:
    """Return the span of the program in an answer: the first code block after any reasoning, closed or cut off. Without a block, it is the whole answer.

    A block ends at a fence with the indentation of the opening one or with none. In a list item, it may also have that of the first line or less.
    A fence with a deeper indentation may be part of a string in the program.
    """
    opening, closing = _fences(text)
    start = opening.end() if opening else answer_start(text)
    return start, closing.start() if closing else len(text)


def block_end(answer: str, in_reasoning: bool) -> int | None:
    """Return the position after the fence that closes the program's block in an answer. The answer may begin within its reasoning.

    None if no fence closes it.
    """
    opened = START if in_reasoning else ""
    _, closing = _fences(opened + answer)
    return closing.end() - len(opened) if closing else None


def _fences(text: str) -> tuple[re.Match[str] | None, re.Match[str] | None]:
    """Return the fences that open and close the first code block after any reasoning; None for a missing one."""
    opening = OPENING.search(text, answer_start(text))
    if opening is None:
        return None, None
    before = opening["indent"] or ""
    code = text[opening.end() :]
    widest = max(len(before), len(code) - len(code.lstrip(" \t")))
    indent = rf"[ \t]{{0,{widest}}}" if before.strip() else rf"(?:{before})?"
    closing = re.compile(rf"\r?\n{indent}{opening['fence'] or '```'}")
    return opening, closing.search(text, opening.end())


def program(text: str) -> str:
    """Return the program in an answer, without the indentation of a block in a list."""
    start, end = locate(text)
    code = text[start:end]
    is_indented = start > answer_start(text) and code.lstrip("\r\n").startswith((" ", "\t"))
    return dedent(code) if is_indented else code


def holds_program(example: Example) -> bool:
    """Return False if the example's tests judge an answer that is not a program."""
    return example.tests is None or example.tests.run_programs


def locate_judged(example: Example, text: str) -> Span:
    """Return the span of an answer's judged part: the program, or the whole answer if it is not a program."""
    return locate(text) if holds_program(example) else (answer_start(text), len(text))


def judged(example: Example, text: str) -> str:
    """Return the judged part of an answer to an example."""
    start, end = locate_judged(example, text)
    return text[start:end]


def response_with(example: Example, text: str) -> str:
    """Return an example's response with its judged part replaced by a text."""
    start, end = locate_judged(example, example.response)
    return example.response[:start] + text + example.response[end:]


@lru_cache(maxsize=4096)
def essence(code: str) -> str:
    """Return a program without its comments, docstrings and layout. Raises SyntaxError if it is not valid Python."""
    try:
        tree = ast.parse(code)
        for node in _with_docstrings(tree):
            node.body = node.body[1:] or [ast.Pass()]
        return ast.unparse(tree)
    except (ValueError, RecursionError, MemoryError) as error:  # null bytes, very deep nesting
        raise SyntaxError(str(error) or type(error).__name__) from None


def without_docstrings(code: str) -> str:
    """Return the text of a program without the lines of its docstrings, otherwise unchanged. Raises SyntaxError like `essence`.

    A body that consists of a docstring keeps it.
    """
    try:
        nodes = [node.body[0] for node in _with_docstrings(ast.parse(code)) if len(node.body) > 1]
    except (ValueError, RecursionError, MemoryError) as error:
        raise SyntaxError(str(error) or type(error).__name__) from None
    removed_lines = {number for node in nodes for number in range(node.lineno, (node.end_lineno or node.lineno) + 1)}
    return "".join(line for number, line in enumerate(code.splitlines(keepends=True), 1) if number not in removed_lines)


def body_start(code: str, node: Definition) -> tuple[int, int]:
    """Return the line (counted from 1) and the column at which the body of a definition begins."""
    first = node.body[0]
    line = min([first.lineno, *(decorator.lineno for decorator in getattr(first, "decorator_list", ()))])
    return line, len(code.splitlines()[line - 1].encode()[: first.col_offset].decode())


def header(code: str, node: Definition) -> str:
    """Return the text of a definition up to its body, without the comments between them."""
    line, character = body_start(code, node)
    *lines, last = code.splitlines()[:line]
    lines.append(last[:character].rstrip())
    while not lines[-1].strip() or lines[-1].lstrip().startswith("#"):
        lines.pop()
    return "\n".join(lines)


def remarks(code: str) -> list[Span]:
    """Return the spans of a program's comments and docstrings. Raises SyntaxError like `essence`."""
    lines = list(
        io.StringIO(code, newline="")
    )  # only the line ends of Python: `str.splitlines` splits at more characters
    starts = [0, *accumulate(map(len, lines))]

    def place(line: int, byte: int) -> int:
        return starts[line - 1] + len(lines[line - 1].encode()[:byte].decode())

    try:
        tokens = list(tokenize.generate_tokens(io.StringIO(code, newline="").readline))
        docstrings = [node.body[0] for node in _with_docstrings(ast.parse(code))]
    except (ValueError, RecursionError, MemoryError, tokenize.TokenError) as error:
        raise SyntaxError(str(error) or type(error).__name__) from None
    spans = [(place(s.lineno, s.col_offset), place(s.end_lineno or 0, s.end_col_offset or 0)) for s in docstrings]
    for token in tokens:
        if token.type == tokenize.COMMENT:
            start = starts[token.start[0] - 1] + token.start[1]
            spans.append((start, start + len(token.string)))
    return sorted(spans)


def _with_docstrings(tree: ast.Module) -> Iterator[ast.Module | Definition]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | Definition) and ast.get_docstring(node, clean=False) is not None:
            yield node
