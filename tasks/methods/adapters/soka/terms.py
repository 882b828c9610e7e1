"""Kronecker products: the leading ones of a matrix, their sum, and how many of them a layer trains.

Equations and the legend of symbols are in the card, `__init__.py`.
"""

import math
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from tasks.methods.adapters.soka.config import SokaConfig

STRAIGHT = 1e-6
"""A spectrum whose largest distance below its chord is less than this has no elbow."""


class Shape(NamedTuple):
    """The sides of A_k, M x N, and B_k, P x Q."""

    m: int
    n: int
    p: int
    q: int

    @property
    def numbers(self) -> int:
        """Return the trained numbers of one product."""
        return self.m * self.n + self.p * self.q

    @property
    def most(self) -> int:
        """Return the largest number of products that a matrix of this shape needs."""
        return min(self.m * self.n, self.p * self.q)


class Terms(NamedTuple):
    """Kronecker products A_k ⊗ B_k."""

    A_RMN: Tensor
    B_RPQ: Tensor


class Spectrum(NamedTuple):
    """The Kronecker products of a weight."""

    shape: Shape
    sigma_K: Tensor
    """All singular values, in descending order, without those that are noise."""
    leading: Terms
    """The first `max_terms` products, or all if there are fewer."""

    def energy(self, count: int) -> float:
        """Return the share of the weight's energy that the first `count` products hold."""
        square_K = self.sigma_K**2
        return float(square_K[:count].sum() / square_K.sum())


def nearest_divisor(number: int) -> int:
    """Return the divisor that is nearest to the square root; if two are equally near, the smaller one."""
    divisors = [divisor for divisor in range(1, number + 1) if number % divisor == 0]
    return min(divisors, key=lambda divisor: abs(divisor - math.sqrt(number)))


def rearrange(weight_OI: Tensor, shape: Shape) -> Tensor:
    """Return R(W), (M N, P Q), in which a Kronecker product is a matrix of rank 1."""
    m, n, p, q = shape
    return weight_OI.reshape(m, p, n, q).transpose(1, 2).reshape(m * n, p * q)


def total(terms: Terms) -> Tensor:
    """Return the sum of the products, (O, I)."""
    (_, m, n), (_, p, q) = terms.A_RMN.shape, terms.B_RPQ.shape
    rearranged = terms.A_RMN.flatten(1).T @ terms.B_RPQ.flatten(1)
    return rearranged.view(m, n, p, q).transpose(1, 2).reshape(m * p, n * q)


def decompose(name: str, weight_OI: Tensor, shape: Shape, config: SokaConfig) -> Spectrum:
    """Return the leading products of the weight of layer `name`, in float64.

    Raises ValueError if the weight is not finite, or if fewer than `min_terms` products are not zero.
    """
    rearranged = rearrange(weight_OI.detach().double(), shape)
    if not rearranged.isfinite().all():
        raise ValueError(f"soka: the weight of {name} is not finite. Leave the layer out of `targets`.")
    u, sigma, vt = torch.linalg.svd(rearranged, full_matrices=False)
    noise = torch.finfo(torch.float64).eps * max(rearranged.shape) * sigma[0]
    sigma = sigma[sigma > noise]
    if len(sigma) < config.min_terms:
        raise ValueError(
            f"soka: the weight of {name} is a sum of {len(sigma)} Kronecker products, and methods.soka.min_terms is "
            f"{config.min_terms}: the others would be zero and could not move. Leave the layer out of `targets`."
        )
    root = sigma[: config.max_terms].sqrt()
    a_RMN = (u[:, : len(root)] * root).T.reshape(-1, shape.m, shape.n)
    b_RPQ = (root[:, None] * vt[: len(root)]).view(-1, shape.p, shape.q)
    return Spectrum(shape, sigma, Terms(a_RMN, b_RPQ))


def by_energy(sigma_K: Tensor, share: float) -> int:
    """Return the smallest number of leading products that hold this share of the energy."""
    held_K = (sigma_K**2).cumsum(0)
    return min(int((held_K < share * held_K[-1]).sum()) + 1, len(sigma_K))


def by_elbow(sigma_K: Tensor, most: int) -> int:
    """Return the number of products before the elbow of the first `most`; `most` if there is no elbow."""
    height = sigma_K[:most].log()
    chord = torch.linspace(float(height[0]), float(height[-1]), len(height), dtype=height.dtype, device=height.device)
    below = chord - height
    return int(below.argmax()) if below.max() > STRAIGHT else len(height)


def count(spectrum: Spectrum, config: SokaConfig) -> int:
    """Return the number of products that a layer trains according to its own spectrum."""
    most = len(spectrum.leading.A_RMN)
    wanted = min(by_energy(spectrum.sigma_K, config.energy), by_elbow(spectrum.sigma_K, most))
    return min(max(wanted, config.min_terms), most)


def share_out(spectra: Mapping[str, Spectrum], config: SokaConfig, budget: int) -> dict[str, int]:
    """Return the number of products that each layer trains under a budget of trained numbers.

    Raises ValueError if the budget does not suffice for `min_terms` products in every layer.
    """
    counts = dict.fromkeys(spectra, config.min_terms)
    remaining = budget - sum(config.min_terms * spectrum.shape.numbers for spectrum in spectra.values())
    if remaining < 0:
        raise ValueError(
            f"methods.soka.budget {budget:,} is below {config.min_terms} Kronecker products in each of {len(spectra)} layers: "
            f"take at least {budget - remaining:,}."
        )
    gains = [
        (float(sigma) ** 2 / spectrum.shape.numbers, name)
        for name, spectrum in spectra.items()
        for sigma in spectrum.sigma_K[config.min_terms : config.max_terms]
    ]
    for _, name in sorted(
        gains, key=lambda gain: -gain[0]
    ):  # a layer's gains decrease, so its first products come first
        if spectra[name].shape.numbers <= remaining:
            counts[name] += 1
            remaining -= spectra[name].shape.numbers
    return counts
