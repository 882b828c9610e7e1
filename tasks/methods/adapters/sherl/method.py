"""Functions of SHERL. Equations and the legend of symbols are in the card, `__init__.py`."""

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tasks.core.training import Start
from tasks.core.weights import surgery
from tasks.methods.adapters import Adapter
from tasks.methods.adapters.sherl.config import SherlConfig

EPSILON = 1e-6
"""Added to norms and sums in denominators."""
TEMPERATURE = 0.1
"""The divisor of gamma in tanh(gamma / 0.1)."""
RESIDUAL = 0.5
"""The gamma of the residual start."""


class Projection(nn.Module):
    """The projection z of a feature."""

    def __init__(self, hidden: int, width: int) -> None:
        super().__init__()
        self.first, self.second, self.gate = nn.Linear(hidden, width), nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, feature: Tensor) -> Tensor:
        u = F.relu(self.first(feature))
        z: Tensor = (self.second(u) + u) * self.gate(u).sigmoid()
        return z


class SideModule(nn.Module):
    """Fuses the features of a token into the input of the last layer."""

    def __init__(self, hidden: int, width: int, features: int) -> None:
        super().__init__()
        self.projections = nn.ModuleList([Projection(hidden, width) for _ in range(features)])
        self.score = nn.Linear(width, 1)
        nn.init.ones_(self.score.bias)
        self.out = nn.Linear(width, hidden)
        self.gamma = nn.Parameter(torch.zeros(1))

    def fused(self, features: Sequence[Tensor]) -> Tensor:
        """Return g, (B, T, R)."""
        *shallow, deepest_BTR = (
            projection(feature) for projection, feature in zip(self.projections, features, strict=True)
        )
        if not shallow:
            return deepest_BTR
        z_BTNR = torch.stack(shallow, dim=-2)
        unit_BTNR = z_BTNR / (z_BTNR.square().sum(dim=-1, keepdim=True).sqrt() + EPSILON)
        redundancy_BTN1 = F.relu(unit_BTNR @ unit_BTNR.mT).sum(dim=-1, keepdim=True)
        a_BTN1 = F.relu(self.score(z_BTNR * deepest_BTR[..., None, :])) / redundancy_BTN1
        weights_BTN1 = a_BTN1 / (a_BTN1.sum(dim=-2, keepdim=True) + EPSILON)
        return deepest_BTR + (weights_BTN1 * z_BTNR).sum(dim=-2)

    def forward(self, features: Sequence[Tensor], last_BTH: Tensor) -> Tensor:
        """Return h'. `last_BTH` is the input that the last layer would have without the module."""
        dtype = self.gamma.dtype
        out: Tensor = self.out(F.relu(self.fused([feature.to(dtype) for feature in features])))
        return out + (self.gamma / TEMPERATURE).tanh() * last_BTH.to(dtype)


class LastNorm(nn.Module):
    """The norm before the head, which trains in at least fp32 and returns the dtype of its input."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.norm(x)
        return out.to(x.dtype)


class SideNetwork(nn.Module):
    """The module beside a decoder, and the features of the current pass."""

    def __init__(self, module: SideModule) -> None:
        super().__init__()
        self.module = module
        self.features: list[Tensor] = []

    def note(self, layer: nn.Module, args: Any, kwargs: dict[str, Any], output: Any) -> None:
        """Store the output of a layer. This is a hook after the layer."""
        self.features.append(output[0] if isinstance(output, tuple) else output)

    def begin(self, layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Store the embeddings. This is a hook before the first layer."""
        self.features = [_states(args, kwargs)]

    def enter(
        self, layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Replace the last layer's input by h'. This is a hook before that layer. Raises ValueError if something below it trains."""
        last_BTH, features = _states(args, kwargs), self.features
        self.features = []
        if last_BTH.requires_grad:
            raise ValueError(
                "Something below the last layer trains, so every layer would keep activations for the backward pass, which sherl avoids. "
                "Freeze it, or use adapter lora."
            )
        fused_BTH = self.module(features, last_BTH).to(last_BTH.dtype)
        if args:
            return (fused_BTH, *args[1:]), kwargs
        return args, kwargs | {"hidden_states": fused_BTH}


def _states(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    """Return the hidden states that a layer is called with."""
    states: Tensor = args[0] if args else kwargs["hidden_states"]
    return states


def sides(layers: int, every: int) -> list[int]:
    """Return the numbers of the layers whose outputs are features, bottom up: below the last layer, `every` apart; with 0 the deepest one."""
    return list(range(layers - 2, -1, -every))[::-1] if every else [layers - 2]


def attach(model: nn.Module, config: SherlConfig, start: Start) -> nn.Module:
    """Freeze `model` and let its last layer read the module.

    Raises ValueError for a hidden size below the reduction, for a decoder of one layer if embeddings are not read, and for a decoder whose
    last norm is not called `norm`.
    """
    inner: Any = surgery.plain(model)
    decoder, layers = inner.get_decoder(), surgery.decoder_layers(model)
    hidden = inner.config.get_text_config().hidden_size
    if config.reduction > hidden:
        raise ValueError(f"methods.sherl.reduction {config.reduction} is above the hidden size: take at most {hidden}.")
    if len(layers) == 1 and not config.every:
        raise ValueError("The model has one layer and none below it: methods.sherl.every: 0 has nothing to read there.")
    if not hasattr(decoder, "norm"):
        raise ValueError(
            f"{type(decoder).__name__} has no last norm called `norm`, as LLaMA and Qwen have. Use adapter lora."
        )
    chosen = sides(len(layers), config.every)
    model.requires_grad_(False)
    weight = decoder.norm.weight
    trained = {"device": weight.device, "dtype": torch.promote_types(weight.dtype, torch.float32)}
    module = SideModule(hidden, hidden // config.reduction, len(chosen) + bool(config.every))
    norm = copy.deepcopy(decoder.norm)
    if config.start == "residual":
        nn.init.zeros_(module.out.weight)
        nn.init.zeros_(module.out.bias)
        nn.init.constant_(module.gamma, RESIDUAL)
    else:
        nn.init.ones_(norm.weight)
    decoder.sherl = network = SideNetwork(module).to(**trained)
    decoder.norm = LastNorm(norm).to(**trained).requires_grad_(True)
    if config.every:
        layers[0].register_forward_pre_hook(network.begin, with_kwargs=True)
    for number in chosen:
        layers[number].register_forward_hook(network.note, with_kwargs=True)
    layers[-1].register_forward_pre_hook(network.enter, with_kwargs=True)
    return model


METHOD = Adapter(attach=attach)
