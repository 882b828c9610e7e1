"""Decode with one model: rows that have ended leave the batch, and waiting prompts take their places.

The keys and values of a batch are in memory that is allocated ahead: a step writes one column and copies none. Rows are padded on the left.
A row that ends is overwritten by the last row. When a quarter of the rows have ended, waiting prompts are read, those of similar length
together, and joined to the batch: the shorter side is padded, and columns in which no row has a token are dropped. Equal prompts are read
once, and so is a beginning that prompts share, such as a system turn with the schemas of tools; padding then comes after that beginning. An
adapter may put tokens of its own before those of the rows (DePT does): they stay in front.
Orca, Yu et al. 2022, https://www.usenix.org/conference/osdi22/presentation/yu: batching by step in place of batching by request.
Shapes: A = rows of the batch, R = rows that are read, H = heads, T = columns, D = width of a head, V = vocabulary.
"""

import copy
import inspect
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import accumulate, groupby, takewhile
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import LogitsProcessor, LogitsProcessorList, PreTrainedModel, StoppingCriteria, StoppingCriteriaList
from transformers.cache_utils import Cache, DynamicLayer

from tasks.core.weights.row import Row, listens, task_key

SLACK = 64
"""Columns that are allocated ahead."""
PADDED = 1.25
"""The largest ratio of the lengths of prompts that are read together."""
SHARED = 32
"""The shortest shared beginning, in tokens, that is read by a forward pass of its own; such a pass costs about as much as so many tokens."""
MIXED = frozenset({"rwkv"})
"""Families for which transformers mixes up the states of a batch's rows once tokens follow the prompts."""
Choose = Callable[[Sequence[int], Sequence[Sequence[int]], Tensor], Tensor]
"""The number of each row's prompt, the tokens of its response so far, and logits, (A, V) → the next token of each row, (A,)."""
HasEnded = Callable[[int, Sequence[int]], bool]
"""The number of a prompt and the tokens of its response → True if it is complete."""


def left_padded(rows: Sequence[Sequence[int]], device: torch.device, padding: int = 0) -> tuple[Tensor, Tensor]:
    """Return token ids and attention mask of rows, (R, T) each."""
    longest = max(map(len, rows))
    ids = [[padding] * (longest - len(row)) + list(row) for row in rows]
    mask = [[0] * (longest - len(row)) + [1] * len(row) for row in rows]
    return torch.tensor(ids, device=device), torch.tensor(mask, device=device)


def alike(prompts: Sequence[Sequence[int]]) -> Iterator[list[Sequence[int]]]:
    """Yield the prompts in their order, in groups whose longest is at most `PADDED` times as long as the shortest, to limit padding."""
    group: list[Sequence[int]] = []
    for prompt in prompts:
        lengths = [len(prompt), *map(len, group)]
        if group and max(lengths) > PADDED * min(lengths):
            yield group
            group = []
        group.append(prompt)
    yield group


def common_beginning(rows: Sequence[tuple[int, ...]]) -> list[int]:
    """Return the tokens with which all rows begin."""
    first, last = min(rows), max(rows)  # what these share, rows between them share too
    return [token for token, _ in takewhile(lambda pair: pair[0] == pair[1], zip(first, last, strict=False))]


def cache_name(model: PreTrainedModel) -> str:
    """Return the name of a model's cache among its arguments and outputs: transformers uses another one since 5.24."""
    return "cache" if "cache" in inspect.signature(model.forward).parameters else "past_key_values"


