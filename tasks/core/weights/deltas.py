"""Linear layers with a sparse, trained change of a frozen weight.

    y = (W + diag(s) D) x + b,  where D is zero except for one structured or unstructured slice, which starts at zero

Only the slice is stored (in fp32 or more), and only it has a gradient and an optimizer state. Adam updates it exactly as it would update those
numbers of W. A slice of entries can report the gradient of the whole weight, and its entries can be exchanged.
Shapes: I, O = input and output features; N = trained columns, rows or entries; M = exchanged entries; … = the input's leading dimensions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tasks.core.weights.surgery import plain, replace

Form = Literal["columns", "rows", "entries"]
"""Meaning of the N numbers of an index: input features, output features, or entries of the flattened weight."""
Watcher = Callable[[Tensor], None]
"""Receives the gradient of a whole weight, (O, I), in each backward pass. The gradient is freed afterwards."""


class DeltaLinear(nn.Linear):
    """A linear layer with frozen weight and bias, and a trained change of the weight's part at `index`.

    The weight and the bias are those of the replaced layer and keep their names. `delta` is (O, N) for columns, (N, I) for
    rows and (N,) for entries. Its buffers may change without being trained, and checkpoints keep them (`kept`).
    """

    index: Tensor
    scale: Tensor | None

    def __init__(self, base: nn.Linear, form: Form, index: Tensor, scale: Tensor | None = None) -> None:
        """`scale`, (N,), multiplies the change of each row, so that Adam moves a row by that share of its usual step."""
        if scale is not None and form != "rows":
            raise ValueError(f"A scale is of rows, and this delta is one of {form}.")
        super().__init__(base.in_features, base.out_features, bias=base.bias is not None, device="meta")
        self.weight, self.bias = base.weight.requires_grad_(False), base.bias
        if base.bias is not None:
            base.bias.requires_grad_(False)
        shapes = {"columns": (base.out_features, len(index)), "rows": (len(index), base.in_features)}
        self.form = form
        self.watcher: Watcher | None = None
        """Called with the dense gradient, if the form is entries."""
        dtype = torch.promote_types(base.weight.dtype, torch.float32)  # small steps would be lost in bf16
        self.register_buffer("index", index.to(base.weight.device, copy=True))  # `move` changes it
        self.register_buffer("scale", None if scale is None else scale.to(base.weight.device, dtype))
        self.delta = nn.Parameter(base.weight.new_zeros(shapes.get(form, (len(index),)), dtype=dtype))

    def forward(self, x: Tensor) -> Tensor:
        """Apply the changed weight to `x`, (…, I) → (…, O)."""
        if self.form == "entries":
            changed: Tensor = _Entries.apply(x, self.weight, self.bias, self.delta, self.index, self.watcher)  # type: ignore[no-untyped-call]
            return changed
        y = F.linear(x, self.weight, self.bias)
        delta = self.delta.to(x.dtype)
        if self.form == "columns":  # keeps only N columns of x for the backward pass
            return y + F.linear(x.index_select(-1, self.index), delta)
        change = F.linear(x, delta)
        return y.index_add_(-1, self.index, change if self.scale is None else change * self.scale.to(change.dtype))

    @torch.no_grad()
    def move(self, places: Tensor, index: Tensor) -> None:
        """Assign the deltas at `places`, (M,), to the entries `index`, (M,), and reset them to zero."""
        self.index[places] = index
        self.delta[places] = 0.0

    @torch.no_grad()
    def merged(self) -> nn.Linear:
        """Return a plain layer with the changed weight. The change is added in place, so the weight stays the same tensor."""
        layer = nn.Linear(self.in_features, self.out_features, bias=self.bias is not None, device="meta")
        layer.weight, layer.bias = self.weight, self.bias
        if self.form == "entries":
            layer.weight.copy_(_add(self.weight, self.delta, self.index))
        else:
            across = 1 if self.form == "columns" else 0
            change = self.delta if self.scale is None else self.delta * self.scale[:, None]
            slices = layer.weight.index_select(across, self.index)
            layer.weight.index_copy_(across, self.index, (slices.to(change.dtype) + change).to(slices.dtype))
        return layer.train(self.training)


class _Entries(torch.autograd.Function):
    """A linear layer with changes of single entries. Only one layer's weight gradient is in memory at a time."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, delta: Tensor, index: Tensor, watcher: Watcher | None
    ) -> Tensor:
        ctx.save_for_backward(x, weight, delta, index)
        ctx.watcher = watcher
        return F.linear(x, _add(weight, delta, index), bias)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        x, weight, delta, index = ctx.saved_tensors
        (grad,) = grads  # in the type of autocast, if it is on
        grad_x = (grad @ _add(weight, delta, index).to(grad.dtype)).to(x.dtype) if ctx.needs_input_grad[0] else None
        grad_OI = grad.flatten(0, -2).T @ x.to(grad.dtype).flatten(0, -2)
        if ctx.watcher:
            ctx.watcher(grad_OI)
        return grad_x, None, None, grad_OI.flatten()[index].to(delta.dtype), None, None


def _add(weight_OI: Tensor, delta_N: Tensor, index_N: Tensor) -> Tensor:
    """Return the weight with the changes added to its entries. Each entry is rounded once."""
    flat = weight_OI.flatten()
    changed_N = (flat[index_N].to(delta_N.dtype) + delta_N).to(flat.dtype)
    return flat.index_copy(0, index_N, changed_N).view_as(weight_OI)


def put(model: nn.Module, name: str, form: Form, index: Tensor, scale: Tensor | None = None) -> DeltaLinear:
    """Freeze the linear layer with this full name, and train only `index` of its weight."""
    base = plain(model).get_submodule(name)
    assert isinstance(base, nn.Linear), f"{name} is a {type(base).__name__}"
    layer = DeltaLinear(base, form, index, scale).train(base.training)
    replace(model, name, layer)
    return layer


def deltas(model: nn.Module) -> dict[str, DeltaLinear]:
    """Return the layers with a delta, by their full names."""
    return {name: module for name, module in plain(model).named_modules() if isinstance(module, DeltaLinear)}


def kept(model: nn.Module) -> dict[str, Tensor]:
    """Return the tensors of deltas that change without training, by their full names: indices, scales, and those that a method adds."""
    return {f"{name}.{key}": buffer for name, layer in deltas(model).items() for key, buffer in layer.named_buffers()}


def merge(model: nn.Module) -> None:
    """Add every delta to its weight and put the plain layers back."""
    for name, layer in deltas(model).items():
        replace(model, name, layer.merged())
