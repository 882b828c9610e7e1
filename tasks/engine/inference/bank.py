"""A bank in memory: several adapters on one base, and the router that decides which of them answers a prompt.

Each adapter is attached, when it is first needed, to a frame of its own: modules around the base's tensors. Switching between adapters
loads, copies and merges nothing, and the outputs of the base do not change.
Shapes: H = hidden size of the base.
"""

import hashlib
from collections.abc import Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np

from tasks import methods
from tasks.core.weights.surgery import frame
from tasks.engine.inference import embedding, generation
from tasks.engine.inference.generation import Sampling
from tasks.io.weights import banks, checkpoints
from tasks.methods.routers import Asked, Specialists

WRITTEN_AT_ONCE = 32
"""Texts that are generated at a time for a router."""


class Bank:
    """The adapters of a folder on their base."""

    def __init__(self, folder: Path, base: Path, *, dtype: str = "float32", device: str = "cpu") -> None:
        """Load the base. Raises ValueError for a member that was trained on another base or cannot be in a bank."""
        self._folders = banks.check(folder, base)
        quantization = checkpoints.quantization_of(next(iter(self._folders.values())))
        self.base, self.tokenizer = checkpoints.load(base, dtype=dtype, device=device, quantization=quantization)
        self.base.requires_grad_(False)
        self._attached: dict[str, Any] = {}

    @property
    def names(self) -> tuple[str, ...]:
        """Return the tasks of its members."""
        return tuple(self._folders)

    def folder(self, name: str) -> Path:
        """Return the folder of a member."""
        return self._folders[name]

    def model(self, name: str | None) -> Any:
        """Return the base with the member of this name; with None, the base alone."""
        if name is None:
            return self.base
        if name not in self._attached:
            self._attached[name] = checkpoints.put_on(self._folders[name], frame(self.base), merge=False).eval()
        return self._attached[name]

    @cached_property
    def specialists(self) -> Specialists:
        """Return the facts about the members that routers read."""
        described = [np.load(folder / banks.CENTROID, allow_pickle=False) for folder in self._folders.values()]
        means, variances = (np.stack([each[row] for each in described]) for row in (0, 1))
        return Specialists(self.names, means, variances)


def _write(
    bank: Bank,
    prompts: Sequence[list[int]],
    member: str,
    places: Sequence[int],
    *,
    samples: int,
    temperature: float,
    max_new_tokens: int,
) -> list[list[str]]:
    """Have a member continue some of the prompts, as `Write` says. The random numbers of a prompt depend on that prompt alone."""
    repeated = [prompts[place] for place in places for _ in range(samples)]
    sampling = None
    if samples > 1:
        digests = [hashlib.sha256(repr(prompts[place]).encode()).hexdigest() for place in places]
        sampling = Sampling(temperature, 1.0, [f"{digest} {number}" for digest in digests for number in range(samples)])
    responses = generation.continue_from(
        bank.model(member),
        repeated,
        bank.tokenizer,
        max_new_tokens=max_new_tokens,
        batch_size=WRITTEN_AT_ONCE,
        sampling=sampling,
    )
    texts = [response.text for response in responses]
    return [texts[start : start + samples] for start in range(0, len(texts), samples)]


class Routed:
    """A bank with its router, and the record of which member each prompt went to."""

    def __init__(self, bank: Bank, router: str, settings: Mapping[str, Any]) -> None:
        self.bank, self.router = bank, router
        spec = methods.spec("routers", router)
        self._config, self._method = spec.config.model_validate(settings), methods.load("routers", router)
        self._sent: dict[tuple[str, tuple[int, ...]], str | None] = {}

    def route(self, prompts: Sequence[Sequence[int]], tasks: Sequence[str] = ()) -> list[str | None]:
        """Return the name of the member that each prompt, in tokens, goes to; None for the base."""
        tasks = tasks or [""] * len(prompts)
        keys = [(task, tuple(prompt)) for task, prompt in zip(tasks, prompts, strict=True)]
        new = [key for key in dict.fromkeys(keys) if key not in self._sent]
        if new:
            ids = [list(ids) for _, ids in new]
            states, write = partial(embedding.by_layer, self.bank.base, ids), partial(_write, self.bank, ids)
            asked = Asked([task for task, _ in new], states, write)
            self._sent |= zip(new, self._method.route(asked, self.bank.specialists, self._config), strict=True)
        return [self._sent[key] for key in keys]

    def record(self) -> dict[str, Any]:
        """Return how many prompts of each task went to each member, and the share that went to the member of their own task."""
        sent: dict[str, dict[str, int]] = {}
        for (task, _), name in self._sent.items():
            row = sent.setdefault(task, {})
            row[name or ""] = row.get(name or "", 0) + 1
        own = {task: row for task, row in sent.items() if task in self.bank.names}
        total = sum(sum(row.values()) for row in own.values())
        agreement = sum(row.get(task, 0) for task, row in own.items()) / total if total else None
        return {"router": self.router, "adapters": len(self.bank.names), "sent": sent, "to_own": agreement}
