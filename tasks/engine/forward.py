"""The packed forward: every sequence of a row attends only to itself, and the head runs on trained positions only.

Some families would compute something else in such a row, because their layers pass a state from token to token or their attention has
features that ours lacks. They read the sequences of a row one after the other, with the attention of transformers (`reads_alone`).

Shapes: T = tokens of the row, N = its trained tokens, M = those of its auxiliary sequences, H = hidden size, V = vocabulary, B A D = batch,
heads, head width, P = tokens of a piece.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from itertools import pairwise
from types import MethodType
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import LinearCrossEntropyOptions
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel

from tasks.core.sequences import IGNORE, Encoded
from tasks.core.weights.row import Row, listens
from tasks.core.weights.surgery import evaluating
from tasks.engine.attention import UnsupportedAttentionError, attend, check, window
from tasks.engine.packing import AUXILIARY, COLUMN, Pack, collate
from tasks.methods.objectives import Auxiliary, Tokens

ATTENTION = "ratchet_packed"
HEAD_ROWS = 256
"""Rows of logits in memory at a time."""
CHECKED = 6
"""Tokens of each sequence that a model is checked with."""
CAPS = ("final_logit_softcapping", "logits_soft_cap", "output_logit_soft_cap")
"""Names of the bound of logits in config.json: those of Gemma, RecurrentGemma and xLSTM."""
ATTENDING = frozenset({"full_attention", "sliding_attention", "chunked_attention"})
"""The kinds of layers in `layer_types` of config.json that do no more than attend."""
EXACT, ROUNDED = 0.02, 0.5
"""The largest difference, in nats per token, that counts as rounding: in fp32, and in other precisions. SmolLM2 in bf16 has 0.1, and 1 if
a sequence sees its neighbour."""


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

    The result is (B, T, A, D), as transformers' attention functions return it. Without `boundaries` the row is one sequence. If the row
    holds only some tokens of a longer one, `places`, (T,), are their positions there, by which windows are measured.
    Raises UnsupportedAttentionError for a model whose attention has further features (`tasks.engine.attention.check`).
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
            window=window(module, sliding_window),
            scale=scaling,
            dropout=dropout,
            places=None if places is None else places[start:end],
        )
        for start, end in pairwise(edges)
    ]
    return torch.cat([piece_BATD.transpose(1, 2) for piece_BATD in pieces], dim=1), None


AttentionInterface.register(ATTENTION, packed_attention)
AttentionMaskInterface.register(ATTENTION, lambda **_: None)


class Head(NamedTuple):
    """The output layer of a model."""

    weight: Tensor
    """(V, H)."""
    bias: Tensor | None
    """(V,)."""
    cap: float | None
    """The bound of the logits (softcap); None without one."""

    @classmethod
    def of(cls, model: PreTrainedModel, vocabulary: int | None = None) -> "Head":
        """Return the head of a model; with `vocabulary`, only for that many first tokens of its vocabulary."""
        head, config = model.get_output_embeddings(), model.config.get_text_config()
        cap = next((value for name in CAPS if (value := getattr(config, name, None))), None)
        if vocabulary is None:  # a slice, even of all rows, would copy the head's gradient
            return cls(head.weight, head.bias, cap)
        return cls(head.weight[:vocabulary], None if head.bias is None else head.bias[:vocabulary], cap)

    def logits(self, hidden_PH: Tensor) -> Tensor:
        """Return the logits of a piece, (P, V), in fp32 or better."""
        logits_PV = F.linear(hidden_PH, self.weight.to(hidden_PH.dtype), self.bias)
        logits_PV = logits_PV.to(torch.promote_types(logits_PV.dtype, torch.float32))
        return logits_PV if self.cap is None else (logits_PV / self.cap).tanh() * self.cap


def token_losses(model: PreTrainedModel, batch: dict[str, Tensor], *, exact: bool = False) -> Tensor:
    """Return the negative log-likelihood of each trained token of a packed row in nats, (N,), in order.

    In bf16, losses with a gradient are rounded to bf16 unless `exact` is set: their sum is accurate enough for a training step.
    """
    return _losses(*_trained(model, batch), exact=exact)


def compared_losses(model: PreTrainedModel, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Return the loss of each trained token at a first look at a packed row, and its `divergence` from a second look, (N,) each."""
    first, second = (_trained(model, batch, look) for look in (0, 1))
    return _losses(*first), divergence(first[0], second[0], first[2])


def divergence(first_NH: Tensor, second_NH: Tensor, head: Head) -> Tensor:
    """Return the symmetric divergence of two looks at each token, ½ KL(p₂ ‖ p₁) + ½ KL(p₁ ‖ p₂), in nats, (N,).

    In each half only the second distribution has a gradient. Logits are computed piece by piece, and recomputed in the backward pass.
    """
    of_piece = partial(checkpoint, _divergence, use_reentrant=False, preserve_rng_state=False)
    pieces = zip(torch.split(first_NH, HEAD_ROWS), torch.split(second_NH, HEAD_ROWS), strict=True)
    return torch.cat([of_piece(first_PH, second_PH, head) for first_PH, second_PH in pieces])


