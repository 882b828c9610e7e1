"""`ratchet delta`."""

from pathlib import Path
from typing import Annotated

import typer


def delta(
    sources: Annotated[
        list[str],
        typer.Argument(
            help="The folder of a trained model; or files that this command wrote, with a factor where it is not 1: `r1.safetensors:-1`."
        ),
    ],
    to: Annotated[
        Path,
        typer.Option(
            help="The file to write: a name that ends in .gguf writes a LoRA for llama.cpp. With `--task`, a folder."
        ),
    ],
    base: Annotated[Path, typer.Option(help="The model that was trained.")] = Path("models/pretrained"),
    task: Annotated[
        str | None,
        typer.Option(
            help="Write as a LoRA folder what an adapter with one change per task (`mhr`) does for this task."
        ),
    ] = None,
) -> None:
    """Write the weights by which a model differs from its base as a small file.

    Files are added and subtracted by their factors. `ratchet merge` makes a model of the result. An adapter is already a small file; for a
    LoRA, a file name that ends in .gguf writes llama.cpp's format. For an adapter with one change per task, `--task` selects the one to
    write as a LoRA.

    Example: ratchet delta models/tuned/r0 --to r0.safetensors, later: ratchet delta r0.safetensors r1.safetensors:-0.5 --to sum.safetensors
    """
    from flows.commands import _sources, _terminal
    from tasks.forkserver import imports

    with imports.of_models():
        from tasks.io.weights import gguf_lora, peft_lora, sparse_deltas

    if to.exists():
        raise ValueError(f"{to} exists. Remove it, or name another place.")
    if task is not None:
        if len(sources) != 1:
            raise ValueError("`--task` is about one adapter. Name its folder alone.")
        layers = peft_lora.write_of_task(to, Path(sources[0]), base, task)
        _terminal.show(f"{to}: the LoRA of task {task}, of {layers} layers")
        return
    if to.suffix == ".gguf" and len(sources) == 1:
        tensors = gguf_lora.write(to, Path(sources[0]), base)
        _terminal.show(f"{to}: {tensors} tensors of a LoRA, {to.stat().st_size:,} bytes")
        return
    if len(sources) == 1 and Path(sources[0]).is_dir():
        difference = sparse_deltas.write(to, Path(sources[0]), base)
    else:
        difference = sparse_deltas.add(to, [_sources.file_with_factor(source) for source in sources])
    entries = sum(len(one.index) for one in difference.values())
    _terminal.show(f"{to}: {entries:,} entries of {len(difference)} tensors, {to.stat().st_size:,} bytes")
