"""Tables with a delimiter (CSV, TSV, …). Dialect and encoding are detected, and the header if nobody says whether there is one.

Without a header, columns are numbered.

If the quotes of a record do not close, only its first line is refused, and reading continues with the next line.
"""

import csv
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from tasks.io.sources.containers.archives import Entry, file_entry
from tasks.io.sources.containers.encodings import HEAD, MAX_LINE, Line, TextLines, is_plain_utf8
from tasks.io.sources.formats import headers
from tasks.io.sources.formats.blocks import BLOCK, Lines, lines_in
from tasks.io.sources.formats.dialects import DELIMITERS, TEXT_BACKSLASHES, Dialect
from tasks.io.sources.record import SHOWN, Broken, Record, Row

FITTING = 0.9
"""Smallest share of records with as many fields as the header in a table that may have titles above it."""
SNIFFED = 200
"""Number of lines from which the dialect is detected."""
MAX_RECORD_LINES = 5_000
MAX_RECORD_CHARS = 1 << 24
"""Size of the longest record in bytes. In a longer one, a quote does not close."""


@dataclass(frozen=True)
class Block:
    """Consecutive records of a file, which begin and end at line boundaries."""

    lines: Lines
    dialect: Dialect
    names: tuple[str, ...] | None
    """The columns; None for the first records of a file, which tell them."""

    @property
    def digest(self) -> str:
        return self.lines.digest

    @property
    def place(self) -> list[Any]:
        return [self.lines.before, astuple(self.dialect), self.names]

    def records(self, path: Path) -> Iterator[Record]:
        """Yield the rows with the numbers of the lines in which they begin."""
        csv.field_size_limit(MAX_RECORD_CHARS)
        return _rows(_Feed(self.lines.read(path)), self.dialect, self.names)


def read(entry: Entry, header: bool | None = None) -> Iterator[Record]:
    """Yield the rows, with the lines in which they begin. Blank lines are skipped, and an empty field is None.

    `header` says whether there is a header; with None, this is detected.
    """
    csv.field_size_limit(MAX_RECORD_CHARS)
    lines = TextLines(entry)
    yield from _rows(_Feed(iter(lines)), find_dialect(entry, header), None)
    if lines.damage:
        yield Broken(f"after line {lines.number}", "damaged file", lines.damage, "")


def _rows(feed: "_Feed", dialect: Dialect, names: tuple[str, ...] | None) -> Iterator[Record]:
    """Yield the rows in lines. Without `names`, the first readable record below the titles is the header, if the dialect has one."""
    titles = 0 if names else dialect.titles
    for record in _records(feed, dialect):
        if isinstance(record, Broken):
            yield record
        elif titles:
            titles -= 1
        elif names is None and dialect.has_header:
            names = headers.names(record.fields)
        else:
            names = names or headers.numbered(len(record.fields))
            yield _row(record, names)


def blocks(path: Path, header: bool | None = None) -> list[Block] | None:
    """Return the blocks of a plain file; None if it is not in UTF-8 or has a line that is too long. `header` is that of `read`.

    A block ends at the end of a record, as seen by a reader from the beginning of the file. Without quotes in the block, this is the end of any
    line; otherwise it is the end of the record with which the block is full.
    """
    csv.field_size_limit(MAX_RECORD_CHARS)
    dialect = find_dialect(file_entry(path), header)
    parts: list[Block] = []
    names: tuple[str, ...] | None = None
    start = before = 0
    with path.open("rb") as file:
        if not is_plain_utf8(file.read(HEAD)):
            return None
        try:
            while data := _block(file, start, before, dialect):
                parts.append(Block(Lines.of(data, start, before), dialect, names))
                names = names or _header(data, before, dialect)
                start += len(data)
                before += data.count(b"\n")
        except _NoBlocksError:
            return None
    return parts


class _NoBlocksError(Exception):
    """Raised if a file cannot be divided into blocks."""


def _block(file: BinaryIO, start: int, before: int, dialect: Dialect) -> bytes:
    """Return the bytes of the block that begins after the given numbers of bytes and lines; none at the end of the file."""
    file.seek(start)
    data = file.read(BLOCK) + file.readline(MAX_LINE)
    if not data.endswith(b"\n") and file.read(1):
        raise _NoBlocksError
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        raise _NoBlocksError from None
    if dialect.quote in text or (dialect.escape or dialect.quote) in text:
        file.seek(start)
        size = _end_of_record(file, before, dialect)
        file.seek(start)
        data = file.read(size)
    return data


