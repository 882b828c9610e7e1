"""Functions of no compression."""

from tasks.methods.compressors import Compressor

METHOD = Compressor()
