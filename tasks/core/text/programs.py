"""Python programs in the text of answers: their place, and their text without comments and docstrings."""

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
"""Characters from a place to before another, counted from 0."""
OPENING = re.compile(
    r"^(?P<indent>[ \t]*(?:(?:[-*+]|\d{1,9}[.)])[ \t]+)?)(?P<fence>```|~~~)[^`~\n]*\n"  # on a line of its own or of a list, with any note behind it
    r"|```[a-zA-Z0-9]*[ \t]*\r?\n",  # behind a text
    re.MULTILINE,
)


def locate(text: str) -> Span:
    """Return the span of the program in an answer: its first code block behind any reasoning, closed or cut off; all that without a block.

    A block ends at a fence that is indented as its first one, behind the marker of a list at most as that or the first line, or not at all: a deeper
    one may stand in a string of the program.
    """
    opening, closing = _fences(text)
    start = opening.end() if opening else answer_start(text)
    return start, closing.start() if closing else len(text)


def block_end(answer: str, in_reasoning: bool) -> int | None:
    """Return the place behind the fence that closes the block of the program in an answer, which may begin within its reasoning.

    None if no fence closes it.
    """
    opened = START if in_reasoning else ""
    _, closing = _fences(opened + answer)
    return closing.end() - len(opened) if closing else None


def _fences(text: str) -> tuple[re.Match[str] | None, re.Match[str] | None]:
    """Return the fences that open and close the first code block behind any reasoning, as far as they are there."""
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
    """Return False if the example's tests judge an answer that is no program."""
    return example.tests is None or example.tests.run_programs


def locate_judged(example: Example, text: str) -> Span:
    """Return the span of what is right or wrong in an answer to an example: the program, or all of an answer that is none."""
    return locate(text) if holds_program(example) else (answer_start(text), len(text))


def judged(example: Example, text: str) -> str:
    """Return what is right or wrong in an answer to an example."""
    start, end = locate_judged(example, text)
    return text[start:end]


def response_with(example: Example, text: str) -> str:
    """Return an example's response with this text in the place of what is right or wrong in it."""
    start, end = locate_judged(example, example.response)
    return example.response[:start] + text + example.response[end:]


@lru_cache(maxsize=4096)
def essence(code: str) -> str:
    """Return a program without its comments, docstrings and layout. Raises SyntaxError if it is no Python."""
    try:
        tree = ast.parse(code)
        for node in _with_docstrings(tree):
            node.body = node.body[1:] or [ast.Pass()]
        return ast.unparse(tree)
    except (ValueError, RecursionError, MemoryError) as error:  # null bytes, nesting without end
        raise SyntaxError(str(error) or type(error).__name__) from None


def without_docstrings(code: str) -> str:
    """Return the text of a program without the lines of its docstrings, otherwise unchanged. Raises SyntaxError as `essence` does.

    A body that was nothing else keeps its docstring.
    """
    try:
        nodes = [node.body[0] for node in _with_docstrings(ast.parse(code)) if len(node.body) > 1]
    except (ValueError, RecursionError, MemoryError) as error:
        raise SyntaxError(str(error) or type(error).__name__) from None
    removed_lines = {number for node in nodes for number in range(node.lineno, (node.end_lineno or node.lineno) + 1)}
    return "".join(line for number, line in enumerate(code.splitlines(keepends=True), 1) if number not in removed_lines)


def body_start(code: str, node: Definition) -> tuple[int, int]:
    """Return the line, counted from 1, and the character of it at which the body of a definition begins."""
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
    """Return the spans of a program's comments and docstrings. Raises SyntaxError as `essence` does."""
    lines = list(io.StringIO(code, newline=""))  # as Python ends them: `str.splitlines` knows more ends
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