class _Layer(DynamicLayer):
    """Keys and values of one layer, in the first rows and columns of a larger block of memory."""

    def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Append the columns of all rows and return all columns. The first call sets the number of rows."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
            self._memory = [state[:, :, :0] for state in (key_states, value_states)]
            self.num_rows, self.length = len(key_states), 0
        end = self.length + key_states.shape[2]
        if end > self._memory[0].shape[2]:
            self._memory = [
                F.pad(memory[: self.num_rows], (0, 0, 0, end + SLACK - memory.shape[2])) for memory in self._memory
            ]
        for memory, state in zip(self._memory, (key_states, value_states), strict=True):
            memory[: self.num_rows, :, self.length : end] = state
        self.length = end
        self._show()
        return self.keys, self.values

    def overwrite(self, row: int) -> None:
        """Move the last row to the place of another one."""
        self.num_rows -= 1
        for memory in self._memory:
            memory[row, :, : self.length] = memory[self.num_rows, :, : self.length]
        self._show()

    def taken(self, rows: Tensor) -> "_Layer":
        """Return a layer with copies of these rows; a row may be named more than once."""
        taken = copy.copy(self)
        taken._memory = [memory[rows] for memory in self._memory]
        taken.num_rows = len(rows)
        taken._show()
        return taken

    def join(self, other: "_Layer", held: int, drop: int, width: int) -> None:
        """Append the rows of another layer. Both then have `held` columns, then padding, and their tokens in the last `width` columns.

        The first `drop` token columns of this layer are dropped.
        """
        sides = [(self, drop), (other, 0)]
        memory = [
            torch.cat([_aligned(layer._memory[which], layer, held, start, width) for layer, start in sides])
            for which in (0, 1)
        ]
        self._memory = memory
        self.num_rows, self.length = len(memory[0]), held + width
        self._show()

    def _show(self) -> None:
        self.keys, self.values = (memory[: self.num_rows, :, : self.length] for memory in self._memory)


def _aligned(memory: Tensor, layer: _Layer, held: int, drop: int, width: int) -> Tensor:
    """Return the rows of a layer with its tokens aligned at the end of `held + width` columns, and free columns after them."""
    tokens = memory[: layer.num_rows, :, held + drop : layer.length]
    padded = F.pad(tokens, (0, 0, width - tokens.shape[2], SLACK))  # zeros, because masked values must be finite
    return torch.cat([memory[: layer.num_rows, :, :held], padded], dim=2) if held else padded


class _Batch:
    """The rows that a model is writing, with their cache and mask."""

    def __init__(self, model: PreTrainedModel) -> None:
        self._model = model
        self._name = cache_name(model)
        self._cache: Cache | None = None
        self._listens = listens(model)
        self._shares = not self._listens and _attends_to_all(model.config.get_text_config())
        """False for models that must read each prompt as a whole, because their outputs depend on its rows or on distances between tokens."""
        self._mask_AT = torch.ones(0, 0, dtype=torch.long, device=model.device)
        self._beginning: tuple[list[int], Cache] = [], Cache(layer_class_to_replicate=_Layer)
        """The last shared beginning of prompts that was read, and its cache."""

    def read(self, prompts: Sequence[Sequence[int]], tasks: Sequence[str]) -> Tensor:
        """Append rows for these prompts and return the logits of their next tokens, (R, V)."""
        groups = list(alike(prompts))
        ends = list(accumulate(map(len, groups)))
        return torch.cat(
            [self._read(group, tasks[end - len(group) : end]) for group, end in zip(groups, ends, strict=True)]
        )

    def _read(self, prompts: Sequence[Sequence[int]], tasks: Sequence[str]) -> Tensor:
        """Append rows for prompts of like length."""
        keys = [(tuple(prompt), task) for prompt, task in zip(prompts, tasks, strict=True)]
        places = {key: place for place, key in enumerate(dict.fromkeys(keys))}
        distinct = [prompt for prompt, _ in places]
        beginning, cache = self._shared(distinct)
        ids_RT, mask_RT = left_padded([prompt[len(beginning) :] for prompt in distinct], self._mask_AT.device)
        mask_RT = F.pad(mask_RT, (len(beginning), 0), value=1)
        logits_RV = self._forward(ids_RT, mask_RT, cache, [task for _, task in places])
        if len(distinct) < len(keys):
            rows = torch.tensor([places[key] for key in keys], device=mask_RT.device)
            cache, mask_RT, logits_RV = _taken(cache, rows), mask_RT[rows], logits_RV[rows]
        self._join(cache, mask_RT)
        return logits_RV

    def _shared(self, prompts: Sequence[tuple[int, ...]]) -> tuple[Sequence[int], Cache]:
        """Return the beginning that these prompts share, and the cache of it, with a row for each prompt. Both may be empty."""
        kept, cache = self._beginning
        shared = common_beginning([prompt[:-1] for prompt in prompts])
        if shared[: len(kept)] != kept or len(shared) - len(kept) >= SHARED:
            if len(prompts) == 1 or len(shared) < SHARED or not self._shares:
                return [], Cache(layer_class_to_replicate=_Layer)
            kept, cache = shared, Cache(layer_class_to_replicate=_Layer)
            self._forward(*left_padded([kept], self._mask_AT.device), cache, [""])
            if self._layers(cache)[0].length > len(kept):  # an adapter has put tokens of its own before all others
                self._shares, kept, cache = False, [], Cache(layer_class_to_replicate=_Layer)
            self._beginning = kept, cache
        rows = torch.zeros(len(prompts), dtype=torch.long, device=self._mask_AT.device)
        return kept, _taken(cache, rows)

    def step(self, token_A: Tensor, tasks: Sequence[str]) -> Tensor:
        """Append a token to each row, whose task is given, and return the logits of the next ones, (A, V)."""
        self._mask_AT = F.pad(self._mask_AT, (0, 1), value=1)
        assert self._cache is not None, "rows are read before they go on"
        return self._forward(token_A[:, None], self._mask_AT, self._cache, tasks)

    def overwrite(self, row: int) -> None:
        """Move the last row to the place of one that has ended."""
        self._mask_AT[row] = self._mask_AT[-1]
        self._mask_AT = self._mask_AT[:-1]
        if not len(self._mask_AT):
            self._cache = None
            return
        for layer in self._layers(self._cache):
            layer.overwrite(row)

    def _forward(self, ids_RT: Tensor, mask_RT: Tensor, cache: Cache, tasks: Sequence[str]) -> Tensor:
        positions_RT = (mask_RT.cumsum(dim=1) - 1).clamp(min=0)[:, -ids_RT.shape[1] :]
        output = self._model(
            input_ids=ids_RT,
            attention_mask=mask_RT,
            position_ids=positions_RT,
            logits_to_keep=1,
            use_cache=True,
            **{self._name: cache},
            **({"row": Row(_keys(tasks, ids_RT.device))} if self._listens else {}),
        )
        return output.logits[:, -1].float()

    def _join(self, cache: Cache, mask_RT: Tensor) -> None:
        if self._cache is None:
            self._cache, self._mask_AT = cache, mask_RT
            return
        first_A = self._mask_AT.argmax(dim=1)  # the column of a row's first token
        drop, held = int(first_A.min()), self._layers(self._cache)[0].length - self._mask_AT.shape[1]
        width = max(self._mask_AT.shape[1] - drop, mask_RT.shape[1])
        for layer, other in zip(self._layers(self._cache), self._layers(cache), strict=True):
            layer.join(other, held, drop, width)
        masks = [self._mask_AT[:, drop:], mask_RT]
        self._mask_AT = torch.cat([F.pad(mask, (width - mask.shape[1], 0)) for mask in masks])

    @staticmethod
    def _layers(cache: Cache | None) -> list[_Layer]:
        return [] if cache is None else cache.layers


