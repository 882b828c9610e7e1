"""What made a thing: digests of files, the code a module runs, the class of the machine."""

import ast
import hashlib
import json
import platform
import subprocess
from functools import cache
from importlib import metadata
from pathlib import Path

from tasks.io import files

DIGESTS = Path(".ratchet/digests.json")
PACKAGES = ("torch", "transformers", "peft", "accelerate", "sentence-transformers", "polars", "numpy")
"""Their versions change the bytes of an output, so they are part of the machine's class."""


def digest(path: Path) -> str:
    """The SHA-256 of a file, or of a folder's relative paths and contents. A file that did not move is not read twice."""
    known = _known()
    found = {}
    for file in _files(path):
        stat = file.stat()
        stamp = [stat.st_size, stat.st_mtime_ns, stat.st_ino]
        entry = known.get(str(file))
        if entry is None or entry[:3] != stamp:
            with file.open("rb") as stream:
                known[str(file)] = entry = [*stamp, hashlib.file_digest(stream, "sha256").hexdigest()]
        found[file.relative_to(path).as_posix()] = entry[3]
    if path.is_dir() or not found:
        return hashlib.sha256(json.dumps(sorted(found.items())).encode()).hexdigest()
    return str(found["."])


def save_digests() -> None:
    """Keep the digests of this process for the next one. Stages that work side by side each keep theirs; the last one stays."""
    files.write_atomically(DIGESTS, json.dumps(_known()), concurrent=True)


@cache
def _known() -> dict[str, list[int | str]]:
    try:
        return dict(json.loads(DIGESTS.read_text()))
    except (FileNotFoundError, json.JSONDecodeError):
        return {}  # it only saves time


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    return sorted(file for file in path.rglob("*") if file.is_file() and "__pycache__" not in file.parts)


def closure(module: str) -> list[Path]:
    """The files of this project that importing `module` runs, imports inside functions included, in sorted order."""
    found: set[Path] = set()
    waiting = [module]
    while waiting:
        for file in _module_files(waiting.pop()):
            if file not in found:
                found.add(file)
                waiting += _imports(file.read_text(encoding="utf-8"))
    return sorted(found)


def _module_files(module: str) -> list[Path]:
    """The file of a project module and the `__init__` files above it; none for another package's."""
    parts = module.split(".")
    if parts[0] not in ("tasks", "flows"):
        return []
    packages = [Path(*parts[:n], "__init__.py") for n in range(1, len(parts) + 1)]
    return [file for file in (*packages, Path(*parts).with_suffix(".py")) if file.is_file()]


@cache  # by content: a file that was edited meanwhile is another
def _imports(source: str) -> list[str]:
    names = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return names


def code_digest(sources: list[Path]) -> str:
    """One digest of many source files."""
    return hashlib.sha256("".join(digest(file) for file in sources).encode()).hexdigest()


def commit() -> str:
    """Return the git commit that is checked out, or `none`."""
    command = ["git", "rev-parse", "--verify", "--quiet", "HEAD"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    return answer.stdout.strip() or "none"


def facts_digest(values: dict[str, str]) -> str:
    """A digest of named facts."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


@cache
def machine_class() -> dict[str, str]:
    """What decides the last digits of a result: processor features and package versions. Names no machine."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = "absent"
    return {"python": platform.python_version(), "processor": _processor(), **versions}


def _processor() -> str:
    """Architecture and the vector units that kernels choose by."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except FileNotFoundError:
        return platform.machine()
    flags = set(next((line for line in lines if line.startswith(("flags", "Features"))), "").split())
    units = [unit for unit in ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "bf16", "sve") if unit in flags]
    return " ".join([platform.machine(), *units])
