"""Steer a model by helper models: at each token their logits are combined with its own.

Shapes: B = rows of a batch, T = tokens of a row so far, N = trained tokens, V = vocabulary.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import GenerationConfig, LogitsProcessorList, PreTrainedModel, StoppingCriteriaList

from tasks.core.records import Message
from tasks.engine.chat_template import Tokenizer
from tasks.engine.context import room
from tasks.engine.forward import combined_losses, reads_alone, use_own_attention, use_packed_attention
from tasks.engine.inference import decoding
from tasks.engine.inference.prompt_encoding import ids_of

Pair = tuple[PreTrainedModel, Tokenizer]


@dataclass(frozen=True)
class Steering:
    """Helper models of a main model, and the function that combines their logits. `steer` makes it."""

    helpers: Sequence[Pair]
    combine: Callable[[Tensor, Sequence[Tensor]], Tensor]
    """The function of a method of family `decoders`: the main model's logits and the helpers' → the logits to decode from."""
    vocabulary: int
    """The models share all tokens with ids below this number; other tokens are never written."""

    def losses(self, model: PreTrainedModel, batch: dict[str, Tensor]) -> Tensor:
        """Return the loss of each trained token of a packed row, which all models read, (N,), for `scoring.losses`.

        Raises ValueError for a token that not all of them share.
        """
        if (largest := int(batch["input_ids"].max())) >= self.vocabulary:
            raise ValueError(
                f"The text holds token {largest}, and the models share only those below {self.vocabulary}."
            )
        models = [model, *(helper for helper, _ in self.helpers)]
        for reader in models:
            use_packed_attention(reader)
        return combined_losses(models, batch, self.combine, self.vocabulary)

    def room(self, prompts: Sequence[Sequence[Message]], tools: Sequence[str | None] = ()) -> list[float]:
        """Return how many tokens of the answer to each prompt fit into the contexts of all helpers.

        Raises ValueError for a prompt that does not fit into one of them.
        """
        of_each = [room(helper, ids_of(prompts, tokenizer, tools)) for helper, tokenizer in self.helpers]
        return [min(spaces) for spaces in zip([math.inf] * len(prompts), *of_each, strict=True)]

    def beside(self, prompts: Sequence[Sequence[Message]], tools: Sequence[str | None] = ()) -> Callable[..., Tensor]:
        """Return a loop for `model.generate(custom_generate=…)` in which the helpers read along, with prompts in their own templates.

        It decodes greedily or samples. Processors, temperature and top-p work on the combined logits.
        """

        def write(
            model: PreTrainedModel,
            input_ids: Tensor,
            logits_processor: LogitsProcessorList,
            stopping_criteria: StoppingCriteriaList,
            generation_config: GenerationConfig,
            **model_kwargs: Any,
        ) -> Tensor:
            ids_BT, mask_BT = input_ids, model_kwargs.get("attention_mask")
            if len(ids_BT) != len(prompts):
                raise ValueError("A steered model writes one answer to a prompt: no beams, no `num_return_sequences`.")
            readers = [_Reader(model, ids_BT, torch.ones_like(ids_BT) if mask_BT is None else mask_BT)]
            for helper, tokenizer in self.helpers:
                use_own_attention(helper)
                ids = ids_of(prompts, tokenizer, tools)
                readers.append(_Reader(helper, *decoding.left_padded(ids, helper.device)))
            done_B = torch.zeros(len(ids_BT), dtype=torch.bool, device=ids_BT.device)
            while not done_B.all():
                main_BV, *helpers = [reader.logits() for reader in readers]
                shared_BV = self.combine(
                    main_BV[:, : self.vocabulary], [helper[:, : self.vocabulary] for helper in helpers]
                )
                logits_BV = F.pad(shared_BV, (0, main_BV.shape[1] - shared_BV.shape[1]), value=-torch.inf)
                scores_BV = logits_processor(ids_BT, logits_BV)
                if generation_config.do_sample:
                    token_B = torch.multinomial(scores_BV.softmax(dim=1), 1)[:, 0]
                else:
                    token_B = scores_BV.argmax(dim=1)
                token_B = torch.where(done_B, generation_config.pad_token_id, token_B)
                ids_BT = torch.cat([ids_BT, token_B[:, None]], dim=1)
                done_B = done_B | stopping_criteria(ids_BT, scores_BV)
                for reader in readers:
                    reader.read(token_B, ~done_B)
            return ids_BT

        return write


class _Reader:
    """One model's view of a batch: its own prompts and cache, and the chosen tokens, which all models read."""

    def __init__(self, model: PreTrainedModel, ids_BT: Tensor, mask_BT: Tensor) -> None:
        self._model, self._new, self._mask = model, ids_BT, mask_BT
        self._name = decoding.cache_name(model)
        self._cache: dict[str, Any] = {}

    def logits(self) -> Tensor:
        """Return the logits of the next token, (B, V)."""
        positions = (self._mask.cumsum(dim=1) - 1).clamp(min=0)[:, -self._new.shape[1] :]
        output = self._model(
            input_ids=self._new,
            attention_mask=self._mask,
            position_ids=positions,
            logits_to_keep=1,
            use_cache=True,
            **self._cache,
        )
        self._cache = {self._name: output[self._name]}
        return output.logits[:, -1].float()

    def read(self, token_B: Tensor, goes_on_B: Tensor) -> None:
        """Take the token that was chosen for each row. Rows that have ended keep their last position, since their context may be full."""
        self._new = token_B[:, None].to(self._mask.device)
        self._mask = torch.cat([self._mask, goes_on_B[:, None].to(self._mask)], dim=1)


def steer(main: Pair, helpers: Sequence[Pair], combine: Callable[[Tensor, Sequence[Tensor]], Tensor]) -> Steering:
    """Steer `main` by `helpers`.

    Raises ValueError if an id stands for different tokens in two of the tokenizers, and for a model that reads only one text at a time.
    """
    for model, _ in (main, *helpers):
        use_own_attention(model)
        if reads_alone(model):
            raise ValueError(
                f"{model.name_or_path}: family {model.config.model_type} reads one text at a time, and models that steer each other read padded "
                "batches. Use decoder `plain`."
            )
    vocabularies = [
        {number: token for token, number in tokenizer.get_vocab().items()} for _, tokenizer in (main, *helpers)
    ]
    first, *others = vocabularies
    for other, (_, tokenizer) in zip(others, helpers, strict=True):
        different = [number for number in first.keys() & other.keys() if first[number] != other[number]]
        if different:
            number = min(different)
            raise ValueError(
                f"Models of different tokenizers cannot steer each other: token {number} is {first[number]!r} in "
                f"{main[1].name_or_path} and {other[number]!r} in {tokenizer.name_or_path}."
            )
    numbers = [set(vocabulary) for vocabulary in vocabularies]
    not_shared = set.union(*numbers) - set.intersection(*numbers)
    widths = [model.get_output_embeddings().weight.shape[0] for model, _ in (main, *helpers)]
    return Steering(helpers, combine, min([*widths, *not_shared]))
