"""Linear layers with an adapter's change of the weight, also for models that read a layer's weight instead of calling the layer."""

from abc import ABC, abstractmethod

from torch import Tensor, nn


class ChangedLinear(nn.Module, ABC):
    """A frozen linear layer whose weight is changed by `update`. Recurrent layers pass the weight to a kernel (Granite 4, Mamba 2)."""

    base: nn.Linear

    @abstractmethod
    def update(self) -> Tensor:
        """Return the matrix that is added to the weight, (O, I), without dropout."""

    @property
    def weight(self) -> Tensor:
        """Return the changed weight."""
        return self.base.weight + self.update().to(self.base.weight.dtype)

    @property
    def bias(self) -> Tensor | None:
        """Return the bias of the layer."""
        return self.base.bias