def _taken(cache: Cache, rows: Tensor) -> Cache:
    """Return a cache with copies of these rows."""
    taken = Cache(layer_class_to_replicate=_Layer)
    taken.layers = [layer.taken(rows) for layer in cache.layers]
    return taken


def _attends_to_all(config: Any) -> bool:
    """Return True if each token attends to all tokens before it. With a window, padding within a row would hide some of them."""
    kinds = getattr(config, "layer_types", None) or ["full_attention"]
    return set(kinds) == {"full_attention"} and not getattr(config, "sliding_window", None)


def _keys(tasks: Sequence[str], device: torch.device) -> Tensor:
    return torch.tensor([task_key(task) for task in tasks], device=device)


@torch.no_grad()
def decode(
    model: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    tasks: Sequence[str],
    batches: Iterable[Sequence[int]],
    *,
    batch_size: int,
    max_new_tokens: int,
    choose: Choose,
    has_ended: HasEnded,
) -> Iterator[tuple[int, list[int]]]:
    """Yield the number of each prompt with the tokens of its response, in the order in which responses end.

    `tasks` are the tasks of the prompts. `batches` are numbers of prompts, in the order in which they are read. At most `batch_size` rows
    are written at a time.
    """
    batch = _Batch(model)
    numbers: list[int] = []
    """The prompt of each row."""
    responses: dict[int, list[int]] = {}

    def ended_rows(logits_AV: Tensor, first: int) -> Iterator[tuple[int, list[int]]]:
        """Append a token to each row from `first` on, and yield the rows that end with it."""
        rows = numbers[first:]
        tokens = choose(rows, [responses[number] for number in rows], logits_AV).tolist()
        for number, token in zip(rows, tokens, strict=True):
            responses[number].append(token)
        for row in reversed(range(first, len(numbers))):
            response = responses[numbers[row]]
            if len(response) >= max_new_tokens or has_ended(numbers[row], response):
                batch.overwrite(row)
                yield numbers[row], responses.pop(numbers[row])
                numbers[row] = numbers[-1]
                numbers.pop()

    def step() -> Iterator[tuple[int, list[int]]]:
        last = [responses[number][-1] for number in numbers]
        logits_AV = batch.step(torch.tensor(last, device=model.device), [tasks[number] for number in numbers])
        yield from ended_rows(logits_AV, 0)

    for wanted in batches:
        waiting = list(wanted)
        while waiting:
            free = batch_size - len(numbers)
            if 4 * free >= batch_size or not numbers:
                start = len(numbers)
                admitted, waiting = waiting[:free], waiting[free:]
                numbers += admitted
                responses |= {number: [] for number in admitted}
                of_admitted = [tasks[number] for number in admitted]
                yield from ended_rows(batch.read([prompts[number] for number in admitted], of_admitted), start)
            else:
                yield from step()
    while numbers:
        yield from step()


