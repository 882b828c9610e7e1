"""No compression: the tuned model stays as it is."""

from __future__ import annotations

from tasks.core.params import Params
from tasks.methods.compressors import Compressor


class NoneParams(Params):
    """The `methods.none` section: nothing to set."""


METHOD = Compressor(params=NoneParams)
