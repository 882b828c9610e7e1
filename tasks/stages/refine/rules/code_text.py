"""Edit code as text: read signatures and docstrings, rename a function, join several pieces of code."""

import ast
import io
import tokenize
from collections.abc import Sequence

from tasks.core.text.programs import header
from tasks.core.text.wording import Request, quoted, request
from tasks.stages.refine.rules.variable_names import bound_by, parsed


def only_function(stub: str) -> ast.FunctionDef:
    """Parse a stub, which is one function."""
    (node,) = parsed(stub).body
    assert isinstance(node, ast.FunctionDef)
    return node


def docstring(stub: str) -> str | None:
    """Return the docstring of a stub; None if it has none, or if `with_docstring` would lay it out differently."""
    try:
        match parsed(stub).body:
            case [ast.FunctionDef() as node] if text := ast.get_docstring(node):
                same = stub == f"{header(stub, node)}\n    {quoted(text, '    ')}"
                return text if same else None
    except SyntaxError:
        pass
    return None


def with_docstring(parts: Request, text: str) -> str:
    """Return the prompt of a request with another docstring."""
    top = header(parts.stub, only_function(parts.stub))
    return request(parts.name, f"{top}\n    {quoted(text, '    ')}", parts.context)


def expression(source: str) -> ast.expr | None:
    """Return a source parsed as one expression; None if it is anything else."""
    try:
        match parsed(source).body:
            case [ast.Expr(value)]:
                return value
    except SyntaxError:
        pass
    return None


def is_call(source: str, name: str) -> bool:
    """Return True if a source is a call of a function of this name."""
    match expression(source):
        case ast.Call(ast.Name(called)):
            return called == name
    return False


def renamed(code: str, old: str, new: str) -> str:
    """Return code in which a function is renamed, in names only: not in strings, comments or attributes."""
    pieces, end = list[str](), (1, 0)
    lines = code.splitlines(keepends=True)
    before = ""
    try:
        tokens = list(tokenize.generate_tokens(io.StringIO(code).readline))
    except (tokenize.TokenError, SyntaxError, IndentationError):
        return code
    for token in tokens:
        pieces.append(_between(lines, end, token.start))
        is_name = token.type == tokenize.NAME and token.string == old and before != "."
        pieces.append(new if is_name else token.string)
        end, before = token.end, token.string
    return "".join(pieces).rstrip("\n") + ("\n" if code.endswith("\n") else "")


def _between(lines: Sequence[str], start: tuple[int, int], end: tuple[int, int]) -> str:
    """Return the characters between two positions of a text, lines counted from 1."""
    if start[0] == end[0]:
        return lines[start[0] - 1][start[1] : end[1]] if start[0] <= len(lines) else ""
    rest = [lines[start[0] - 1][start[1] :]] if start[0] <= len(lines) else []
    last = [lines[end[0] - 1][: end[1]]] if end[0] <= len(lines) else []
    return "".join([*rest, *lines[start[0] : end[0] - 1], *last])


def joined(*parts: str) -> str:
    """Return pieces of code joined, without empty ones."""
    return "\n\n\n".join(part.strip("\n") for part in parts if part.strip())


def united(parts: Sequence[str]) -> str | None:
    """Return pieces of code joined, with equal definitions only once; None if one name has two meanings."""
    meanings: dict[str, str] = {}
    imports, kept = list[str](), list[str]()
    for part in parts:
        try:
            tree = parsed(part)
        except SyntaxError:
            return None
        for statement in tree.body:
            text = ast.get_source_segment(part, statement) or ""
            names = sorted(bound_by(statement))
            meaning = ast.unparse(statement)
            if names and all(meanings.get(name) == meaning for name in names):
                continue
            if any(name in meanings for name in names):
                return None
            meanings |= dict.fromkeys(names, meaning)
            is_import = isinstance(statement, ast.Import | ast.ImportFrom)
            (imports if is_import else kept).append(_decorated(part, statement, text))
    return joined("\n".join(imports), *kept)


def _decorated(part: str, statement: ast.stmt, text: str) -> str:
    """Return the text of a statement with its decorators."""
    decorators = getattr(statement, "decorator_list", [])
    if not decorators:
        return text
    lines = part.splitlines()
    return "\n".join(lines[decorators[0].lineno - 1 : statement.end_lineno])
