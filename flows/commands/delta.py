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
    to: Annotated[Path, typer.Option(help="The file of the difference; or the folder of the merged model.")],
    base: Annotated[Path, typer.Option(help="The model that was trained.")] = Path("models/pretrained"),
) -> None:
    """Write the weights by which a model differs from its base as a small file, or merge them.

    Files are added and subtracted by their factors. The merged folder is a model that any program opens.

    Example: ratchet delta models/tuned/r0 --to r0.safetensors, later: ratchet delta r0.safetensors r1.safetensors:-0.5 --to models/merged
    """
    from flows.commands import _terminal
    from tasks.io.weights import sparse_deltas

    if to.exists():
        raise ValueError(f"{to} exists. Remove it, or name another place.")
    if len(sources) == 1 and Path(sources[0]).is_dir():
        difference = sparse_deltas.write(to, Path(sources[0]), base)
        entries = sum(len(one.index) for one in difference.values())
        _terminal.show(f"{to}: {entries:,} entries of {len(difference)} tensors, {to.stat().st_size:,} bytes")
        return
    sparse_deltas.merge(to, base, [_with_factor(source) for source in sources])
    _terminal.show(f"{to}: {base} with {len(sources)} differences")


def _with_factor(source: str) -> tuple[Path, float]:
    """Return a file and its factor. Raises ValueError if there is no such file, or the factor is no number."""
    name, _, factor = source.partition(":")
    if not Path(name).is_file():
        raise ValueError(f"{name} is neither the folder of a model nor a file of a difference.")
    try:
        return Path(name), float(factor or 1)
    except ValueError:
        raise ValueError(f"{source}: {factor!r} is no number.") from None
