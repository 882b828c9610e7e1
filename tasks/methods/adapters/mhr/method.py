"""Functions of MHR. Equations and the legend of symbols are in the card, `__init__.py`."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from tasks.core.training import Start
from tasks.core.weights import surgery
from tasks.core.weights.row import Passage, listen, task_key
from tasks.methods.adapters import Adapter, LowRank
from tasks.methods.adapters.mhr.config import MhrConfig

EPSILON = 1e-12
"""Added to the sum of a head's weights, as in the authors' code."""
SPREAD = 1e-3
"""The largest absolute value of Z at the start."""
SKILLS = ("A_QEIR", "B_QERO")
"""The tensors of a layer's skills."""


class MhrLinear(nn.Module):
    """A frozen linear layer plus a low-rank change for each task, a mixture of skills that all tasks share."""

    A_QEIR: Tensor
    B_QERO: Tensor
    tasks_K: Tensor

    def __init__(self, base: nn.Linear, config: MhrConfig, tasks_K: Tensor, passage: Passage) -> None:
        """Take the keys of the tasks that have a row of Z (`tasks_K`), and `passage`, which holds the row that is being read."""
        super().__init__()
        self.base, self.passage, self.scale = base, passage, config.alpha / config.rank
        like = surgery.like(base.weight)
        self.routed = config.adapt != "mu"
        skills = config.skills if self.routed else 1
        first_QEIR = like.new_empty(config.heads, skills, base.in_features // config.heads, config.rank)
        bound = (3 * base.in_features) ** -0.5  # the authors' code uses the deviation of LoRA's start as a bound
        matrices = (
            first_QEIR.uniform_(-bound, bound),
            like.new_zeros(config.heads, skills, config.rank, base.out_features // config.heads),
        )
        for name, matrix in zip(SKILLS, matrices, strict=True):
            if config.adapt == "z":
                self.register_buffer(name, matrix)
            else:
                self.register_parameter(name, nn.Parameter(matrix))
        if self.routed:
            self.register_buffer("tasks_K", tasks_K.to(like.device, copy=True))
            self.Z_KQE = nn.Parameter(_fresh(like, len(tasks_K), config))

    def mixtures(self) -> Tensor:
        """Return the weight of each skill for each task, (K + 1, Q, E); the last row is for unknown tasks."""
        w_KQE = self.Z_KQE.sigmoid()
        w_KQE = w_KQE / (w_KQE.sum(dim=-1, keepdim=True) + EPSILON)
        return torch.cat([w_KQE, w_KQE.mean(dim=0, keepdim=True)])

    def rows_of(self, keys_S: Tensor) -> Tensor:
        """Return the row of `mixtures` for each of these tasks, (S,)."""
        known_SK = keys_S[:, None] == self.tasks_K
        return torch.where(known_SK.any(dim=1), known_SK.int().argmax(dim=1), len(self.tasks_K))

    def mixed(self, w_PQE: Tensor) -> tuple[Tensor, Tensor]:
        """Return A and B under some mixtures, (P, I, R) and (P, R, O)."""
        a_PIR = torch.einsum("pqe,qeir->pqir", w_PQE, self.A_QEIR).flatten(1, 2)
        return a_PIR, torch.einsum("pqe,qero->prqo", w_PQE, self.B_QERO).flatten(2)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.base(x)
        row = self.passage.row
        if not self.routed:
            w_PQE, of_S = self.A_QEIR.new_ones(1, *self.A_QEIR.shape[:2]), None
        elif row is None:
            w_PQE, of_S = self.mixtures()[-1:], None
        else:
            present_P, of_S = torch.unique(self.rows_of(row.tasks), return_inverse=True)
            w_PQE = self.mixtures()[present_P]
        a_PIR, b_PRO = self.mixed(w_PQE)
        inner_BTPR = torch.einsum("...i,pir->...pr", x.to(a_PIR.dtype), a_PIR)
        if row is not None and of_S is not None and len(w_PQE) > 1:  # a token keeps only its own task's values
            is_own_SP = of_S[:, None] == torch.arange(len(w_PQE), device=x.device)
            inner_BTPR = inner_BTPR * row.of_each_token(is_own_SP, x.shape[1])[..., None]
        change = torch.einsum("...pr,pro->...o", inner_BTPR, b_PRO)
        return out + (self.scale * change).to(out.dtype)


def _fresh(like: Tensor, tasks: int, config: MhrConfig) -> Tensor:
    """Return rows of Z for `tasks` new tasks."""
    return like.new_empty(tasks, config.heads, config.skills).uniform_(-SPREAD, SPREAD)


def attach(model: nn.Module, config: MhrConfig, start: Start) -> nn.Module:
    """Freeze `model` and put skills and routing beside each target.

    Raises ValueError if the targets match nothing, if a layer is smaller than the rank or not divisible by the heads, and if `adapt` is `z`
    or `mu` and there is no adapter to start from.
    """
    surgery.check_rank(model, config.targets, config.rank)
    layers = surgery.linears(model, config.targets, numbers=False)
    for name, base in layers.items():
        if base.in_features % config.heads or base.out_features % config.heads:
            raise ValueError(
                f"heads {config.heads} does not divide {name}, which is {base.out_features} × {base.in_features}. Take a divisor of both "
                "in methods.mhr.heads."
            )
    if config.adapt != "mhr" and not start.tensors:
        raise ValueError(
            f"methods.mhr.adapt: {config.adapt} adapts skills that were trained before. Name their adapter in tune.start, or train some "
            "with methods.mhr.adapt: mhr."
        )
    model.requires_grad_(False)
    passage, trained = listen(model), _keys(start)
    for name, base in layers.items():
        tasks_K = start.tensors.get(f"{name}.tasks_K", trained)
        surgery.replace(model, name, MhrLinear(base, config, tasks_K, passage))
    return model


def _keys(start: Start) -> Tensor:
    """Return the keys of the tasks that train, (K,); the key of the empty name if no task is named."""
    names = (start.probe.tasks if start.probe else ()) or ("",)
    return torch.tensor([task_key(name) for name in names])


def adopt(tensors: Mapping[str, Tensor], config: MhrConfig, start: Start) -> dict[str, Tensor]:
    """Return the tensors of a saved adapter, converted for a training of other tasks or with another `adapt`.

    Each task that trains keeps the row of Z that it had, or gets a new one. Rows of other tasks are dropped.
    """
    if config.adapt == "mu":
        skills = {name: tensor for name, tensor in tensors.items() if name.rpartition(".")[2] in SKILLS}
        return {name: tensor.mean(dim=1, keepdim=True) for name, tensor in skills.items()}
    adopted, tasks_K = dict(tensors), _keys(start)
    for name in [name.removesuffix(".tasks_K") for name in tensors if name.endswith(".tasks_K")]:
        had_K, z_KQE = tensors[f"{name}.tasks_K"].tolist(), tensors[f"{name}.Z_KQE"]
        rows = [z_KQE[had_K.index(key)] if key in had_K else _fresh(z_KQE, 1, config)[0] for key in tasks_K.tolist()]
        adopted |= {f"{name}.tasks_K": tasks_K, f"{name}.Z_KQE": torch.stack(rows)}
    return adopted


def rates(model: nn.Module, config: MhrConfig) -> dict[str, float]:
    """Return the rate of Z, by parameter."""
    return {name: config.routing_rate for name, _ in model.named_parameters() if name.endswith(".Z_KQE")}


def adapted(model: nn.Module) -> dict[str, MhrLinear]:
    """Return the adapted layers by their full names."""
    return surgery.layers_of(model, MhrLinear)


@torch.no_grad()
def facts(model: nn.Module) -> dict[str, Any]:
    """Return, for each layer, how far the weights of skills are from equal: the mean over tasks, heads and skills of |E w - 1|."""
    layers = {name: layer.mixtures()[:-1] for name, layer in adapted(model).items() if layer.routed}
    return {"routed": {name: round(float((w.shape[-1] * w - 1).abs().mean()), 4) for name, w in layers.items()}}


@torch.no_grad()
def of_task(model: nn.Module, task: str) -> dict[str, LowRank]:
    """Return the change of each layer for one task; after `adapt: mu` all tasks share it. Raises ValueError for a task without a mixture."""
    key, changes = torch.tensor([task_key(task)]), {}
    for name, layer in adapted(model).items():
        if not layer.routed:
            w_1QE = layer.A_QEIR.new_ones(1, *layer.A_QEIR.shape[:2])
        elif (row := int(layer.rows_of(key.to(layer.tasks_K.device)))) < len(layer.tasks_K):
            w_1QE = layer.mixtures()[row : row + 1]
        else:
            raise ValueError(
                f"There is no mixture of a task {task!r} among the {len(layer.tasks_K)} of this adapter. Name a task that it was trained on, as "
                "its examples name it."
            )
        a_1IR, b_1RO = layer.mixed(w_1QE)
        changes[name] = LowRank(a_1IR[0].T, layer.scale * b_1RO[0].T)
    return changes


METHOD = Adapter(attach=attach, adopt=adopt, rates=rates, facts=facts, of_task=of_task)
