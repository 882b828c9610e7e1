"""Decompress a stream: gzip, bzip2, xz and zstandard, detected by the first bytes. Memory and the output of a decompression bomb are bounded."""

import bz2
import gzip
import io
import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, BinaryIO

from tasks.io.sources.record import first_line

MAGIC = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ\x00": "xz", b"\x28\xb5\x2f\xfd": "zstandard"}
SUFFIXES = (".gz", ".gzip", ".bz2", ".xz", ".zst", ".zstd")
BOMB_BYTES = 1 << 28
"""Smallest size of a decompression bomb."""
BOMB_RATIO = 250
"""Compression ratio above which a larger stream is a bomb. Repetitive tables reach about 100."""
BUFFER = 1 << 18


def _zstandard(stream: Any) -> Any:
    import pyarrow

    return pyarrow.CompressedInputStream(pyarrow.PythonFile(stream, mode="r"), "zstd")


class _Streams:
    """Reads compressed streams that follow each other, as parallel compressors write them.

    The file classes of `bz2` and `lzma` silently treat a later stream with a damaged beginning as the end.
    """

    def __init__(self, source: Any, new: Callable[[], Any]) -> None:
        self._source, self._new, self._decompressor, self._waiting = source, new, new(), b""

    def read1(self, size: int) -> bytes:
        """Return some bytes, at most `size`; none at the end. Raises EOFError, OSError or LZMAError if the data are cut or damaged."""
        while True:
            if self._decompressor.eof:
                self._waiting = self._decompressor.unused_data
                while not (rest := self._waiting.lstrip(b"\0")):  # zeros may follow a stream
                    self._waiting = self._source.read(BUFFER)
                    if not self._waiting:
                        return b""
                self._waiting, self._decompressor = rest, self._new()
            if self._decompressor.needs_input:
                data, self._waiting = self._waiting or self._source.read(BUFFER), b""
                if not data:
                    raise EOFError("they end before the end of a stream")
            else:
                data = b""
            if plain := self._decompressor.decompress(data, size):
                return bytes(plain)


OPENERS: dict[str, Callable[[Any], Any]] = {
    "gzip": lambda stream: gzip.GzipFile(fileobj=stream),
    "bzip2": lambda stream: _Streams(stream, bz2.BZ2Decompressor),
    "xz": lambda stream: _Streams(stream, lzma.LZMADecompressor),
    "zstandard": _zstandard,
}


@dataclass(frozen=True)
class Opened:
    """A readable stream of plain bytes."""

    stream: Any
    """An io.BufferedReader."""
    compression: str
    """`gzip`, …; empty if the bytes were plain."""
    guards: "tuple[_Guarded, ...]"
    source: BinaryIO

    @property
    def damage(self) -> str:
        """Return the reason why the stream ended early; empty if it has not."""
        return next((guard.damage for guard in self.guards if guard.damage), "")

    def __enter__(self) -> "Opened":
        return self

    def __exit__(self, *_error: object) -> None:
        self.stream.close()
        self.source.close()


def decompressed(source: BinaryIO, size: int, *, is_packed: bool = False) -> Opened:
    """Return the plain bytes of `source`, which has `size` bytes on disk. `is_packed`: reading it already decompresses."""
    stored = _Guarded(source, size if is_packed else None)
    buffered = io.BufferedReader(stored, BUFFER)
    head = buffered.peek(8)[:8]
    compression = next((name for magic, name in MAGIC.items() if head.startswith(magic)), "")
    if not compression:
        return Opened(buffered, "", (stored,), source)
    plain = _Guarded(OPENERS[compression](buffered), size)
    return Opened(io.BufferedReader(plain, BUFFER), compression, (stored, plain), source)


class _Guarded(io.RawIOBase):
    """A stream that ends at damage in its source, or when the source proves to be a bomb, and keeps the reason.

    An exception from the middle of a line would lose the beginning of that line.
    """

    def __init__(self, reader: Any, stored_bytes: int | None) -> None:
        self._reader, self._stored_bytes = reader, stored_bytes
        self._num_bytes = 0
        self.damage = ""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if self.damage:
            return 0
        try:
            data = self._reader.read1(len(buffer))  # `read` would lose the bytes before an error
        except (EOFError, OSError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, tarfile.TarError) as error:
            self.damage = f"the data end early or are damaged after {self._num_bytes:,} bytes: {first_line(error)}"
            return 0
        self._num_bytes += len(data)
        if self._stored_bytes is not None and self._num_bytes > max(BOMB_BYTES, BOMB_RATIO * self._stored_bytes):
            self.damage = (
                f"{self._stored_bytes:,} compressed bytes become more than {self._num_bytes:,}: a decompression bomb"
            )
            return 0
        buffer[: len(data)] = data
        return len(data)