def _divergence(first_PH: Tensor, second_PH: Tensor, head: Head) -> Tensor:
    """Return `divergence` of a piece, (P,)."""
    first_PV, second_PV = (head.logits(hidden_PH).log_softmax(dim=1) for hidden_PH in (first_PH, second_PH))
    return 0.5 * (_relative_entropy(second_PV.detach(), first_PV) + _relative_entropy(first_PV.detach(), second_PV))


def _relative_entropy(p_PV: Tensor, q_PV: Tensor) -> Tensor:
    """Return KL(p ‖ q) of distributions given by their logarithms, (P,)."""
    return F.kl_div(q_PV, p_PV, reduction="none", log_target=True).sum(dim=1)


def _losses(hidden_NH: Tensor, labels_N: Tensor, head: Head, *, exact: bool = False) -> Tensor:
    """Return the negative log-likelihood of each label under its last hidden state, in nats, (N,)."""
    head = head._replace(weight=head.weight.to(hidden_NH.dtype))
    if head.cap is not None or (hidden_NH.element_size() < 4 and (exact or not torch.is_grad_enabled())):
        of_piece = partial(checkpoint, _exact_losses, use_reentrant=False, preserve_rng_state=False)
        pieces = zip(torch.split(hidden_NH, HEAD_ROWS), torch.split(labels_N, HEAD_ROWS), strict=True)
        return torch.cat([of_piece(hidden_PH, labels_P, head) for hidden_PH, labels_P in pieces])
    options = LinearCrossEntropyOptions(batch_chunk_size=HEAD_ROWS, chunking_method=None, acc_policy="compact")
    return F.linear_cross_entropy(
        hidden_NH, head.weight, labels_N, linear_bias=head.bias, reduction="none", options=options
    ).float()


def _exact_losses(hidden_PH: Tensor, labels_P: Tensor, head: Head) -> Tensor:
    """Return `_losses` of a piece, (P,), from its logits in fp32: the fused function returns losses in the dtype of the hidden states, and has
    no softcap."""
    return F.cross_entropy(head.logits(hidden_PH), labels_P, reduction="none")


def token_logits(model: PreTrainedModel, batch: dict[str, Tensor]) -> Tensor:
    """Return the logits from which each trained token of a packed row is predicted, (N, V), in order. All are in memory at once."""
    hidden_NH, _, head = _trained(model, batch)
    return head.logits(hidden_NH)


@torch.no_grad()
def token_hits(model: PreTrainedModel, batch: dict[str, Tensor]) -> Tensor:
    """Return 1.0 for each trained token of a packed row that is the model's first choice, 0.0 for the others, (N,)."""
    hidden_NH, labels_N, head = _trained(model, batch)
    choices = [head.logits(hidden_PH).argmax(dim=1) for hidden_PH in torch.split(hidden_NH, HEAD_ROWS)]
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
    heads = [Head.of(model, vocabulary) for model in models]
    pieces = [torch.split(hidden_NH, HEAD_ROWS) for hidden_NH, *_ in states]
    losses = []
    for labels, *hidden in zip(torch.split(states[0][1], HEAD_ROWS), *pieces, strict=True):
        main, *helpers = (head.logits(hidden_PH) for hidden_PH, head in zip(hidden, heads, strict=True))
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
    """Return the input of an objective for a packed row: the loss of each trained token (or its hit), and the token's further facts.

    With two `looks` the row is read twice. `exact` is that of `token_losses`. With `auxiliary` the auxiliary sequences are read too, and
    before the row, so that an adapter's record of its last forward pass is about the row.
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
    pairs = batch["with_auxiliary"] if "with_auxiliary" in batch else torch.tensor(len({*row["owners"].tolist()}))
    return Auxiliary(nll_M, row["segments"][0][trained_T], row["owners"], pairs, _columns(row, trained_T))


def hidden_states(model: PreTrainedModel, batch: Mapping[str, Tensor], **told: Any) -> Tensor:
    """Return the last hidden state of each token of a packed row, (T, H). `told` are further arguments of a model that listens to its row."""
    decoder, ids_1T, places_1T = model.get_decoder(), batch["input_ids"], batch["position_ids"]
    if not reads_alone(model):
        # With a cache, transformers would treat the row as one sequence.
        given = {"input_ids": ids_1T, "position_ids": places_1T, "boundaries": batch["boundaries"], **told}
        states_TH: Tensor = decoder(**given, use_cache=False).last_hidden_state[0]
        return states_TH
    spans = [slice(start, end) for start, end in pairwise(batch["boundaries"].tolist())]
    read = (decoder(input_ids=ids_1T[:, at], position_ids=places_1T[:, at], use_cache=False) for at in spans)
    return torch.cat([output.last_hidden_state[0] for output in read])


def _trained(model: PreTrainedModel, batch: dict[str, Tensor], look: int = 0) -> tuple[Tensor, Tensor, Head]:
    """Return the last hidden state of each trained token, (N, H), the token it is to predict, (N,), and the head."""
    told = {"row": Row(batch["task_keys"], batch["boundaries"], look, model.training)} if listens(model) else {}
    hidden_TH = hidden_states(model, batch, **told)
    labels_T = batch["labels"][0]
    trained_T = labels_T != IGNORE
    head = Head.of(model)
    kind = hidden_TH.device.type  # autocast does not cover the loss function, so the cast is made here
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else head.weight.dtype
    hidden_NH, scale = hidden_TH[trained_T], scale_of_logits(model)
    return (hidden_NH if scale == 1 else hidden_NH * scale).to(dtype), labels_T[trained_T], head


def scale_of_logits(model: PreTrainedModel) -> float:
    """Return the factor of a family's logits after the head (Granite, Cohere), by which the head's input is multiplied here."""
    config = model.config.get_text_config()
    return (getattr(config, "logit_scale", None) or 1.0) / (getattr(config, "logits_scaling", None) or 1.0)


def reads_alone(model: PreTrainedModel) -> bool:
    """Return True if the model reads the sequences of a row one after the other, and prompts without padding."""
    return bool(getattr(model, "alone_by", ""))


def use_packed_attention(model: PreTrainedModel) -> None:
    """Make `model` from now on read each sequence of a packed row as if alone: by attention within sequences, or one after the other.

    Raises ValueError on the first call for a model if neither is possible.
    """
    if not hasattr(model, "alone_by") and not listens(model) and model.get_output_embeddings() is not None:
        model.alone_by = _chosen(model)
    _set_attention(model, getattr(model, "alone_by", "") or ATTENTION)


def use_own_attention(model: PreTrainedModel) -> None:
    """Make `model` read padded batches by transformers' attention, or keep its own if it reads alone. Raises as `use_packed_attention`."""
    use_packed_attention(model)  # its first call checks the model
    _set_attention(model, getattr(model, "alone_by", "") or "sdpa")


