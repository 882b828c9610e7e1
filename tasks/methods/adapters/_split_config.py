"""The settings that adapters of split matrices share, without torch."""

from typing import Literal, Protocol

Share = Literal["down", "up", "none"]
"""The matrix that is not split: the one that maps to the inner width (`down`), the one that maps from it (`up`), or neither."""


class SplitConfig(Protocol):
    """The settings of matrices that train one part at a time."""

    @property
    def rank(self) -> int: ...
    @property
    def parts(self) -> int: ...
    @property
    def share(self) -> Share: ...
    @property
    def dropout(self) -> float: ...
