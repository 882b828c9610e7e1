"""Modules import each other in one direction."""

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from tasks import configuration

ROOT = Path(__file__).resolve().parents[1]


def modules(root: Path) -> dict[str, Path]:
    files = [file for package in ("flows", "tasks") for file in sorted((root / package).rglob("*.py"))]
    return {".".join(file.relative_to(root).with_suffix("").parts).removesuffix(".__init__"): file for file in files}


def imports(source: str, known: dict[str, Path]) -> Iterator[str]:
    """The project modules that a source file names in its imports: those inside functions and under TYPE_CHECKING too."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in known)
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                yield from [name] if name in known else [node.module] if node.module in known else []


def cycle(root: Path) -> list[str]:
    """A circle of modules that import each other, empty where there is none."""
    known = modules(root)
    graph = {name: set(imports(file.read_text(encoding="utf-8"), known)) - {name} for name, file in known.items()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def test_no_modules_import_each_other_in_a_circle():
    assert len(modules(ROOT)) > 200
    assert cycle(ROOT) == []


def test_a_circle_through_a_function_is_found(tmp_path):
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks/a.py").write_text("from tasks import b\n")
    (tmp_path / "tasks/b.py").write_text("def f():\n    import tasks.a\n")
    assert set(cycle(tmp_path)) == {"tasks.a", "tasks.b"}


@pytest.mark.parametrize("stage", ["fetch", "pretrain", "faults", "tune", "diagnose"])
def test_a_stage_that_meets_no_compressed_model_does_not_depend_on_compressors(stage, monkeypatch):
    monkeypatch.chdir(ROOT)
    files = {path.as_posix() for path in configuration.closure(stage)}
    assert "tasks/io/weights/checkpoints.py" in files
    assert not [file for file in files if "compress" in file]
