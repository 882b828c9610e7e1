"""Functions of LoLDU. Equations and the legend of symbols are in the card, `__init__.py`."""

import torch
from numpy.random import RandomState  # its draws do not change between versions; only z is saved
from torch import Tensor, nn
from torch.nn import functional as F

from tasks.core.training import Start
from tasks.core.weights import surgery
from tasks.methods.adapters import Adapter, LowRank
from tasks.methods.adapters._changed import ChangedLinear
from tasks.methods.adapters.loldu.config import LolduConfig

SMALLEST_PIVOT = 1e-8
"""A pivot has to be larger than this fraction of the largest."""


def factor(weight_OI: Tensor, rank: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return P L_r (O, R), d_r (R,) and U_r (R, I) of a weight, in float64. U_r is not finite where a pivot is 0."""
    w_OI = weight_OI.detach().to("cpu", torch.float64)
    packed_OR, swaps_R, _ = torch.linalg.lu_factor_ex(w_OI[:, : min(rank, *w_OI.shape)])
    rows = list(range(len(w_OI)))  # P as a list: row k of L belongs to row rows[k] of W
    for k, other in enumerate(swaps_R.tolist()):
        rows[k], rows[other - 1] = rows[other - 1], rows[k]

    d_R = packed_OR.diagonal().clone()
    l_OR = packed_OR.tril(-1)
    l_OR.diagonal().fill_(1.0)
    top_RI = w_OI[rows[: len(d_R)]]
    u_RI = torch.linalg.solve_triangular(l_OR[: len(d_R)], top_RI, upper=False, unitriangular=True) / d_R[:, None]
    pl_OR = torch.empty_like(l_OR)
    pl_OR[rows] = l_OR
    return pl_OR, d_R, u_RI


def random_triangles(pl_OR: Tensor, u_RI: Tensor, draw: RandomState) -> tuple[Tensor, Tensor]:
    """Return a random lower triangle, columns with the norms of P L_r's, and a random upper triangle, rows with the norms of U_r's."""
    l_OR, v_RI = (torch.from_numpy(draw.standard_normal(t.shape)) for t in (pl_OR, u_RI))
    l_OR, v_RI = l_OR.tril(-1), v_RI.triu(1)
    l_OR.diagonal().fill_(1.0)
    v_RI.diagonal().fill_(1.0)
    return (
        l_OR * (pl_OR.norm(dim=0) / l_OR.norm(dim=0)),
        v_RI * (u_RI.norm(dim=1) / v_RI.norm(dim=1))[:, None],
    )


def initial(d_R: Tensor, init: str) -> Tensor:
    """Return z at the start, (R,)."""
    mean = d_R.mean()
    deviation = d_R.std(correction=min(1, len(d_R) - 1))  # one number has no sample deviation
    starts = {
        "lu": lambda: d_R.clone(),
        "uniform": lambda: (torch.rand_like(d_R) - 0.5) * mean,
        "s_uniform": lambda: torch.rand_like(d_R) * 2 - 1,
        "normal": lambda: mean + deviation * torch.randn_like(d_R),
        "s_normal": lambda: torch.randn_like(d_R),
        "constant": lambda: mean.expand_as(d_R).clone(),
        "ones": lambda: torch.ones_like(d_R),
        "zeros": lambda: torch.zeros_like(d_R),
    }
    return starts[init]()


class LolduLinear(ChangedLinear):
    """A frozen linear layer plus s P L_r diag(z - d_r) U_r."""

    pl_OR: Tensor
    d_R: Tensor
    u_RI: Tensor

    def __init__(self, base: nn.Linear, factors: tuple[Tensor, Tensor, Tensor], config: LolduConfig) -> None:
        super().__init__()
        pl_OR, d_R, u_RI = factors
        self.base, self.scale = base, config.alpha / config.rank
        self.register_buffer("pl_OR", pl_OR.to(base.weight), persistent=False)
        self.register_buffer("u_RI", u_RI.to(base.weight), persistent=False)
        self.register_buffer("d_R", d_R.to(base.weight.device, torch.float32), persistent=False)
        self.z_R = nn.Parameter(initial(self.d_R, config.init))

    def change(self) -> Tensor:
        """Return s (z - d_r), (R,)."""
        return self.scale * (self.z_R - self.d_R)

    def forward(self, x: Tensor) -> Tensor:
        return self.base(x) + F.linear(F.linear(x, self.u_RI) * self.change().to(x.dtype), self.pl_OR)

    def update(self) -> Tensor:
        """Return s P L_r diag(z - d_r) U_r, (O, I)."""
        return (self.pl_OR.float() * self.change()) @ self.u_RI.float()

    @torch.no_grad()
    def merge(self) -> nn.Linear:
        """Return the plain linear layer that computes the same function."""
        self.base.weight.copy_(self.base.weight.float() + self.update())
        return self.base


def attach(model: nn.Module, config: LolduConfig, start: Start) -> nn.Module:
    """Freeze `model` and let each target train its z.

    Raises ValueError if the targets match nothing or are smaller than the rank, and for a layer in which a column depends on
    earlier columns.
    """
    surgery.check_rank(model, config.targets, config.rank)
    draw = RandomState(0)
    linears = surgery.adaptable(model, config.targets)
    model.requires_grad_(False)
    for name, base in linears.items():
        pl_OR, d_R, u_RI = factor(base.weight, config.rank)
        check(name, d_R)
        if config.directions == "random":
            pl_OR, u_RI = random_triangles(pl_OR, u_RI, draw)
        surgery.replace(model, name, LolduLinear(base, (pl_OR, d_R, u_RI), config))
    return model


def finish(model: nn.Module) -> dict[str, LowRank]:
    """Return the change of each adapted weight: U_r, and s P L_r diag(z - d_r), in fp32."""
    return {
        name: LowRank(layer.u_RI.float(), layer.pl_OR.float() * layer.change().detach())
        for name, layer in model.named_modules()
        if isinstance(layer, LolduLinear)
    }


def check(name: str, d_R: Tensor) -> None:
    """Raise ValueError if the layer `name` has a pivot that is only noise."""
    size_R = d_R.abs()
    noise = (size_R <= SMALLEST_PIVOT * size_R.max()).nonzero().flatten().tolist()
    if noise:
        remedy = f"Set rank to {noise[0]} or less, or leave it" if noise[0] else "Leave it"
        raise ValueError(
            f"{name} cannot be factored to rank {len(d_R)}: column {noise[0]} of its weight is zero or depends on the columns "
            f"before it (pivot {d_R[noise[0]]:.1e}). {remedy} out of `targets`."
        )


def merge(model: nn.Module) -> nn.Module:
    """Return the plain model with every z written into its weight."""
    return surgery.merge_layers(model, LolduLinear)


METHOD = Adapter(attach=attach, merge=merge, finish=finish)
