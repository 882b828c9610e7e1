"""The packed forward: every sequence of a row attends only to itself, and the head runs on trained positions only.

Shapes: T = tokens of the row, N = its trained tokens, M = those of its auxiliary sequences, H = hidden size, V = vocabulary, B A D = batch,
heads, head width, P = tokens of a piece.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import pairwise
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import LinearCrossEntropyOptions
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel

from tasks.core.sequences import IGNORE, Encoded
from tasks.core.weights.row import Row, listens
from tasks.core.weights.surgery import evaluating
from tasks.engine.attention import attend, check
from tasks.engine.packing import AUXILIARY, COLUMN, Pack, collate
from tasks.methods.objectives import Auxiliary, Tokens

ATTENTION = "ratchet_packed"
HEAD_ROWS = 256
"""Rows of logits in memory at a time."""
CHECKED = 6
"""Tokens of a sequence by which a model is checked."""
EXACT, ROUNDED = 0.02, 0.5
"""The largest difference in nats per token that is rounding, in fp32 and otherwise. SmolLM2 in bf16 has 0.1, and 1 if it sees its neighbour."""


def packed_attention(
    module: nn.Module,
    query_BATD: Tensor,
    key_BATD: Tensor,
    value_BATD: Tensor,
    attention_mask: Tensor | None,
    *,
    dropout: float = 0.0,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    boundaries: Tensor | None = None,
    places: Tensor | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Return attention within each of the row's sequences, causal if the model is, without a mask over the row.

    The result is (B, T, A, D), as of transformers' attention functions. Without `boundaries` the row is one sequence. Of a row whose tokens
    are some of a longer one, `places` are theirs in that, (T,), by which windows are measured.
    Raises ValueError for a model whose attention does more (`tasks.engine.attention.check`).
    """
    check(module, softcap, s_aux)
    edges = [0, query_BATD.shape[2]] if boundaries is None else boundaries.tolist()
    before = 0 if getattr(module, "is_causal", True) else None
    pieces = [
        attend(
            query_BATD[:, :, start:end],
            key_BATD[:, :, start:end],
            value_BATD[:, :, start:end],
            before=before,
            window=sliding_window,
            scale=scaling,
            dropout=dropout,
            places=None if places is None else places[start:end],
        )
        for start, end in pairwise(edges)
    ]
    return torch.cat([piece_BATD.transpose(1, 2) for piece_BATD in pieces], dim=1), None


AttentionInterface.register(ATTENTION, packed_attention)
AttentionMaskInterface.register(ATTENTION, lambda **_: None)


def token_losses(model: PreTrainedModel, batch: dict[str, Tensor], *, exact: bool = False) -> Tensor:
    """Return the negative log-likelihood of each trained token of a packed row in nats, (N,), in order.

    In bf16 those that have a gradient are rounded to bf16 unless they are to be `exact`: their sum is near enough for a step.
    """
    return _losses(*_trained(model, batch), exact=exact)


