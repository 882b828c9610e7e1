"""Functions of LeMo. Equations and the legend of symbols are in the card, `__init__.py`."""

from collections.abc import Iterator
from typing import Any

from torch import nn

from tasks.core.training import Moment
from tasks.core.weights import surgery
from tasks.core.weights.row import listen
from tasks.methods.sparsifiers import Sparsifier
from tasks.methods.sparsifiers.lemo.attention import Draws, Elimination
from tasks.methods.sparsifiers.lemo.config import LemoConfig
from tasks.methods.sparsifiers.lemo.mlp import PrunedMLP, RecomputedNorm

NEEDED = {
    "self_attn": ("q_proj", "k_proj", "o_proj", "head_dim", "num_key_value_groups"),
    "mlp": ("gate_proj", "up_proj", "down_proj", "act_fn"),
    "post_attention_layernorm": (),
}
"""The attributes that a decoder layer needs, as LLaMA and Qwen have them, by the name of the module that holds them."""
OURS = (Elimination, PrunedMLP, RecomputedNorm)


def sparsify(model: nn.Module, config: LemoConfig, seed: int) -> None:
    """In training passes, let attention of upper layers leave blocks out and let MLPs save few columns.

    Raises ValueError for layers of another form than LLaMA's; if `keep` is below 1 and no layer would leave blocks out; and if `mlp_keep` is
    below 1 and an MLP trains or is quantised.
    """
    layers: Any = surgery.decoder_layers(model)
    for layer in layers:
        _check_form(layer)
    first = config.first if config.first is not None else max(0, len(layers) // 2 - 1)
    if config.keep < 1 and first >= len(layers) - 1:
        raise ValueError(
            f"methods.lemo.first is {first}, and the last of {len(layers)} layers never drops blocks, so none would. "
            "Set keep: 1, or a smaller `first`."
        )
    if config.mlp_keep < 1:
        _check_frozen(model)
    if config.keep < 1:
        draws = Draws(seed, listen(model))
        for number, layer in enumerate(layers[first:-1], start=first):
            layer.self_attn.forward = Elimination(layer.self_attn, number, config, draws)
    if config.mlp_keep < 1:
        for layer in layers:
            layer.mlp.forward = PrunedMLP(layer.mlp, config.mlp_keep)
            layer.post_attention_layernorm.forward = RecomputedNorm(layer.post_attention_layernorm)


def restore(model: nn.Module) -> None:
    """Restore the model's own forwards, so that every pass computes everything."""
    for module in list(model.modules()):
        if isinstance(vars(module).get("forward"), OURS):
            del module.forward


def on_step(moment: Moment, config: LemoConfig) -> None:
    """Set the step number of the draws."""
    for elimination in _eliminations(moment.model):
        elimination.draws.step = moment.step


def shrunk(config: LemoConfig, share: float) -> LemoConfig:
    """Return the config that has equally many blocks on a row with this share of the tokens."""
    return config.model_copy(update={"block": max(1, round(share * config.block))})


def _eliminations(model: nn.Module) -> Iterator[Elimination]:
    for layer in surgery.decoder_layers(model):
        forward = vars(layer.get_submodule("self_attn")).get("forward")
        if isinstance(forward, Elimination):
            yield forward


def _check_form(layer: Any) -> None:
    """Raise ValueError if a decoder layer lacks one of `NEEDED`."""
    missing = [name for name in NEEDED if not hasattr(layer, name)]
    missing += [
        f"{name}.{part}"
        for name, parts in NEEDED.items()
        for part in parts
        if not hasattr(getattr(layer, name, layer), part)
    ]
    if missing:
        raise ValueError(
            f"{type(layer).__name__} has no {missing[0]}, and lemo needs layers of the form of LLaMA's and Qwen's. Use `sparsifier: none`."
        )


def _check_frozen(model: nn.Module) -> None:
    """Raise ValueError if an MLP trains, or does not consist of three plain, unquantised matrices."""
    for number, layer in enumerate(surgery.decoder_layers(model)):
        mlp = layer.get_submodule("mlp")
        if trained := [name for name, parameter in mlp.named_parameters() if parameter.requires_grad]:
            raise ValueError(
                f"lemo gives the weights of MLPs no gradient, and layers.{number}.mlp.{trained[0]} trains. Set methods.lemo.mlp_keep: 1, or let "
                "attention train alone (of LoRA, `targets: [q_proj, k_proj, v_proj, o_proj]`)."
            )
        for name in ("gate_proj", "up_proj", "down_proj"):
            linear = mlp.get_submodule(name)
            if not isinstance(linear, nn.Linear) or not linear.weight.is_floating_point():
                raise ValueError(
                    f"lemo needs the numbers of an MLP's weights, and layers.{number}.mlp.{name} is stored as {type(linear).__name__}. Set "
                    "methods.lemo.mlp_keep: 1, or use `base: none`."
                )


METHOD = Sparsifier(sparsify=sparsify, restore=restore, on_step=on_step, shrunk=shrunk)
