"""Names and rooms: docstrings say what is returned or done, locals what they hold, and no package is a heap of modules."""

import ast
from collections import Counter
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
QUESTIONS = ("What", "Whether", "How", "Where", "Which", "That", "Who", "When", "Why")
FEW = 16
"""Modules of a package, from which on it has parts with names."""
ONE_FILE_EACH = ("flows/commands",)
"""Packages that are lists: a command is a file, and its name is the file's name."""


@cache
def sources() -> list[tuple[Path, ast.Module]]:
    """The modules of flows and tasks, parsed."""
    paths = [path for folder in ("flows", "tasks") for path in sorted((ROOT / folder).rglob("*.py"))]
    return [(path.relative_to(ROOT), ast.parse(path.read_text())) for path in paths]


def test_docstrings_do_not_open_with_a_question_word():
    docstrings = [
        (path, text)
        for path, tree in sources()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Module)
        and (text := ast.get_docstring(node))
    ]
    assert len(docstrings) > 1500
    assert [f"{path}: {text[:60]}" for path, text in docstrings if text.split(" ")[0] in QUESTIONS] == []


def test_no_local_is_called_found():
    functions = [
        f"{path}: {node.name}"
        for path, tree in sources()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef)
        and any(
            isinstance(name, ast.Name) and name.id == "found" and isinstance(name.ctx, ast.Store)
            for name in ast.walk(node)
        )
    ]
    assert functions == []


def test_a_package_of_many_modules_has_parts():
    modules = Counter(path.parent.as_posix() for path, _ in sources() if path.name != "__init__.py")
    assert {room: number for room, number in modules.items() if number > FEW and room not in ONE_FILE_EACH} == {}


def test_a_file_holds_one_idea():
    lengths = {path.as_posix(): len((ROOT / path).read_text().splitlines()) for path, _ in sources()}
    assert {path: lines for path, lines in lengths.items() if lines > 400} == {}