def compared_losses(model: PreTrainedModel, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Return the loss of each trained token at a first look at a packed row, and what `divergence` says of a second one, (N,) each."""
    first, second = (_trained(model, batch, look) for look in (0, 1))
    return _losses(*first), divergence(first[0], second[0], first[2])


def divergence(first_NH: Tensor, second_NH: Tensor, head: nn.Linear) -> Tensor:
    """Return the symmetric divergence of two looks at each token, ½ KL(p₂ ‖ p₁) + ½ KL(p₁ ‖ p₂), in nats, (N,).

    In each half the gradient goes to the second distribution alone. The logits of a piece are made, and made again going backward.
    """
    of_piece = partial(checkpoint, _divergence, use_reentrant=False, preserve_rng_state=False)
    pieces = zip(torch.split(first_NH, HEAD_ROWS), torch.split(second_NH, HEAD_ROWS), strict=True)
    return torch.cat([of_piece(first_PH, second_PH, head.weight, head.bias) for first_PH, second_PH in pieces])


def _divergence(first_PH: Tensor, second_PH: Tensor, weight_VH: Tensor, bias_V: Tensor | None) -> Tensor:
    """Return `divergence` of a piece, (P,)."""
    first_PV, second_PV = (
        F.linear(hidden_PH, weight_VH.to(hidden_PH.dtype), bias_V).float().log_softmax(dim=1)
        for hidden_PH in (first_PH, second_PH)
    )
    return 0.5 * (_relative_entropy(second_PV.detach(), first_PV) + _relative_entropy(first_PV.detach(), second_PV))


def _relative_entropy(p_PV: Tensor, q_PV: Tensor) -> Tensor:
    """Return KL(p ‖ q) of distributions given by their logarithms, (P,)."""
    return F.kl_div(q_PV, p_PV, reduction="none", log_target=True).sum(dim=1)


def _losses(hidden_NH: Tensor, labels_N: Tensor, head: nn.Linear, *, exact: bool = False) -> Tensor:
    """Return the negative log-likelihood of each token that its last hidden state is to predict, in nats, (N,)."""
    weight_VH = head.weight.to(hidden_NH.dtype)
    if hidden_NH.element_size() < 4 and (exact or not torch.is_grad_enabled()):
        of_piece = partial(checkpoint, _exact_losses, use_reentrant=False, preserve_rng_state=False)
        pieces = zip(torch.split(hidden_NH, HEAD_ROWS), torch.split(labels_N, HEAD_ROWS), strict=True)
        return torch.cat([of_piece(hidden_PH, labels_P, weight_VH, head.bias) for hidden_PH, labels_P in pieces])
    options = LinearCrossEntropyOptions(batch_chunk_size=HEAD_ROWS, chunking_method=None, acc_policy="compact")
    return F.linear_cross_entropy(
        hidden_NH, weight_VH, labels_N, linear_bias=head.bias, reduction="none", options=options
    ).float()


def _exact_losses(hidden_PH: Tensor, labels_P: Tensor, weight_VH: Tensor, bias_V: Tensor | None) -> Tensor:
    """Return `_losses` of a piece, (P,), from its logits in fp32: the fused function returns losses in the type of the hidden states."""
    return F.cross_entropy(F.linear(hidden_PH, weight_VH, bias_V).float(), labels_P, reduction="none")


def token_logits(model: PreTrainedModel, batch: dict[str, Tensor]) -> Tensor:
    """Return the logits that each trained token of a packed row is predicted by, (N, V), in order. All are in memory at once."""
    hidden_NH, _, head = _trained(model, batch)
    logits_NV = F.linear(hidden_NH, head.weight.to(hidden_NH.dtype), head.bias)
    return logits_NV.to(torch.promote_types(logits_NV.dtype, torch.float32))


@torch.no_grad()
def token_hits(model: PreTrainedModel, batch: dict[str, Tensor]) -> Tensor:
    """Return 1.0 for each trained token of a packed row that is the model's first choice, 0.0 for the others, (N,)."""
    hidden_NH, labels_N, head = _trained(model, batch)
    weight, bias = head.weight.to(hidden_NH.dtype), head.bias
    choices = [F.linear(rows, weight, bias).argmax(dim=1) for rows in torch.split(hidden_NH, HEAD_ROWS)]
    return (torch.cat(choices) == labels_N).float()


@torch.no_grad()
def combined_losses(
    models: Sequence[PreTrainedModel],
    batch: dict[str, Tensor],
    combine: Callable[[Tensor, Sequence[Tensor]], Tensor],
    vocabulary: int,
) -> Tensor:
    """Return the negative log-likelihood of each trained token under combined logits of several models, in nats, (N,), in order.

    All models read the same row. `combine` takes the first model's logits of some rows over the first `vocabulary` tokens, and
    a list of the other models' logits.
    """
    states = [_trained(model, batch) for model in models]
    heads = [(head.weight[:vocabulary], None if head.bias is None else head.bias[:vocabulary]) for *_, head in states]
    pieces = [torch.split(hidden_NH, HEAD_ROWS) for hidden_NH, *_ in states]
    losses = []
    for labels, *hidden in zip(torch.split(states[0][1], HEAD_ROWS), *pieces, strict=True):
        main, *helpers = (
            F.linear(rows, weight.to(rows.dtype), bias).float()
            for rows, (weight, bias) in zip(hidden, heads, strict=True)
        )
        losses.append(F.cross_entropy(combine(main, helpers), labels, reduction="none"))
    return torch.cat(losses)


def observe(
    model: PreTrainedModel,
    batch: dict[str, Tensor],
    *,
    state: Mapping[str, Tensor] | None = None,
    hits: bool = False,
    looks: int = 1,
    auxiliary: bool = False,
    auxiliary_gradient: bool = False,
    exact: bool = False,
) -> tuple[Tensor, Tokens]:
    """Return the input of an objective for a packed row: the loss of each trained token (or its hit), and what is known of it.

    With two `looks` the row is read twice. `exact` is that of `token_losses`. With `auxiliary` the auxiliary sequences are read first, so that what an adapter notes of its
    last forward is the row's.
    """
    trained_T = batch["labels"][0] != IGNORE
    tokens = Tokens(
        weights=batch["weights"][0][trained_T],
        segments=batch["segments"][0][trained_T],
        tasks=batch["tasks"][0][trained_T],
        task_tokens=batch.get("task_tokens", trained_T.sum()[None]),
        task_examples=batch.get("task_examples", batch["boundaries"].diff().count_nonzero()[None]),
        numbers=batch["numbers"],
        columns=_columns(batch, trained_T),
        auxiliary=_auxiliary(model, batch, gradient=auxiliary_gradient, exact=exact) if auxiliary else None,
        state=state or {},
    )
    if looks == 2:
        nll_N, divergence_N = compared_losses(model, batch)
        return nll_N, replace(tokens, divergence=divergence_N)
    return token_hits(model, batch) if hits else token_losses(model, batch, exact=exact), tokens


def _columns(batch: Mapping[str, Tensor], trained_T: Tensor) -> dict[str, Tensor]:
    """Return the objective's columns of a row at its trained tokens, by name."""
    return {
        name.removeprefix(COLUMN): tensor[0][trained_T] for name, tensor in batch.items() if name.startswith(COLUMN)
    }


def _auxiliary(model: PreTrainedModel, batch: Mapping[str, Tensor], *, gradient: bool, exact: bool) -> Auxiliary | None:
    """Return the auxiliary sequences of a row as the model sees them; None if it has none."""
    row = {name.removeprefix(AUXILIARY): tensor for name, tensor in batch.items() if name.startswith(AUXILIARY)}
    if not row:
        return None
    trained_T = row["labels"][0] != IGNORE
    with torch.set_grad_enabled(gradient and torch.is_grad_enabled()):
        nll_M = token_losses(model, row, exact=exact)
    return Auxiliary(nll_M, row["segments"][0][trained_T], row["owners"], _columns(row, trained_T))


def _trained(model: PreTrainedModel, batch: dict[str, Tensor], look: int = 0) -> tuple[Tensor, Tensor, nn.Linear]:
    """Return the last hidden state of each trained token, (N, H), the token it is to predict, (N,), and the head."""
    told = {"row": Row(batch["task_keys"], batch["boundaries"], look, model.training)} if listens(model) else {}
    hidden_TH = model.get_decoder()(
        input_ids=batch["input_ids"],
        position_ids=batch["position_ids"],
        boundaries=batch["boundaries"],
        use_cache=False,  # with a cache, transformers takes the row for one sequence
        **told,
    ).last_hidden_state[0]
    labels_T = batch["labels"][0]
    trained_T = labels_T != IGNORE
    head = model.get_output_embeddings()
    kind = hidden_TH.device.type  # autocast does not know this function: the cast is ours
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else head.weight.dtype
    hidden_NH, scale = hidden_TH[trained_T], scale_of_logits(model)
    return (hidden_NH if scale == 1 else hidden_NH * scale).to(dtype), labels_T[trained_T], head


def scale_of_logits(model: PreTrainedModel) -> float:
    """Return what a family multiplies its logits by after the head (Granite, Cohere): here it multiplies the head's input.

    Raises ValueError for a model that caps its logits (Gemma 2).
    """
    config = model.config.get_text_config()
    if cap := getattr(config, "final_logit_softcapping", None):
        raise ValueError(
            f"Family {config.model_type} caps its logits at {cap:g} (`final_logit_softcapping` in config.json), which packed rows do not. "
            "Take a base of another family, for example llama, qwen2, qwen3 or olmo2."
        )
    return (getattr(config, "logit_scale", None) or 1.0) / (getattr(config, "logits_scaling", None) or 1.0)


def use_packed_attention(model: PreTrainedModel) -> None:
    """Make `model` attend within the sequences of a packed row from now on. Raises ValueError at the first time if it cannot (`_check`)."""
    if model.config._attn_implementation == ATTENTION:  # setting it takes milliseconds, and rows may be as short
        return
    if hasattr(model, "packs") or listens(model) or model.get_output_embeddings() is None:
        model.set_attn_implementation(ATTENTION)
        return
    before = model.config._attn_implementation
    try:
        _check(model)
    except BaseException:
        model.set_attn_implementation(before)  # else the next call would take it for one that is checked
        raise
    model.packs = True


@torch.no_grad()
def _check(model: PreTrainedModel) -> None:
    """Make `model` attend within sequences, and raise ValueError if its losses of two sequences in a row are not those of its own forward.

    Families differ in what they hand on to attention, and in what they do beside it and after the head.
    """
    draw = torch.Generator().manual_seed(0)
    ids_ST = torch.randint(model.get_output_embeddings().weight.shape[0], (2, CHECKED), generator=draw)
    row = collate([Pack(tuple(Encoded("", ids, [1.0] * CHECKED) for ids in ids_ST.tolist()))])
    with evaluating(model), torch.autocast(model.device.type, enabled=False):
        logits_STV = model(input_ids=ids_ST.to(model.device), use_cache=False).logits.float().cpu()
        model.set_attn_implementation(ATTENTION)
        found_N = token_losses(model, {name: tensor.to(model.device) for name, tensor in row.items()}).cpu()
    expected_N = F.cross_entropy(logits_STV[:, :-1].flatten(0, 1), ids_ST[:, 1:].flatten(), reduction="none")
    gap = float((found_N - expected_N).abs().view(2, -1).mean(dim=1).max())
    exact = all(parameter.dtype is torch.float32 for parameter in model.parameters())
    if not gap < (EXACT if exact else ROUNDED):
        raise ValueError(
            f"Family {model.config.model_type} cannot be read in rows of several sequences: there the losses of two short ones differ by "
            f"{gap:.2f} nats per token from those of the model's own forward, so it would be trained and measured as another model. "
            "Take a base of another family, for example llama, qwen2, qwen3 or olmo2."
        )


def bind_loss(model: PreTrainedModel, objective: Any, adapter: Any) -> None:
    """Give `model` a forward that returns the objective's loss of a packed row plus the adapter's penalty.

    Both are parts (`tasks.engine.training.compose.Part`). The loss is computed inside the model so that every wrapper (peft, DDP, FSDP)
    sees the head's gradients; bind it before an adapter wraps the model. It is divided by `num_items_in_batch`, Trainer's count
    of trained tokens over the accumulated step.
    """
    method = objective.method
    options = {
        "hits": objective.spec.hits,
        "looks": objective.spec.looks,
        "auxiliary": bool(method.reads_auxiliary and method.reads_auxiliary(objective.config)),
        "auxiliary_gradient": objective.spec.auxiliary_gradient,
        "exact": objective.spec.of_answers,
    }

    def forward(
        self: PreTrainedModel,
        num_items_in_batch: Tensor | int | None = None,
        objective_state: Mapping[str, Tensor] | None = None,
        **batch: Any,
    ) -> dict[str, Tensor]:
        values, tokens = observe(self, batch, state=objective_state, **options)
        if adapter.method.weigh:
            factors_N = adapter.method.weigh(self, batch["task_keys"][tokens.segments], adapter.config)
            tokens = replace(tokens, weights=tokens.weights * factors_N)
        loss = method.loss(values, tokens, objective.config)
        if adapter.method.penalty:
            loss = loss + len(values) * adapter.method.penalty(self, adapter.config)
        return {"loss": loss / (len(values) if num_items_in_batch is None else num_items_in_batch)}

    use_packed_attention(model)
    model.forward = MethodType(forward, model)
