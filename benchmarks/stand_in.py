"""Replacement of `tasks/run.py` for benchmarks of the graph, without models: `python -m tasks.run STAGE [ITEM]`.

A stage writes a digest of its inputs and settings to each of its outputs, at once. Comments in code do not count, as in real stages.
The inputs and outputs of each stage are listed in `stand_in.json`.
"""

import argparse
import ast
import hashlib
import json
from pathlib import Path

import yaml


def main(stage: str) -> None:
    """Write the outputs of a stage, such as `tune@r0`."""
    entry = json.loads(Path("stand_in.json").read_text())[stage]
    config = yaml.safe_load(Path("params.yaml").read_text())
    digest = hashlib.sha256()
    for path in entry["deps"]:
        digest.update(_content(Path(path)))
    for name in entry["params"]:
        section = config
        for part in name.split("."):
            section = section.get(part) if isinstance(section, dict) else None
        digest.update(json.dumps([name, section], sort_keys=True).encode())
    for path in entry["files"]:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_text(f"{path} {digest.hexdigest()}\n")


def _content(path: Path) -> bytes:
    if path.is_dir():
        return b"".join(f"{file}".encode() + file.read_bytes() for file in sorted(path.rglob("*")) if file.is_file())
    if path.suffix == ".py":
        return ast.dump(ast.parse(path.read_text())).encode()
    return path.read_bytes()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stage", nargs="+", help="a stage, and its item")
    main("@".join(parser.parse_args().stage))
