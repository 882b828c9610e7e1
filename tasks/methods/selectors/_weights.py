"""Choosing among the model's own weights, which several selectors do."""

from collections.abc import Sequence

from torch import nn

from tasks.core.weights.surgery import linears, owners


def trained_linears(model: nn.Module, targets: Sequence[str] | str, selector: str) -> dict[str, nn.Linear]:
    """Return the linear layers of the decoder layers that `targets` name and whose own weight trains, by their full names.

    Raises ValueError where no weight of the model trains, as under an adapter, and as `linears` does.
    """
    trained = {layer for parameter, layer in owners(model).items() if f".{parameter}".endswith(f".{layer}.weight")}
    layers = {name: layer for name, layer in linears(model, targets).items() if name in trained} if trained else {}
    if not layers:
        raise ValueError(
            f"selector {selector!r} changes weights of the model's own linear layers, and none of them trains here. "
            "Where an adapter holds them frozen, use `adapter: none`."
        )
    return layers
