"""Stage `fetch`: write the base model and the embedder as safetensors, from the sources that params name.

reads   params only
writes  models/base/, models/embedder/
"""

import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from tasks.core.imports import lasting
from tasks.core.stage import Run
from tasks.core.weights.control_tokens import control_tokens
from tasks.io import pinned, provenance
from tasks.io.system import packages
from tasks.io.weights import checkpoints, turn_ends
from tasks.stages.fetch import random_init
from tasks.stages.fetch.config import (
    Embedder,
    FromConfig,
    FromFolder,
    FromGguf,
    FromHub,
    FromPackage,
    Model,
    StageConfig,
)

KEPT = ("*.safetensors", "*.json", "*.txt", "*.model", "*.jinja")
"""Files of a model folder that are copied. Pickles and code are not among them."""
REMEDY = "Put it there, or name another one in `fetch` of params.yaml."
PLAIN = {"F64", "F32", "F16", "BF16"}
"""GGUF types of unquantised numbers."""


def main(inputs: dict[str, Path], outputs: dict[str, Path], config: StageConfig, run: Run) -> None:
    """Write the base model and the embedder."""
    _check_digest(config.fetch.model, "fetch.model.digest", _files_of_model, run)
    _check_digest(config.fetch.embedder, "fetch.embedder.digest", _files, run)
    _fetch_model(config.fetch.model, outputs["base"], run, tools=config.fetch.tools)
    outputs["embedder"].mkdir()
    if config.fetch.embedder is None:
        (outputs["embedder"] / "README.md").write_text("No embedder: `fetch.embedder` is empty.\n", encoding="utf-8")
    else:
        folder = _folder(config.fetch.embedder)
        _copy(_files(folder), folder, outputs["embedder"])


def _check_digest(
    source: Model | Embedder | None, setting: str, copied: Callable[[Path], list[Path]], run: Run
) -> None:
    """Print the digest of the files that are copied from outside the workspace. Raises ValueError if the settings name another digest.

    A missing file or folder is no error here: the code that opens it raises one.
    """
    if isinstance(source, FromFolder) and source.path.is_dir():
        files = copied(source.path)
        digest = provenance.facts_digest(
            {file.relative_to(source.path).as_posix(): provenance.digest(file) for file in files}
        )
    elif isinstance(source, FromGguf) and source.path.is_file():
        digest = provenance.digest(source.path)
    else:
        return
    if source.digest:
        pinned.check(source.path, digest, source.digest, setting)
    else:
        run.say(
            f"fetch: DVC does not watch {source.path}. To have it fetched again when it changes, set {setting}: {digest}"
        )


def _fetch_model(source: Model, output: Path, run: Run, *, tools: bool) -> None:
    output.mkdir()
    grid: str | None = None
    # A path means nothing on another machine, and a digest that is set later does not change the model.
    facts = source.model_dump(mode="json", exclude={"path", "digest"})
    if isinstance(source, FromPackage):
        version = packages.version(source.name, "fetch.model.name")
        facts |= {"version": version, "license": packages.license_of(source.name)}
    match source:
        case FromConfig():
            tokenizer = random_init.byte_tokenizer()
            model = random_init.random_model(source, len(tokenizer), tokenizer.eos_token_id, tokenizer.pad_token_id)
            _save(model, tokenizer, output)
        case FromGguf(path=path):
            run.say(f"fetch: dequantising {path.name} to safetensors, once")
            grid = _convert(path, output)
        case FromPackage(name=name) if ggufs := [
            f for f in packages.files(name, "fetch.model.name") if f.suffix == ".gguf"
        ]:
            run.say(f"fetch: dequantising {ggufs[0].name} of {name} to safetensors, once")
            grid = _convert(ggufs[0], output)
        case _:
            folder = _folder(source)
            checkpoints.check_folder(folder)
            _copy(_files_of_model(folder), folder, output)
    if tools:
        _write_tools_template(output)
        facts |= {"tools": True}
    turn_ends.write(output, checkpoints.load_tokenizer(output))
    checkpoints.write_card(output, method="fetch", source=facts, parent=None, grid=grid)


