"""Functions of No compression. Equations and the legend of shapes are in the docstring of the package."""

from tasks.methods.compressors import Compressor

METHOD = Compressor()
