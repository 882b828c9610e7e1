"""Check `json`: the answer is JSON, fits a schema, and agrees with the reference field by field."""

import json
import re
import unicodedata
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Literal

from pydantic import field_validator

from tasks.core.answers import schemas
from tasks.core.answers.base import PASSED, WRONG, AnswerCheck, Grade, Row
from tasks.core.records import Unfit

BEGINS = re.compile(r"\{\s*(?:\"[^\"\n]*\"|'[^'\n]*'|[\w$-]+)\s*:|\[\s*[{\[\"]")
"""The start of an object, or of a list that is more than one number, in JSON or nearly so."""
PARTS = re.compile(r'"(?:[^"\\\n]|\\.)*"|[{}\[\]]')
"""Strings and brackets in JSON."""


class Json(AnswerCheck):
    """The share of fields in which the answer agrees with the reference; 0 if the answer is not JSON or violates the schema.

    A field is a value without inner values, identified by its path. A field that only one side has disagrees. Numbers are compared by value. If an
    answer has several values, the first of the reference's type (object or list) counts, because `[1]` may be a footnote.
    """

    graded: ClassVar[bool] = True
    kind: Literal["json"] = "json"
    json_schema: dict[str, Any] | None = None
    """A JSON schema (draft 2020-12, or the draft in `$schema`) that answers must fit. A `$ref` must refer to a place within it."""
    fields: tuple[str, ...] = ()
    """Top-level fields that are compared; without any, all are."""

    @field_validator("json_schema")
    @classmethod
    def _is_a_schema(cls, schema: dict[str, Any] | None) -> dict[str, Any] | None:
        if schema is not None and (reason := schemas.misfit(schema)):
            raise ValueError(f"this is no JSON schema: {reason}")
        return schema

    def expect(self, row: Row) -> Any | Unfit:
        reference = self.reference_of(row)
        if isinstance(reference, Unfit):
            return reference
        value = reference if isinstance(reference, dict | list) else parse(str(reference))
        if isinstance(value, Unfit):
            return value
        if broken := self._broken(value):
            return Unfit("breaks the schema", broken)
        return value

    def grade(self, answer: str, expected: Any) -> Grade:
        value = next((part for part in parse_all(answer) if isinstance(part, type(expected))), parse(answer))
        if isinstance(value, Unfit):
            return Grade(0.0, value.reason)
        parsed = written(value)
        if self._broken(value):
            return Grade(0.0, "breaks the schema", parsed)
        score = agreement(self._compared(value), self._compared(expected))
        return Grade(score, PASSED if score == 1 else "some fields" if score else WRONG, parsed)

    def shown(self, expected: Any) -> str:
        return written(expected)

    def _compared(self, value: Any) -> Any:
        if not self.fields or not isinstance(value, Mapping):
            return value
        return {name: value[name] for name in self.fields if name in value}

    def _broken(self, value: Any) -> str:
        """Return the place where the value violates the schema; empty if it fits."""
        return "" if self.json_schema is None else schemas.broken(value, self.json_schema)


def parse(text: str) -> Any | Unfit:
    """Return the first object or list in a text. It may be in a code block or within a sentence."""
    return next(parse_all(text), Unfit("no JSON", f"{text[:60]!r}"))


def parse_all(text: str) -> Iterator[Any]:
    """Yield each outermost object or list in a text. Those within an invalid or unclosed one are left out."""
    decoder, end = json.JSONDecoder(parse_constant=_refuse_constant), 0
    for opening in re.finditer(r"[{\[]", text):
        if opening.start() >= end:
            try:
                value, end = decoder.raw_decode(text, opening.start())
            except (ValueError, RecursionError):
                if BEGINS.match(text, opening.start()):
                    end = _end(text, opening.start())
                continue
            yield value


def _end(text: str, start: int) -> int:
    """Return the position behind the bracket that closes the one at `start`; the end of the text if none does."""
    depth = 0
    for part in PARTS.finditer(text, start):
        depth += (part[0] in "{[") - (part[0] in "}]")
        if not depth:
            return part.end()
    return len(text)


def written(value: Any) -> str:
    """Return a value as JSON that can be stored as UTF-8: a lone surrogate such as `\\ud83d` stays an escape."""
    text = json.dumps(value, ensure_ascii=False, sort_keys=True)
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def agreement(value: Any, expected: Any) -> float:
    """Return the share of equal fields among the fields of both sides."""
    first, second = dict(_leaves(value)), dict(_leaves(expected))
    paths = first.keys() | second.keys()
    equal = sum(path in first and path in second and _equal(first[path], second[path]) for path in paths)
    return equal / len(paths)


def _leaves(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[tuple[str | int, ...], Any]]:
    parts = list(value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list) else ())
    if not parts:
        yield path, value
    for name, part in parts:
        yield from _leaves(part, (*path, name))


def _equal(one: Any, other: Any) -> bool:
    """Return True if two values are equal. A boolean is not a number. Texts are compared in Unicode normal form C without white space around them."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, str) and isinstance(other, str):
        return unicodedata.normalize("NFC", one.strip()) == unicodedata.normalize("NFC", other.strip())
    return bool(one == other)


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")