def _write_tools_template(model: Path) -> None:
    """Replace the model's chat template by the one with tools. Raises ValueError if its tokenizer does not mark turns as ChatML does."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model)
    begin, end = random_init.SPECIAL[1:]
    if begin not in control_tokens(tokenizer) or tokenizer.eos_token != end:
        raise ValueError(
            f"fetch.tools writes turns as ChatML, from {begin} to {end}, and the model's tokenizer ends them with {tokenizer.eos_token!r}. Take a "
            "base whose own chat template writes tools, and leave `fetch.tools` out."
        )
    tokenizer.chat_template = random_init.TOOLS_TEMPLATE
    for named in model.glob(checkpoints.NAMED_TEMPLATES):  # transformers would prefer a template named `tool_use`
        named.unlink()
    _save_tokenizer(tokenizer, model)


def _folder(source: FromPackage | FromHub | FromFolder) -> Path:
    """Return the folder of a model on this machine; a model on the hub is downloaded."""
    match source:
        case FromFolder(path=path):
            if not path.is_dir():
                raise ValueError(f"fetch: there is no folder {path}. {REMEDY}")
            return path
        case FromPackage(name=name):
            configs = [file.parent for file in packages.files(name, "fetch") if file.name == "config.json"]
            folders = [folder for folder in configs if list(folder.glob("*.safetensors"))]
            if not folders:
                raise ValueError(
                    f"fetch: the package {name!r} carries neither a GGUF file nor a folder with safetensors. {REMEDY}"
                )
            return min(folders, key=lambda folder: len(folder.parts))
        case FromHub(id=identity, revision=revision):
            return _download(identity, revision)


def _download(identity: str, revision: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(identity, revision=revision, allow_patterns=list(KEPT)))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise ValueError(
            f"fetch: {identity} at {revision} cannot be downloaded from the hub ({type(error).__name__}). "
            "Check the name, the revision and the network, or name a folder: {from: folder, path: …}."
        ) from None


def _files_of_model(folder: Path) -> list[Path]:
    """Return the files of a model to copy, without its card, since the copy has its own.

    Of the weights, only the files that transformers reads are copied, not those of earlier checkpoints or of other programs.
    """
    patterns = (*KEPT, checkpoints.NAMED_TEMPLATES)
    files = [file for pattern in patterns for file in folder.glob(pattern) if file.name != checkpoints.CARD]
    used = checkpoints.files_read(folder)
    return [file for file in files if not used or file.suffix != ".safetensors" or file.name in used]


def _files(folder: Path) -> list[Path]:
    """Return the files that match KEPT, including those in sub-folders, which sentence-transformers uses."""
    return sorted(file for pattern in KEPT for file in folder.rglob(pattern))


def _copy(files: Iterable[Path], folder: Path, output: Path) -> None:
    """Copy files of a folder to the same relative paths in another."""
    for file in files:
        target = output / file.relative_to(folder)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, target)


def _convert(gguf: Path, output: Path) -> str | None:
    """Dequantise a GGUF file to 32-bit safetensors with its tokenizer.

    Returns the quantisation of most of its weights, such as `Q4_1`; None if they are plain numbers.
    """
    with lasting():
        import torch
        from gguf import GGUFReader

        from tasks.core.weights import gguf_models

    if not gguf.is_file():
        raise ValueError(f"fetch.model.path: there is no file {gguf}. {REMEDY}")
    model, tokenizer = gguf_models.read(gguf, torch.float32)
    _save(model, tokenizer, output)
    return _grid(GGUFReader(gguf))


def _grid(reader: Any) -> str | None:
    sizes: Counter[str] = Counter()
    for tensor in reader.tensors:
        sizes[tensor.tensor_type.name] += int(tensor.n_elements)
    most = sizes.most_common(1)[0][0]
    return None if most in PLAIN else most


def _save(model: Any, tokenizer: Any, output: Path) -> None:
    model.save_pretrained(output)
    _save_tokenizer(tokenizer, output)


def _save_tokenizer(tokenizer: Any, output: Path) -> None:
    with tempfile.TemporaryDirectory() as neutral:  # the tokenizer saves the name of the folder it was loaded from
        tokenizer.name_or_path = ""
        tokenizer.save_pretrained(neutral)
        _copy(_files(Path(neutral)), Path(neutral), output)