def _set_attention(model: PreTrainedModel, name: str) -> None:
    if model.config._attn_implementation != name:  # setting takes milliseconds, as long as a short row
        model.set_attn_implementation(name)


@torch.no_grad()
def _chosen(model: PreTrainedModel) -> str:
    """Return the attention with which `model` reads sequences one after the other; empty if their losses in a row are the same as alone.

    Measuring is necessary because families differ in the arguments that they pass to attention, and in what they compute beside it and after
    the head. Raises ValueError if neither way gives the losses of the model's own forward.
    """
    if model.get_decoder() in (model, model.get_output_embeddings()):  # the states before the head are out of reach
        raise ValueError(
            f"Family {model.config.model_type} keeps its decoder where transformers does not find it. Take a base of another family, for example "
            "llama, qwen3, gemma3 or olmo2."
        )
    own = model.config._attn_implementation
    draw = torch.Generator().manual_seed(0)
    ids_ST = torch.randint(model.get_output_embeddings().weight.shape[0], (2, CHECKED), generator=draw)
    row = collate([Pack(tuple(Encoded("", ids, [1.0] * CHECKED) for ids in ids_ST.tolist()))])
    exact = all(parameter.dtype is torch.float32 for parameter in model.parameters())
    gap, limit = math.inf, EXACT if exact else ROUNDED
    with evaluating(model), torch.autocast(model.device.type, enabled=False):
        logits_STV = model(input_ids=ids_ST.to(model.device), use_cache=False).logits.float().cpu()
        expected_N = F.cross_entropy(logits_STV[:, :-1].flatten(0, 1), ids_ST[:, 1:].flatten(), reduction="none")
        try:
            for attention, alone_by in [(own, own)] if _hands_on_states(model) else [(ATTENTION, ""), (own, own)]:
                model.alone_by = alone_by
                model.set_attn_implementation(attention)
                with suppress(UnsupportedAttentionError):
                    found_N = token_losses(model, {name: values.to(model.device) for name, values in row.items()}).cpu()
                    gap = float((found_N - expected_N).abs().view(2, -1).mean(dim=1).max())
                if gap < limit:
                    return alone_by
        finally:
            del model.alone_by
            model.set_attn_implementation(own)
    raise ValueError(
        f"Family {model.config.model_type} cannot be read: the losses of two short sequences differ by {gap:.2f} nats per token from those of "
        "the model's own forward, so it would be trained and measured as another model. Take a base of another family, for example llama, "
        "qwen3, gemma3 or olmo2."
    )


def _hands_on_states(model: PreTrainedModel) -> bool:
    """Return True if layers pass a state from token to token (convolutions, recurrences). The losses of a hardly trained model would not
    show it."""
    kinds = getattr(model.config.get_text_config(), "layer_types", None) or ()
    return bool(getattr(model, "_is_stateful", False)) or not ATTENDING.issuperset(kinds)


def bind_loss(model: PreTrainedModel, objective: Any, adapter: Any) -> None:
    """Give `model` a forward that returns the objective's loss of a packed row plus the adapter's penalty.

    `objective` and `adapter` are parts (`tasks.engine.training.compose.Part`). The loss is computed inside the model so that every wrapper
    (peft, DDP, FSDP) sees the head's gradients; bind it before an adapter wraps the model. The loss is divided by `num_items_in_batch`,
    Trainer's count of trained tokens over the accumulated step.
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
