"""Lines of a text file in any encoding: UTF-8, unless a byte order mark, zero bytes between letters or charset-normalizer indicate another one."""

import codecs
import io
from collections.abc import Iterator
from typing import Any, NamedTuple

from tasks.io.sources.containers.archives import Entry
from tasks.io.sources.containers.streams import BUFFER, Opened
from tasks.io.sources.record import SHOWN, Broken

MAX_LINE = 1 << 26
"""Largest number of bytes of a line. A longer line is cut and refused."""
HEAD = 1 << 16
SAMPLED = 1 << 17
"""Largest number of bytes, from lines that are not UTF-8, that charset-normalizer examines."""
FEW = 2
"""With fewer lines that are not UTF-8, a file has damaged lines, not another encoding."""
MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
"""Byte order marks, the longer ones first."""
MULTIBYTE = ("gb18030", "big5", "cp932", "euc_jp", "cp949")
CANDIDATES = ["cp1252", "cp1250", "cp1251", "koi8_r", "cp1253", "cp1254", "cp1255", "cp1256", *MULTIBYTE]
"""The common encodings of files that are not in Unicode. Without this list, a short text could be taken for one of 80 others."""


class Line(NamedTuple):
    """A line of text without its end."""

    number: int
    text: str


class TextLines:
    """The lines of a text file. `encoding`, `damage` and the `number` of the last line are known after all lines were read."""

    def __init__(self, entry: Entry) -> None:
        self._entry = entry
        self.encoding = "utf-8"
        self.damage = ""
        self.number = 0
        self._is_surveyed = False

    def __iter__(self) -> Iterator[Line | Broken]:
        """Yield the lines. A line that is too long, or is not in the file's encoding, is `Broken`."""
        with self._entry.open() as opened:
            unicode, stream = _as_utf8(opened)
            self.encoding = unicode
            for self.number, data in raw_lines(stream):
                if isinstance(data, int):
                    yield line_too_long(self.number, data)
                else:
                    yield self._decoded(self.number, data)
            self.damage = opened.damage

    def _decoded(self, number: int, data: bytes) -> Line | Broken:
        try:
            if self.encoding not in MULTIBYTE:
                return Line(number, data.decode("utf-8"))
        except UnicodeDecodeError as error:
            if self.encoding == "utf-8" and not self._is_surveyed:
                self.encoding, self._is_surveyed = survey(self._entry), True
            if self.encoding == "utf-8":
                return _not_decoded(number, data, error, self.encoding)
        try:
            return Line(number, data.decode(self.encoding))
        except UnicodeDecodeError as error:
            return _not_decoded(number, data, error, self.encoding)


def survey(entry: Entry) -> str:
    """Return the encoding of a file with lines that are not UTF-8: UTF-8 if most non-ASCII lines are, else the detected one."""
    num_valid = num_invalid = 0
    sample: list[bytes] = []
    with entry.open() as opened:
        for _, data in raw_lines(opened.stream):
            if isinstance(data, int) or data.isascii():
                continue
            try:
                data.decode("utf-8")
                num_valid += 1
            except UnicodeDecodeError:
                num_invalid += 1
                if sum(map(len, sample)) < SAMPLED:
                    sample.append(data[:SAMPLED])
    if num_invalid < FEW or num_valid >= num_invalid:
        return "utf-8"
    return detected(b"\n".join(sample)) or "utf-8"


def detected(data: bytes) -> str | None:
    """Return the encoding that charset-normalizer finds, or None. Of equally good ones, prefer Windows-1252, which contains Latin-1."""
    from charset_normalizer import from_bytes

    matches = from_bytes(data, cp_isolation=CANDIDATES)
    best = matches.best()
    if best is None:
        return None
    is_western = "cp1252" in best.could_be_from_charset or any(
        match.encoding == "cp1252" and (match.chaos, match.coherence) == (best.chaos, best.coherence)
        for match in matches
    )
    return "cp1252" if is_western else str(best.encoding)


