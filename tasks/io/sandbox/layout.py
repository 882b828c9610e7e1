"""The file system of a sandbox: a Python interpreter, its standard library, and the shared libraries it needs.

All of it appears below `/python`, wherever it is on the host, so that programs see the same paths on every machine. A sandbox may
also hold an installed package and the packages that it requires.
"""

import json
import os
import subprocess
import sys
import sysconfig
from functools import cache
from pathlib import Path
from typing import NamedTuple

from tasks.io.system import packages

ROOT = Path("/python")
INTERPRETER = ROOT / "bin" / "python3"
LIBRARIES = ROOT / "libraries"
MODULES = ROOT / "server"
INSTALLED = ROOT / "packages"
GUEST = Path("tasks", "io", "sandbox", "guest")
SERVER = ("-m", ".".join((*GUEST.parts, "server")))
WORK = Path("/work")
DEVICES = tuple(Path("/dev", name) for name in ("null", "zero", "full", "random", "urandom"))
PACKAGES = ("site-packages", "dist-packages")

# Without -I and -E, which would ignore the fixed hash seed. All other environment variables are cleared.
PYTHON_FLAGS = ("-P", "-s", "-S", "-B")
ENVIRONMENT = {
    "HOME": str(WORK),
    "LC_ALL": "C.UTF-8",
    "MALLOC_ARENA_MAX": "1",  # else each thread would reserve 64 MB of the limit on address space
    "OPENBLAS_NUM_THREADS": "1",  # else numpy would start one thread for each core
    "PYTHONHASHSEED": "0",
    "PYTHONPATH": f"{MODULES}{os.pathsep}{INSTALLED}",
    "PYTHONUTF8": "1",
    "TZ": "UTC",
}

LIST_MAPPED = """
import ctypes, importlib, json, pathlib, sys
for path in sorted(pathlib.Path(sys.argv[1]).glob("*.so")):
    name = path.name.partition(".")[0]
    if not name.startswith(("_test", "_xx", "xx", "_ctypes_test", "_tkinter")):
        try:
            importlib.import_module(name)
        except ImportError:
            pass  # what the host cannot load, the sandbox need not
try:
    ctypes.CDLL("libgcc_s.so.1")  # glibc loads it when a thread ends
except OSError:
    pass
lines = pathlib.Path("/proc/self/maps").read_text().splitlines()
print(json.dumps(sorted({line.split(maxsplit=5)[5] for line in lines if ".so" in line})))
"""


class Bind(NamedTuple):
    """A file or folder of the host, and its read-only path inside."""

    source: Path
    target: Path


class Layout(NamedTuple):
    """The contents of a sandbox's file system, except its work folder."""

    binds: tuple[Bind, ...]
    masks: tuple[Path, ...]
    """Folders inside that are hidden by empty ones."""
    command: tuple[str, ...]
    """Command that starts the server inside."""


@cache
def layout(package: str = "") -> Layout:
    """Return the layout for the running interpreter and, if `package` is named, this installed distribution with its requirements."""
    stdlib = Path(sysconfig.get_path("stdlib")).resolve()
    inside = ROOT / sys.platlibdir / stdlib.name
    installed = installed_files(package)
    libraries, loader = shared_libraries(stdlib, [bind.source for bind in installed])
    binds = [
        Bind(host_interpreter(), INTERPRETER),
        Bind(stdlib, inside),
        Bind(Path(__file__).with_name(GUEST.name).resolve(), MODULES / GUEST),
        *installed,
        *libraries,
    ]
    masks = tuple(inside / name for name in PACKAGES if (stdlib / name).is_dir())
    # Call the loader by its path inside, because the interpreter expects it at a path that differs between Linux distributions.
    loading = (str(loader), "--library-path", str(LIBRARIES)) if loader else ()
    return Layout(tuple(binds), masks, (*loading, str(INTERPRETER), *PYTHON_FLAGS, *SERVER, str(WORK)))


def host_interpreter() -> Path:
    """Return the path of the real interpreter, not of the link in a virtual environment."""
    return Path(getattr(sys, "_base_executable", None) or sys.executable).resolve()


def installed_files(package: str) -> list[Bind]:
    """Return the files and folders of a distribution and of those that it requires; none if `package` is empty."""
    sources: dict[Path, Path] = {}
    for distribution in packages.with_requirements(package) if package else ():
        tops = {file.parts[0] for file in distribution.files or ()} - {"..", "__pycache__"}
        sources |= {INSTALLED / top: Path(str(distribution.locate_file(top))).resolve() for top in tops}
    return [Bind(source, target) for target, source in sorted(sources.items()) if source.exists()]


def folders_of(package: str) -> list[str]:
    """Return the folders of the host from which distribution `package` and its requirements are imported; none if it is empty."""
    installed = packages.with_requirements(package) if package else ()
    return list(dict.fromkeys(str(distribution.locate_file("")) for distribution in installed))


def module_of(package: str) -> list[str]:
    """Return a list with the name of the distribution's module; an empty list if `package` is empty."""
    return [package.replace("-", "_")] if package else []


def shared_libraries(stdlib: Path, installed: list[Path]) -> tuple[list[Bind], Path | None]:
    """Return the shared libraries to bind, each under all of its names, and the path of the dynamic loader inside.

    They are the libraries that Python, its extension modules and the extension modules in `installed` load.
    """
    beside = stdlib / "lib-dynload"  # a relocated interpreter reports another path in its config
    extensions = beside if beside.is_dir() else sysconfig.get_config_var("DESTSHARED")
    command = [str(host_interpreter()), "-I", "-S", "-c", LIST_MAPPED, str(extensions)]
    mapped = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    real = {Path(name).resolve() for name in mapped if not Path(name).is_relative_to(stdlib)}
    loader = min((path for path in real if path.name.startswith("ld-")), default=None)
    for path in installed:
        for own in [path] if path.is_file() else path.rglob("*.so"):
            real |= {name for name in loaded_by(own, loader) if not any(map(name.is_relative_to, installed))}
    binds = [Bind(path, LIBRARIES / name) for path in sorted(real) for name in names_of(path)]
    return binds, loader and LIBRARIES / loader.name


def loaded_by(library: Path, loader: Path | None) -> set[Path]:
    """Return the paths at which the dynamic loader finds the libraries that a library needs. None of their code is run."""
    if loader is None or library.suffix != ".so":
        return set()
    listed = subprocess.run([loader, "--list", library], capture_output=True, text=True, check=False).stdout
    return {Path(word).resolve() for word in listed.split() if word.startswith("/")}


def names_of(library: Path) -> list[str]:
    """Return the names of a library: the name of its file and the names of links to it.

    For example, programs load libz.so.1, a link to the file libz.so.1.3.1.
    """
    return [library.name, *_links(library.parent).get(library, [])]


@cache
def _links(folder: Path) -> dict[Path, list[str]]:
    """Return the names of the links to each library in a folder, by the real path of the library."""
    names: dict[Path, list[str]] = {}
    with os.scandir(folder) as entries:
        links = sorted(entry.name for entry in entries if ".so" in entry.name and entry.is_symlink())
    for name in links:
        names.setdefault((folder / name).resolve(), []).append(name)
    return names
