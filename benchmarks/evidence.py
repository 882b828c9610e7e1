"""Detection of alterations of each part of the evidence, by tool: `python benchmarks/evidence.py FOLDER`, after `ratchet evidence r0 --to FOLDER`.

In a copy of the folder one file at a time gets an additional byte, is removed, or is added. Then each tool checks the folder: `model_signing` (the
signature of all files), the DSSE envelope of securesystemslib with in-toto's statement, CycloneDX's strict validator, `mlcroissant validate`, and
`ratchet verify --evidence`. A cell is `names it` if the tool's error names the file, `refuses` if it does not, or `accepts`. In-toto, CycloneDX and
mlcroissant read one file each, and their cells are empty where another file was altered. Run it in the workspace that wrote the folder, or name its public keys with `--key`. The packages are those of
`pip install -e ".[dev]"`.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from cryptography.hazmat.primitives.serialization import load_pem_public_key  # noqa: E402
from cyclonedx.schema import SchemaVersion  # noqa: E402
from cyclonedx.validation.json import JsonStrictValidator  # noqa: E402
from google.protobuf import json_format  # noqa: E402
from in_toto_attestation.v1 import statement_pb2  # noqa: E402
from in_toto_attestation.v1.statement import Statement  # noqa: E402
from securesystemslib.dsse import Envelope  # noqa: E402
from securesystemslib.signer import SSlibKey  # noqa: E402

from flows.registry import verification  # noqa: E402
from flows.registry.evidence import layout, signing  # noqa: E402

ADDED = "model/added.safetensors"
Tool = Callable[[Path, Path], str]
"""A folder and the file of trusted keys → the error, "" if there is none."""


def main() -> None:
    """Print a row for each alteration; files of one folder with the same result share a row."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--key", type=Path, default=signing.TRUSTED, help="public keys that are trusted")
    options = parser.parse_args()
    files: dict[tuple[str, str, tuple[str, ...]], list[str]] = {}
    with tempfile.TemporaryDirectory(dir=options.folder.resolve().parent) as place:
        for name, change, alter in alterations(options.folder):
            copy = Path(place) / "evidence"
            shutil.copytree(options.folder, copy, copy_function=os.link)
            alter(copy / name)
            cells = tuple(cell(tool, only, copy, options.key, name) for tool, only in TOOLS.values())
            files.setdefault((os.path.dirname(name) or name, change, cells), []).append(name)  # noqa: PTH120
            shutil.rmtree(copy)
    print(f"| file | change | {' | '.join(TOOLS)} |\n|{' --- |' * (len(TOOLS) + 2)}")
    for (_, change, cells), names in files.items():
        shown = f"{len(names)} files of `{Path(names[0]).parent}/`" if len(names) > 1 else f"`{names[0]}`"
        print(f"| {shown if names[0] else 'none'} | {change} | {' | '.join(cells)} |")


def alterations(folder: Path) -> Iterator[tuple[str, str, Callable[[Path], None]]]:
    """Yield the name of a file, what is done to it, and the function that does it; the first does nothing."""
    yield "", "", lambda _: None
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = path.relative_to(folder).as_posix()
        yield name, "a byte more", append
        yield name, "removed", Path.unlink
    yield ADDED, "added", add


def add(path: Path) -> None:
    """Write a file that was not there."""
    path.write_bytes(b"x")


def append(path: Path) -> None:
    """Add a byte to a file, which may share its bytes with others."""
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content + (b" " if path.suffix == ".json" else b"x"))


def cell(tool: Tool, only: str, folder: Path, key: Path, altered: str) -> str:
    """Return a tool's error on a folder; "" if it does not read the altered file. `only` is the file that the tool reads, "" for all."""
    if only and altered not in ("", only):
        return ""
    problem = tool(folder, key)
    if not problem:
        return "accepts"
    return "names it" if altered and Path(altered).name in problem else "refuses"


def model_signing(folder: Path, key: Path) -> str:
    """Return the errors of the command `model_signing verify key`."""
    arguments = ["verify", "key", folder, "--signature", folder / layout.SIGNATURE, "--public_key", key]
    return output_of("model_signing", *arguments)


def in_toto(folder: Path, key: Path) -> str:
    """Return the errors of securesystemslib and in-toto's library on the provenance."""
    try:
        public = SSlibKey.from_crypto(load_pem_public_key(key.read_bytes()))
        envelope = Envelope.from_dict(layout.read_json(folder / layout.PROVENANCE))
        envelope.verify([public], 1)
        Statement.copy_from_pb(json_format.Parse(envelope.payload, statement_pb2.Statement())).validate()
    except Exception as error:  # of four libraries, each with errors of its own
        return f"{type(error).__name__}: {error}"
    return ""


def cyclonedx(folder: Path, _: Path) -> str:
    """Return the errors of CycloneDX's strict validator on the bill of materials."""
    try:
        problem = JsonStrictValidator(SchemaVersion.V1_6).validate_str(
            (folder / layout.BOM).read_text(encoding="utf-8")
        )
    except (OSError, ValueError) as error:
        return f"{type(error).__name__}: {error}"
    return "" if problem is None else str(problem)


def mlcroissant(folder: Path, _: Path) -> str:
    """Return the errors of the command `mlcroissant validate` on the record of the data."""
    return output_of("mlcroissant", "validate", "--jsonld", folder / layout.DATA)


def ratchet(folder: Path, key: Path) -> str:
    """Return the errors of `ratchet verify --evidence`."""
    return "\n".join(check.what for check in verification.check_evidence(folder, key) if not check.holds)


def output_of(program: str, *arguments: object) -> str:
    """Return the output of a program of this environment if it fails, else ""."""
    command = [str(Path(sys.executable).with_name(program)), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return (done.stdout + done.stderr or "it failed") if done.returncode else ""


TOOLS: dict[str, tuple[Tool, str]] = {
    "`model_signing`": (model_signing, ""),
    "in-toto, DSSE": (in_toto, layout.PROVENANCE),
    "CycloneDX": (cyclonedx, layout.BOM),
    "`mlcroissant`": (mlcroissant, layout.DATA),
    "`ratchet verify`": (ratchet, ""),
}
"""Name → the tool, and the file that it reads, "" for all."""


if __name__ == "__main__":
    main()
