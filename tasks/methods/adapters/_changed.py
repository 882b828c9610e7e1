"""Linear layers beside which an adapter's change of the weight stands, for models that ask for a layer's weight instead of calling it."""

from abc import ABC, abstractmethod

from torch import Tensor, nn


class ChangedLinear(nn.Module, ABC):
    """A frozen linear layer whose weight is changed by `update`. Recurrent layers hand it to a kernel (Granite 4, Mamba 2)."""

    base: nn.Linear

    @abstractmethod
    def update(self) -> Tensor:
        """Return what is added to the weight, (O, I), without dropout."""

    @property
    def weight(self) -> Tensor:
        """Return the changed weight."""
        return self.base.weight + self.update().to(self.base.weight.dtype)

    @property
    def bias(self) -> Tensor | None:
        """Return the bias of the layer."""
        return self.base.bias
