"""A JSON document: a list of objects, objects keyed by id, a table under one key, columns, or one object. Read as a stream."""

import codecs
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from tasks.core.split_names import named_split
from tasks.io.sources.containers.archives import Entry
from tasks.io.sources.containers.encodings import HEAD, MAX_LINE, SAMPLED, detected, unicode_of
from tasks.io.sources.containers.streams import Opened
from tasks.io.sources.formats import articles
from tasks.io.sources.formats.json_lines import as_row
from tasks.io.sources.record import SHOWN, Broken, Record, Row, UnreadableError

BUFFER = 1 << 15
"""Number of bytes that are read at a time. A parser error counts the lines of all text before it, so this also bounds the time of an error."""
TURNS = ("messages", "conversations")
"""Keys of lists of objects that belong to one record."""
SPEAKERS = frozenset({"role", "from", "speaker", "sender"})
"""The fields of turns of a conversation, which are not rows."""
SPLIT = "split"
"""The column for the names of tables, if each is the name of a split."""
VIEWER = frozenset({"features", "rows"})
"""The lists in a response of Hugging Face's data set viewer. The second holds the table."""
KEY = "id"
"""The column for the keys of a document that is keyed by id."""
REPLACED = "\ufffd"
"""The replacement character of a decoder for invalid bytes."""
SPACE = re.compile(r"\s*")
TOKENS = re.compile(r'"(?:[^"\\]++|\\.)*+"|[{}\[\]]', re.DOTALL)
"""The quantifiers are possessive: backtracking over an unterminated string would take 120 bytes of memory for each character."""
ENDS = re.compile(r"[,\]}\n]")


class MalformedError(ValueError):
    """Raised for a text that is not a JSON value."""


def read(entry: Entry) -> Iterator[Record]:
    """Yield the records of the document, in order. An article with questions about its paragraphs gives one record for each question.

    Raises UnreadableError if it has none.
    """
    return articles.by_question(_records(entry))


def _records(entry: Entry) -> Iterator[Record]:
    """Yield the records of the document unchanged."""
    encoding = encoding_of(entry)
    with entry.open() as opened:
        text = _Text(opened, encoding)
        if text.peek() == "[":
            yield from _list(text)
        elif text.peek() == "{":
            yield from _object(entry, encoding)
            return
        else:
            raise UnreadableError(f"{entry.name}: this is not JSON: it begins with {text.peek()!r}.")
        yield from _rest(text)


def encoding_of(entry: Entry) -> str:
    """Return the encoding of a document, which may be a single line: UTF-8 if most non-ASCII characters are, else the detected one.

    In UTF-8, the rows with invalid bytes are refused one by one.
    """
    with entry.open() as opened:
        encoding, _ = unicode_of(opened.stream.peek(HEAD))
        if encoding != "utf-8":
            return encoding
        decoder, before, sample = codecs.getincrementaldecoder("utf-8")("replace"), b"", b""
        num_valid = num_invalid = 0
        while data := opened.stream.read(BUFFER):
            if data.isascii() and before.isascii():
                before = data[-4096:]
                continue
            text = decoder.decode(data)
            invalid = text.count(REPLACED)
            num_invalid += invalid
            num_valid += len(text) - len(text.encode("ascii", "ignore")) - invalid
            if invalid and len(sample) < SAMPLED:
                sample += before + data
            before = data[-4096:]
    if num_valid >= num_invalid:
        return "utf-8"
    return detected(sample) or "utf-8"


def _list(text: "_Text", where: str = "row") -> Iterator[Record]:
    """Yield the elements of the list at the text's position. Their places are `where` and their numbers."""
    text.peek()
    text.skip(1)
    number = 0
    while True:
        if text.peek() == "]":
            text.skip(1)
            return
        number += 1
        place = f"{where} {number}"
        try:
            yield as_row(place, text.value())
        except MalformedError as error:
            skipped = text.skip_value()
            if skipped is None:
                yield Broken(f"from {place}", "not JSON", f"{error}; the rest of the list is left out", text.shown())
                text.skip_all()
                return
            yield Broken(place, "not JSON", str(error), skipped[:SHOWN])
        if text.peek() == ",":
            text.skip(1)
        elif text.peek() != "]":
            detail = f"expected `,` or `]`, {text.describe()}; the rest of the list is left out"
            yield Broken(f"after {place}", "not JSON", detail, text.shown())
            text.skip_all()
            return


def _object(entry: Entry, encoding: str) -> Iterator[Record]:
    """Yield the records in an object, or in consecutive objects."""
    kinds, firsts = _kinds(entry, encoding)
    tables = _tables(firsts)
    is_keyed = bool(kinds) and set(kinds.values()) == {"object"}
    with entry.open() as opened:
        text = _Text(opened, encoding)
        if firsts.keys() >= VIEWER:
            yield from map(_unwrapped, _under_keys(text, ["rows"]))
        elif tables:
            yield from _under_keys(text, tables)
        elif is_keyed:
            yield from _keyed(text, is_only=len(kinds) == 1)
        else:
            yield from _whole(entry, text, kinds)
        yield from _rest(text)


