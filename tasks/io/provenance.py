"""Provenance of an output: file digests, the code that a module runs, machine class, git commit."""

import ast
import hashlib
import json
import platform
from collections.abc import Iterable, Iterator
from functools import cache
from importlib import metadata
from pathlib import Path

from tasks.io.system import files

DIGESTS = Path(".ratchet/digests.json")
PACKAGES = ("torch", "transformers", "peft", "accelerate", "sentence-transformers", "polars", "numpy")
"""Packages whose versions change the bytes of an output, so that they are part of the machine class."""


def digest(path: Path) -> str:
    """Return the SHA-256 of a file, or of a folder's relative paths and contents. An unchanged file is not read twice."""
    by_file = {file.relative_to(path).as_posix(): sha256 for file, sha256 in digests(path).items()}
    if path.is_dir() or not by_file:
        return hashlib.sha256(json.dumps(sorted(by_file.items())).encode()).hexdigest()
    return by_file["."]


def digests(path: Path) -> dict[Path, str]:
    """Return the SHA-256 of a file, or of each file in a folder. An unchanged file is not read twice."""
    cached = _known()
    by_file = {}
    for file in _files(path):
        stat = file.stat()
        stamp = [stat.st_size, stat.st_mtime_ns, stat.st_ino]
        entry = cached.get(str(file))
        if entry is None or entry[:3] != stamp:
            with file.open("rb") as stream:
                cached[str(file)] = entry = [*stamp, hashlib.file_digest(stream, "sha256").hexdigest()]
        by_file[file] = str(entry[3])
    return by_file


def save_digests() -> None:
    """Save the digests of this process for later processes. If stages run in parallel, the last to save wins."""
    files.write_atomically(DIGESTS, json.dumps(_known()), concurrent=True)


def forget_digests() -> None:
    """Read every file again from now on, because damaged or changed bytes may leave the size and time of a file unchanged."""
    _known().clear()


@cache
def _known() -> dict[str, list[int | str]]:
    try:
        return dict(json.loads(DIGESTS.read_text()))
    except (FileNotFoundError, json.JSONDecodeError):
        return {}  # the saved digests only save time


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    return sorted(file for file in path.rglob("*") if file.is_file() and "__pycache__" not in file.parts)


def closure(module: str) -> list[Path]:
    """Return, sorted, the project's files that are imported by `module`, including imports inside functions."""
    reached: set[Path] = set()
    pending = _with_packages(module)
    known = set(pending)
    while pending:
        for file in _module_files(pending.pop()):
            reached.add(file)
            names = {name for named in _imports(file.read_text(encoding="utf-8")) for name in _with_packages(named)}
            pending += names - known
            known |= names
    return sorted(reached)


def _with_packages(module: str) -> list[str]:
    """Return the names of a module and of the packages above it; none for a module of another project."""
    parts = module.split(".")
    return [".".join(parts[:n]) for n in range(1, len(parts) + 1)] if parts[0] in ("tasks", "flows") else []


def _module_files(module: str) -> list[Path]:
    """Return the file of a module or a package; none for another name, such as that of a function."""
    path = Path(*module.split("."))
    return [file for file in (path / "__init__.py", path.with_suffix(".py")) if file.is_file()]


@cache  # by content, because a file may have been edited meanwhile
def _imports(source: str) -> list[str]:
    names = []
    for node in _statements(ast.parse(source).body):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return names


def _statements(nodes: Iterable[ast.AST]) -> Iterator[ast.AST]:
    """Yield all statements, including nested ones. Expressions, which are most of a tree, contain no imports and are skipped."""
    for node in nodes:
        yield node
        for block in ("body", "orelse", "finalbody", "handlers", "cases"):
            inner = getattr(node, block, None)
            if isinstance(inner, list):  # in a lambda or a conditional expression, it is not a list of statements
                yield from _statements(inner)


def code_digest(sources: list[Path]) -> str:
    """Return one digest of many source files."""
    return hashlib.sha256("".join(digest(file) for file in sources).encode()).hexdigest()


def facts_digest(values: dict[str, str]) -> str:
    """Return a digest of named facts."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


@cache
def machine_class() -> dict[str, str]:
    """Return the facts that determine the last digits of a result: processor features and package versions. They do not identify the machine."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = "absent"
    return {"python": platform.python_version(), "processor": _processor(), **versions}


def _processor() -> str:
    """Return the architecture and the vector units by which libraries choose their kernels."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except FileNotFoundError:
        return platform.machine()
    flags = set(next((line for line in lines if line.startswith(("flags", "Features"))), "").split())
    units = [unit for unit in ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "bf16", "sve") if unit in flags]
    return " ".join([platform.machine(), *units])
