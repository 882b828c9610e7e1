"""Read JSON from an untrusted zip, within limits and with the codecs that inspect-ai uses.

inspect-ai compresses with Zstandard (method 93), which Python's zipfile reads from 3.14 on; the bytes of such a member are found by
its local header (PKWARE's APPNOTE, 4.3.7) and unpacked by pyarrow. No member is written to disk, so its name can lead nowhere.
"""

import json
import struct
import zipfile
import zlib
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

LIMIT = 2**30
"""Largest number of bytes that are unpacked from a log, over all its parts."""
_ZSTANDARD = 93
_LOCAL_HEADER = struct.Struct("<4s22xHH")
"""Signature, and the lengths of the name and of the extra field that follow."""


class Archive:
    """A zip open for reading."""

    def __init__(self, path: Path, limit: int = LIMIT) -> None:
        """Raises ValueError for a file without a zip directory, such as one that was cut off."""
        self._path, self._limit, self._unpacked = path, limit, 0
        try:
            self._zip = zipfile.ZipFile(path)
        except (zipfile.BadZipFile, EOFError, struct.error) as error:
            raise ValueError(
                f"{path} is a truncated zip: {path.stat().st_size:,} bytes and no directory at their end."
            ) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._zip.close()

    @property
    def names(self) -> list[str]:
        """Return the names of its members, in the order of the directory."""
        return self._zip.namelist()

    def read_json(self, name: str) -> Any:
        """Return the contents of a member. Raises ValueError if it is too large, damaged, encrypted, or not JSON."""
        info = self._zip.getinfo(name)
        room = self._limit - self._unpacked
        if info.file_size > room:
            raise ValueError(self._too_large(info.file_size))
        try:
            with self._open(info) as member:
                data = member.read(info.file_size + 1)  # more than the directory states, which is wrong then
        except (zipfile.BadZipFile, zlib.error, struct.error, EOFError, OSError, RuntimeError) as error:
            raise ValueError(f"{self._path}: {name} cannot be unpacked ({error}).") from error
        if len(data) != info.file_size or zlib.crc32(data) != info.CRC:
            raise ValueError(f"{self._path}: {name} is damaged: its size or checksum is not what the zip says.")
        self._unpacked += len(data)
        try:
            return json.loads(data)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{self._path}: {name} is no JSON ({error}).") from error

    def _open(self, info: zipfile.ZipInfo) -> IO[bytes]:
        if info.compress_type != _ZSTANDARD:
            return self._zip.open(info)
        import pyarrow as pa

        with self._path.open("rb") as file:
            file.seek(info.header_offset)
            signature, name_length, extra_length = _LOCAL_HEADER.unpack(file.read(_LOCAL_HEADER.size))
            if signature != b"PK\x03\x04":
                raise zipfile.BadZipFile("no local header")
            file.seek(name_length + extra_length, 1)
            packed = file.read(info.compress_size)
        return pa.CompressedInputStream(pa.BufferReader(packed), "zstd")

    def _too_large(self, size: int) -> str:
        return (
            f"{self._path} unpacks to {(self._unpacked + size) / 2**30:.1f} GiB and more; at most {self._limit / 2**30:g} GiB of a "
            "log are read."
        )