def _tables(firsts: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return the keys of an object's tables, given their first rows by key: the only table, or several similar ones.

    None if one is a list of turns, or if they differ, because they are then lists within one record.
    """
    if not firsts.keys().isdisjoint(TURNS):
        return []
    tables = [*firsts]
    if len(tables) < 2 or all(map(named_split, tables)):
        return tables
    are_alike = len({frozenset(row) for row in firsts.values()}) == 1
    are_rows = all(len(row) > 1 and SPEAKERS.isdisjoint(row) for row in firsts.values())
    return tables if are_alike and are_rows else []


def _kinds(entry: Entry, encoding: str) -> tuple[dict[str, str], dict[str, Mapping[str, Any]]]:
    """Return the kind of the value of each key: `table` (a list that begins with an object), `list`, `object` or `value`; and the first row
    of each table."""
    kinds: dict[str, str] = {}
    firsts: dict[str, Mapping[str, Any]] = {}
    with entry.open() as opened:
        text = _Text(opened, encoding)
        try:
            for key in _keys(text):
                first = text.peek()
                kinds[key] = {"[": "list", "{": "object"}.get(first, "value")
                if first == "[":
                    text.skip(1)
                    kinds[key] = "table" if text.peek() == "{" else "list"
                    if kinds[key] == "table":
                        firsts[key] = {}
                        for number, value in enumerate(_list_after_bracket(text)):
                            firsts[key] = firsts[key] if number else value
                        continue
                    text.skip_list()
                else:
                    text.value()
        except MalformedError:
            return kinds, firsts
    return kinds, firsts


def _list_after_bracket(text: "_Text") -> Iterator[Any]:
    while text.peek() != "]":
        yield text.value()
        if text.peek() == ",":
            text.skip(1)
        elif text.peek() != "]":
            raise MalformedError(text.describe())
    text.skip(1)


def _keys(text: "_Text") -> Iterator[str]:
    """Yield the keys of the object at the text's position. The caller must read the value of each before the next."""
    text.peek()
    text.skip(1)
    while text.peek() != "}":
        key = text.value()
        if not isinstance(key, str) or text.peek() != ":":
            raise MalformedError(f"expected a key and `:`, {text.describe()}")
        text.skip(1)
        yield key
        if text.peek() == ",":
            text.skip(1)
        elif text.peek() != "}":
            raise MalformedError(f"expected `,` or `}}`, {text.describe()}")
    text.skip(1)


def _under_keys(text: "_Text", tables: Sequence[str]) -> Iterator[Record]:
    """Yield the rows of the tables under some keys of the object at the text's position."""
    try:
        for key in _keys(text):
            if key in tables:
                yield from map(partial(_of_table, tables, key), _list(text, f"{key}, row"))
            else:
                text.value()
    except MalformedError as error:
        yield Broken("the end of the document", "not JSON", str(error), text.shown())
        text.skip_all()


def _of_table(tables: Sequence[str], table: str, record: Record) -> Record:
    """Return a row with the name of its table as its split, if the names of all tables are splits."""
    if isinstance(record, Broken) or len(tables) < 2 or not all(map(named_split, tables)):
        return record
    return Row(record.where, {SPLIT: table, **record.values})


def _unwrapped(record: Record) -> Record:
    """Return the row in an object of the data set viewer's response, which wraps it together with its number."""
    if isinstance(record, Row) and isinstance(row := record.values.get("row"), dict):
        return Row(record.where, row)
    return record


def _keyed(text: "_Text", *, is_only: bool) -> Iterator[Record]:
    """Yield the objects in an object, each with its key as id; or the rows of columns in the form of pandas; or the rows of the tables in its
    only object."""
    place = "the beginning"
    columns: dict[str, dict[str, Any]] = {}
    try:
        for key in _keys(text):
            place, value = f"key {key!r}", text.value()
            if list(value)[:1] in (["0"], ["1"]) and not any(isinstance(cell, dict) for cell in value.values()):
                columns[key] = value
            elif is_only and (tables := _tables(_first_rows(value))):
                for table in tables:
                    for count, row in enumerate(value[table], 1):
                        yield _of_table(tables, table, as_row(f"{key}, {table}, row {count}", row))
            else:
                yield as_row(place, {KEY: key, **value})
    except MalformedError as error:
        yield Broken(f"after {place}", "not JSON", str(error), text.shown())
        text.skip_all()
    numbers = dict.fromkeys(number for column in columns.values() for number in column)
    for number in numbers:
        yield Row(f"row {number}", {name: column.get(number) for name, column in columns.items()})


def _first_rows(value: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Return the first object of each list of an object that begins with one."""
    lists = {key: rows for key, rows in value.items() if isinstance(rows, list)}
    return {key: rows[0] for key, rows in lists.items() if rows and isinstance(rows[0], dict)}


def _whole(entry: Entry, text: "_Text", kinds: dict[str, str]) -> Iterator[Record]:
    """Yield the single object, or each of several consecutive ones. Lists of equal length are columns."""
    number = 0
    while text.peek() == "{":
        number += 1
        try:
            value = text.value()
        except MalformedError as error:
            if number == 1:
                raise UnreadableError(
                    f"{entry.name}: this is no JSON: {error}. A file of one object a line ends in .jsonl."
                ) from None
            yield Broken(f"from row {number}", "not JSON", str(error), text.shown())
            text.skip_all()
            return
        lengths = {len(cells) for cells in value.values() if isinstance(cells, list)}
        if number == 1 and len(kinds) > 1 and set(kinds.values()) == {"list"} and len(lengths) == 1:
            for row, cells in enumerate(zip(*value.values(), strict=True), 1):
                yield Row(f"row {row}", dict(zip(value, cells, strict=True)))
        else:
            yield Row(f"row {number}", value)


def _rest(text: "_Text") -> Iterator[Broken]:
    """Yield records for the text after the end of the document, and for the damage that ended it early."""
    if text.damage:
        yield Broken("the end of the file", "damaged file", text.damage, "")
    elif text.peek():
        yield Broken("after the document", "not JSON", f"expected the end, {text.describe()}", text.shown())


class _Text:
    """A window over the text of a document, which moves forward."""

    def __init__(self, opened: Opened, encoding: str) -> None:
        self._opened = opened
        head = opened.stream.peek(8)
        opened.stream.read(unicode_of(head)[1])
        self._decoder = codecs.getincrementaldecoder(encoding)("replace")
        self._buffer, self._position, self._has_ended = "", 0, False
        self._json = json.JSONDecoder()

    @property
    def damage(self) -> str:
        return self._opened.damage

    def peek(self) -> str:
        """Return the next character that is not white space; empty at the end."""
        while True:
            match = SPACE.match(self._buffer, self._position)
            assert match is not None
            self._position = match.end()
            if self._position < len(self._buffer) or not self._read_on():
                return self._buffer[self._position : self._position + 1]

    def skip(self, characters: int) -> None:
        """Go on by so many characters that were seen."""
        self._position += characters

    def value(self) -> Any:
        """Return the value at this position and advance past it. Raises MalformedError, without advancing, if there is none."""
        self.peek()
        while True:
            try:
                value, end = self._json.raw_decode(self._buffer, self._position)
            except json.JSONDecodeError as error:
                is_cut = error.msg.startswith("Unterminated string") or error.pos > len(self._buffer) - 16
                if is_cut and self._may_read_on() and self._read_on():
                    continue
                raise MalformedError(f"{error.msg} at character {error.pos - self._position + 1} of it") from None
            except RecursionError:
                raise MalformedError("it is nested too deeply") from None
            if end < len(self._buffer) or not self._read_on():  # a number at the end of the window may continue
                self._position = end
                return value

    def skip_value(self) -> str | None:
        """Advance past a malformed value whose brackets close, and return it; None if they do not."""
        while True:
            end = self._closing()
            if end is not None:
                skipped = self._buffer[self._position : end]
                self._position = end
                return skipped
            if not (self._may_read_on() and self._read_on()):
                return None

    def skip_list(self) -> None:
        """Advance past the end of the list whose opening bracket was skipped."""
        for _ in _list_after_bracket(self):
            pass

    def skip_all(self) -> None:
        """Advance to the end of the text."""
        while self._read_on():
            self._position = len(self._buffer)
        self._position = len(self._buffer)

    def shown(self) -> str:
        return self._buffer[self._position : self._position + SHOWN]

    def describe(self) -> str:
        return f"found {self.peek()!r}" if self.peek() else "found the end of the file"

    def _closing(self) -> int | None:
        """Return the position after the brackets that open here; for a value without brackets, the position of the next comma or bracket."""
        if self.peek() not in ("{", "["):
            match = ENDS.search(self._buffer, self._position)
            return match and match.start()
        depth = 0
        for token in TOKENS.finditer(self._buffer, self._position):
            depth += {"{": 1, "[": 1, "}": -1, "]": -1}.get(token[0], 0)
            if depth == 0:
                return token.end()
        return None

    def _may_read_on(self) -> bool:
        return len(self._buffer) - self._position < MAX_LINE

    def _read_on(self) -> bool:
        """Read more text, at least as much as is waiting, and drop the passed text. Return False at the end."""
        if self._has_ended:
            return False
        self._buffer, self._position = self._buffer[self._position :], 0
        data = self._opened.stream.read(max(BUFFER, len(self._buffer)))
        self._buffer += self._decoder.decode(data, final=not data)
        self._has_ended = not data
        return bool(data)