def decode_alone(
    model: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    batches: Iterable[Sequence[int]],
    *,
    max_new_tokens: int,
    padding: int,
    choose: Choose,
    has_ended: HasEnded,
) -> Iterator[tuple[int, list[int]]]:
    """Yield the same as `decode`, by transformers' own loop, for models that read alone: their families keep caches of different kinds.

    Prompts of equal length are read together, so that none is padded; families of `MIXED` read each prompt by itself. `choose` is given
    logits to which the model's generation config has been applied.
    """
    apart = model.config.model_type in MIXED

    def together(number: int) -> tuple[int, int]:
        return len(prompts[number]), number if apart else 0

    for batch in batches:
        for _, numbers in groupby(sorted(batch, key=together), together):
            answers = _Answers(list(numbers), choose, has_ended)
            ids_RT = torch.tensor([prompts[number] for number in answers.numbers], device=model.device)
            model.generate(
                ids_RT,
                attention_mask=torch.ones_like(ids_RT),
                max_new_tokens=max_new_tokens,
                do_sample=False,  # `choose` leaves the token that it chose
                pad_token_id=padding,
                logits_processor=LogitsProcessorList([_Choice(answers)]),
                stopping_criteria=StoppingCriteriaList([_End(answers)]),
            )
            yield from zip(answers.numbers, answers.responses, strict=True)


class _Answers:
    """The responses to some prompts that are written together."""

    def __init__(self, numbers: list[int], choose: Choose, has_ended: HasEnded) -> None:
        self.numbers, self._choose, self._has_ended = numbers, choose, has_ended
        self.responses: list[list[int]] = [[] for _ in numbers]

    def open_rows(self) -> list[int]:
        """Return the rows whose responses have not ended."""
        rows = enumerate(zip(self.numbers, self.responses, strict=True))
        return [row for row, (number, tokens) in rows if not (tokens and self._has_ended(number, tokens))]

    def choose(self, rows: Sequence[int], logits_AV: Tensor) -> Tensor:
        """Return the next token of these rows, (A,), and append it."""
        token_A = self._choose([self.numbers[row] for row in rows], [self.responses[row] for row in rows], logits_AV)
        for row, token in zip(rows, token_A.tolist(), strict=True):
            self.responses[row].append(token)
        return token_A


class _Choice(LogitsProcessor):
    """Forces, for each open row, the token that was chosen for it."""

    def __init__(self, answers: _Answers) -> None:
        self._answers = answers

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        if rows := self._answers.open_rows():
            token_A = self._answers.choose(rows, scores[rows].float())
            scores = scores.clone()
            scores[rows] = torch.full_like(scores[rows], -torch.inf).scatter_(
                1, token_A[:, None].to(scores.device), 0.0
            )
        return scores


class _End(StoppingCriteria):
    """True for each row whose response has ended."""

    def __init__(self, answers: _Answers) -> None:
        self._answers = answers

    def __call__(self, input_ids: Tensor, scores: Tensor, **_: Any) -> Tensor:
        ended_R = torch.ones(len(input_ids), dtype=torch.bool, device=input_ids.device)
        ended_R[self._answers.open_rows()] = False
        return ended_R
