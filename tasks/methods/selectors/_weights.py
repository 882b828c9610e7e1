"""Choose among the model's own weights, for several selectors."""

from collections.abc import Sequence

from torch import nn

from tasks.core.weights.surgery import linears, owners


def trained_linears(
    model: nn.Module, targets: Sequence[str] | str, selector: str, setting: str = "targets"
) -> dict[str, nn.Linear]:
    """Return the targeted linear layers of the decoder layers whose own weight trains, by their full names.

    `targets` is the value of the selector's `setting`. Raises ValueError if no weight of the model trains, as under an adapter, and as
    `linears` does.
    """
    trained = {layer for parameter, layer in owners(model).items() if f".{parameter}".endswith(f".{layer}.weight")}
    named = linears(model, targets, setting=f"{selector}.{setting}") if trained else {}
    layers = {name: layer for name, layer in named.items() if name in trained}
    if not layers:
        raise ValueError(
            f"selector {selector!r} changes weights of the model's own linear layers, and none of them trains here. "
            "Where an adapter holds them frozen, use `adapter: none`."
        )
    return layers