def read_text(entry: Entry) -> tuple[str, str]:
    """Return the text of an entry and its encoding. Raises ValueError if it is damaged, too long, or in an unknown encoding."""
    lines = TextLines(entry)
    texts = []
    for line in lines:
        if isinstance(line, Broken):
            raise ValueError(f"{line.where}: {line.reason}: {line.detail}")
        texts.append(line.text)
    if lines.damage:
        raise ValueError(lines.damage)
    return "\n".join(texts), lines.encoding


def raw_lines(stream: io.BufferedReader) -> Iterator[tuple[int, bytes | int]]:
    """Yield the number and the bytes of each line, without its end; for a line longer than `MAX_LINE`, only its number of bytes."""
    number = 0
    while line := stream.readline(MAX_LINE + 1):
        number += 1
        if len(line) <= MAX_LINE or line.endswith(b"\n"):
            yield number, line.removesuffix(b"\n").removesuffix(b"\r")
            continue
        num_bytes = len(line)
        while line and not line.endswith(b"\n"):
            line = stream.readline(BUFFER)
            num_bytes += len(line)
        yield number, num_bytes


def unicode_of(head: bytes) -> tuple[str, int]:
    """Return the Unicode encoding of a text with these first bytes, and the number of bytes of its mark."""
    for mark, encoding in MARKS:
        if head.startswith(mark):
            return encoding, len(mark)
    even, odd = head[0:2048:2], head[1:2048:2]
    if min(len(even), len(odd)) >= 4:  # two letters could be anything
        if odd.count(0) > len(odd) // 2 and not even.count(0):
            return "utf-16-le", 0
        if even.count(0) > len(even) // 2 and not odd.count(0):
            return "utf-16-be", 0
    return "utf-8", 0


def is_plain_utf8(head: bytes) -> bool:
    """Return True if a text with these first bytes needs no conversion: UTF-8 without a mark, with line ends of Unix or Windows."""
    return unicode_of(head) == ("utf-8", 0) and not _has_mac_ends(head)


def _has_mac_ends(head: bytes) -> bool:
    return b"\r" in head[:-1] and b"\n" not in head


def _as_utf8(opened: Opened) -> tuple[str, io.BufferedReader]:
    """Return the encoding found by mark or zero bytes, and the stream as UTF-8 with standard line ends."""
    head = opened.stream.peek(HEAD)[:HEAD]
    encoding, mark = unicode_of(head)
    opened.stream.read(mark)
    has_mac_ends = encoding == "utf-8" and _has_mac_ends(head)
    if encoding == "utf-8" and not has_mac_ends:
        return encoding, opened.stream
    return encoding, io.BufferedReader(_Recoded(opened.stream, encoding, has_mac_ends=has_mac_ends), BUFFER)


class _Recoded(io.RawIOBase):
    """Converts UTF-16 or UTF-32 to UTF-8, and single carriage returns to newlines. Undecodable bytes become U+FFFD, which is refused later."""

    def __init__(self, stream: io.BufferedReader, encoding: str, *, has_mac_ends: bool) -> None:
        self._stream, self._has_mac_ends = stream, has_mac_ends
        self._decoder = None if has_mac_ends else codecs.getincrementaldecoder(encoding)("replace")
        self._pending = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._pending:
            data = self._stream.read1(BUFFER)
            if self._decoder is None:
                self._pending = data.replace(b"\r", b"\n")
            else:
                self._pending = self._decoder.decode(data, final=not data).encode("utf-8", "replace")
            if not data:
                break
        size = min(len(buffer), len(self._pending))
        buffer[:size], self._pending = self._pending[:size], self._pending[size:]
        return size


def line_too_long(number: int, num_bytes: int) -> Broken:
    """Return the record of a line beyond `MAX_LINE`."""
    detail = f"it has {num_bytes:,} bytes; at most {MAX_LINE:,} are read"
    return Broken(f"line {number}", "line too long", detail, "")


def _not_decoded(number: int, data: bytes, error: UnicodeDecodeError, encoding: str) -> Broken:
    name = "UTF-8" if encoding == "utf-8" else encoding
    detail = f"byte {error.start + 1} of the line is {data[error.start]:#04x}"
    return Broken(f"line {number}", f"not {name}", detail, data[:SHOWN].decode("utf-8", "replace"))