def _end_of_record(file: BinaryIO, before: int, dialect: Dialect) -> int:
    """Return the bytes from this position of the file, at which a record begins, to the end of the record with which the block is full.

    A line may be invalid because of a later line, if a quote that it opens is closed wrongly there. The block includes such lines too.
    """
    ends = [0]

    def lines() -> Iterator[Line | Broken]:
        for number, line in enumerate(iter(partial(file.readline, MAX_LINE + 1), b""), before + 1):
            if len(line) > MAX_LINE:
                raise _NoBlocksError
            ends.append(ends[-1] + len(line))
            try:
                yield Line(number, line.removesuffix(b"\n").removesuffix(b"\r").decode("utf-8"))
            except UnicodeDecodeError:
                raise _NoBlocksError from None

    feed = _Feed(lines())
    for _ in _records(feed, dialect):
        if ends[feed.num_finished] >= BLOCK and not feed.is_ahead:
            return ends[feed.num_finished]
    return ends[-1]


def _header(data: bytes, before: int, dialect: Dialect) -> tuple[str, ...] | None:
    """Return the columns by the first record below the titles of a block; None if there is no readable one."""
    records = _records(_Feed(lines_in(data, before)), dialect)
    every = (record.fields for record in records if isinstance(record, _Fields))
    fields = next(islice(every, dialect.titles, None), None)
    if fields is None:
        return None
    return headers.names(fields) if dialect.has_header else headers.numbered(len(fields))


Score = tuple[float, int, int]
"""The share of records with as many fields as the header, that number, and minus the number of fields that are still in quotes."""
NO_TABLE: Score = (0.0, 0, 0)


def find_dialect(entry: Entry, header: bool | None = None) -> Dialect:
    """Return the dialect in which most of the first records have as many fields as the header, and more than one.

    Of several such dialects, it is the first that leaves the fewest fields in quotes. `header` is that of `read`.
    """
    dialect = _detected(entry)
    if header is None:
        return dialect
    return replace(dialect, has_header=header, titles=dialect.titles if header else 0)


def _detected(entry: Entry) -> Dialect:
    sample = _sample(entry)
    if sample[:1] and _is_mark(sample[0]):
        return Dialect(sample[0][4:5] or ",")
    best, dialect = NO_TABLE, Dialect("\t" if entry.name.lower().endswith((".tsv", ".tab")) else ",")
    for delimiter in DELIMITERS:
        for candidate in _candidates(delimiter, sample):
            score = _score(_parsed(sample, candidate))
            if score > best:
                best, dialect = score, candidate
    if best[0] >= FITTING:
        records = _parsed(sample, dialect)
        titles = _num_titles(records)
        return replace(dialect, titles=titles, has_header=titles > 0 or not headers.is_record(records))
    for candidate in (each for delimiter in DELIMITERS for each in _candidates(delimiter, sample)):
        records = _parsed(sample, candidate)
        titles = _num_titles(records)
        score = _score(records[titles:])
        if titles and score > max(best, (FITTING, 0, 0)):
            best, dialect = score, replace(candidate, titles=titles)
    return dialect


def _num_titles(records: Sequence[Sequence[str]]) -> int:
    titles = headers.num_titles(records)
    return titles if all(records[:titles]) else 0  # a record that cannot be parsed


def _candidates(delimiter: str, sample: list[str]) -> list[Dialect]:
    """Return the dialects with this delimiter for which there is evidence: single quotes around the header, backslashes before quotes,
    spaces before quotes."""
    candidates = [Dialect(delimiter)]
    if sample and sample[0].startswith("'"):
        candidates.append(Dialect(delimiter, "'"))
    if any('\\"' in line for line in sample):
        candidates.append(Dialect(delimiter, '"', "\\", escapes_itself=_are_doubled(sample)))
    spaced = [one for one in candidates if any(f"{delimiter} {one.quote}" in line for line in sample)]
    return [*candidates, *(replace(one, skips_space=True) for one in spaced)]


def _are_doubled(sample: list[str]) -> bool:
    """Return True if the text contains backslashes and all are doubled. Python doubles them, Spark does not."""
    runs = [run for line in sample for run in TEXT_BACKSLASHES.findall(line)]
    return bool(runs) and all(len(run) % 2 == 0 for run in runs)


def is_table(entry: Entry) -> bool:
    """Return True if the lines of a text are clearly a table: each of the first records has the same number of fields, and more than one.

    The fields are also quoted, between tabs, or below a clear header, because the lines of a poem, a log or a chat may have as many commas.
    """
    sample, dialect = _sample(entry), find_dialect(entry)
    records = _parsed(sample, dialect)
    if len(sample) < 3 or _score(records)[0] < 1:
        return False
    is_marked = dialect.delimiter == "\t" or all(dialect.quote in line for line in sample)
    return is_marked or (dialect.has_header and headers.is_header(records[dialect.titles :]))


class _Fields(NamedTuple):
    where: str
    fields: list[str]
    lines: list[Line]

    @property
    def text(self) -> str:
        return "\n".join(line.text for line in self.lines)[:SHOWN]


