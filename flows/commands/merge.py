"""`ratchet merge`."""

from pathlib import Path
from typing import Annotated

import typer


def merge(
    sources: Annotated[
        list[str],
        typer.Argument(
            help="Folders of adapters or trained models, or files of `ratchet delta`, with a weight where it is not 1: `models/tuned/r1:0.5`."
        ),
    ],
    to: Annotated[Path, typer.Option(help="The folder of the merged model.")],
    base: Annotated[Path, typer.Option(help="The model that all were trained from.")] = Path("models/pretrained"),
    method: Annotated[
        str,
        typer.Option(help="linear, task_arithmetic, slerp, magnitude_prune, ties, dare_linear or dare_ties."),
    ] = "linear",
    density: Annotated[
        float | None, typer.Option(help="Share of changes to keep, for the methods that drop some.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Random seed of DARE.")] = 0,
    name: Annotated[
        str | None, typer.Option(help="Name in params.yaml by which `evaluate` and `report` measure it.")
    ] = None,
) -> None:
    """Merge models that were trained from one base into one.

    Writes a plain model that any program opens. With one source, merges that adapter into its base's weights. Refuses sources of another
    base, recognised by the hash of its weights, and adapters of different layers.

    Example: ratchet merge models/tuned/r0 models/tuned/r1:0.5 --method ties --to models/merged/both --name both
    """
    from flows.commands import _sources, _terminal
    from flows.project import measured_models
    from tasks import configuration
    from tasks.forkserver import imports

    with imports.of_models():
        from tasks.core.weights.merging import Merge
        from tasks.io.weights import merges

    if to.exists():
        raise ValueError(f"{to} exists. Remove it, or name another place.")
    experts = [merges.Expert(*_sources.with_factor(source)) for source in sources]
    if name:
        measured_models.check_name(name, configuration.PARAMS)
    for path in merges.write(to, base, experts, Merge(method, density, seed)):
        _terminal.show(f"{path} does not say which base it is of: only its shapes were checked.")
    _terminal.show(f"{to}: {base} with {len(experts)} merged by {method}")
    if name:
        measured_models.add(name, to, configuration.PARAMS)
        _terminal.show(f"{configuration.PARAMS} has the model {name} now. `ratchet run report` measures it.")