def _records(feed: "_Feed", dialect: Dialect) -> Iterator[_Fields | Broken]:
    """Yield the fields of each record."""
    reader = dialect.parse(feed)
    while True:
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield feed.refuse_first(_explain(str(error)))
            reader = dialect.parse(feed)
            continue
        except _InterruptedError:
            yield feed.refuse_first("the record is cut by a line that cannot be read")
            reader = dialect.parse(feed)
            continue
        used = feed.accept()
        if isinstance(used, Broken):
            yield used
        elif fields and not (used[0].number == 1 and _is_mark(used[0].text)):
            yield _Fields(f"line {used[0].number}", fields, used)


class _InterruptedError(Exception):
    """Raised if a line in the middle of a record cannot be read."""


class _Feed:
    """Lines for a parser, which can be given back if they form no record."""

    def __init__(self, lines: Iterator[Line | Broken]) -> None:
        self._lines = lines
        self._waiting: deque[Line | Broken] = deque()
        self._used: list[Line] = []
        self._broken: Broken | None = None
        self._num_chars = 0
        self.num_finished = 0
        """Number of lines of accepted or refused records."""

    def __iter__(self) -> "_Feed":
        return self

    def __next__(self) -> str:
        line = self._waiting.popleft() if self._waiting else next(self._lines)
        if isinstance(line, Broken):
            if self._used:
                self._waiting.appendleft(line)
                raise _InterruptedError
            self._broken = line
            return "\n"
        self._used.append(line)
        self._num_chars += len(line.text)
        if len(self._used) > MAX_RECORD_LINES or self._num_chars > MAX_RECORD_CHARS:
            raise csv.Error("unexpected end of data")
        return line.text + "\n"

    @property
    def is_ahead(self) -> bool:
        """Return True if lines after the last record were read and given back."""
        return bool(self._waiting)

    def accept(self) -> list[Line] | Broken:
        """Return the lines of the record that was parsed, or the line that cannot be read."""
        used, self._used, self._num_chars = self._used, [], 0
        broken, self._broken = self._broken, None
        self.num_finished += len(used) if broken is None else 1
        return used if broken is None else broken

    def refuse_first(self, detail: str) -> Broken:
        """Refuse the first line that was used, and give the others back."""
        first, *others = self._used
        self._waiting.extendleft(reversed(others))
        self._used, self._num_chars = [], 0
        self.num_finished += 1
        return Broken(f"line {first.number}", "csv: malformed", detail, first.text[:SHOWN])


def _row(record: _Fields, names: Sequence[str]) -> Record:
    fields = record.fields
    if len(fields) == len(names):
        return Row(record.where, dict(zip(names, [field or None for field in fields], strict=True)))
    if len(fields) < len(names):
        detail = f"it has {len(fields)} fields, the header {len(names)}"
        return Broken(record.where, "csv: missing columns", detail, record.text)
    if any(fields[len(names) :]):
        detail = f"it has {len(fields)} fields, the header {len(names)}"
        return Broken(record.where, "csv: too many columns", detail, record.text)
    return Row(record.where, dict(zip(names, [field or None for field in fields], strict=False)))


def _is_mark(line: str) -> bool:
    """Return True if a first line only names the delimiter, as Excel writes it: `sep=;`."""
    return line.lower().startswith("sep=") and len(line.rstrip()) <= 5


def _explain(message: str) -> str:
    if message == "unexpected end of data":
        return "a quote opens and does not close"
    return message


def _sample(entry: Entry) -> list[str]:
    """Return the first readable lines."""
    sample: list[str] = []
    num_chars = 0
    for line in TextLines(entry):
        if isinstance(line, Line) and (line.text or sample):
            sample.append(line.text)
            num_chars += len(line.text)
        if len(sample) >= SNIFFED or num_chars > MAX_RECORD_CHARS:
            break
    return sample


def _parsed(sample: list[str], dialect: Dialect) -> list[Sequence[str]]:
    """Return the fields of the first records in a dialect; none for a record that cannot be parsed."""
    lines = (Line(number, text) for number, text in enumerate(sample, 1))
    records: list[Sequence[str]] = [
        () if isinstance(record, Broken) else record.fields for record in _records(_Feed(lines), dialect)
    ]
    return records[:-1] if len(sample) == SNIFFED else records  # the sample may have cut the last one


def _score(records: Sequence[Sequence[str]]) -> Score:
    """Return how well records fit the dialect with which they were parsed. Records of one field are not a table."""
    counts = [len(fields) for fields in records]
    width = next((count for count in counts if count), 0)
    if width < 2:
        return NO_TABLE
    num_quoted = sum(_is_quoted(field.strip()) for fields in records for field in fields)
    return counts.count(width) / len(counts), width, -num_quoted


def _is_quoted(field: str) -> bool:
    return len(field) > 1 and field[0] == field[-1] and field[0] in "\"'"
