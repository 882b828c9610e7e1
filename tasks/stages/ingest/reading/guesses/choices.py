"""Guess the columns of multiple choice: a question, its choices, and the right one."""

import json
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from tasks.core.text import templates
from tasks.stages.ingest.reading.guesses.names import (
    TEXTS,
    Guess,
    Rows,
    as_expression,
    first_named,
    is_about,
    names_of,
    optional,
    prompt_of,
    topic_of,
)

STEMS = ("option", "choice", "op", "opt", "ending", "answer", "sol")
"""What the names of columns begin with that hold a choice each."""
BY_LETTER = re.compile(f"(?:{'|'.join(STEMS)})?[ _]?[a-z0-9]", re.IGNORECASE)
"""A field of an object of choices."""
CHOICE_TEXTS = (*TEXTS, "choice", "option", "answer", "value")
"""The field of a choice that is an object."""
CHOICES = ("choices", "options", "endings", "antwortmoeglichkeiten", "opciones")
KEYS = (
    "answer",
    "answer_key",
    "answerkey",
    "correct_answer",
    "correct",
    "label",
    "target",
    "solution",
    "cop",
    "antwort",
    "loesung",
)
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
MARKS = "(). "
"""What may stand around the letter of the right choice."""


def guess_choices(rows: Rows) -> Guess | None:
    """Return the guess for multiple choice: a question, its choices, and the right one by number, letter or text."""
    names = names_of(rows)
    key, choices, columns = first_named(names, KEYS), first_named(names, CHOICES), _columns_of_choices(names)
    told = [name for name in names if not is_about(name) and name not in (choices, *columns)]
    question = prompt_of(rows, told)
    is_text = question is None
    if question is None and (choices or columns):
        question = first_named(told, TEXTS)
    if question is None or key is None or question == key:
        return None
    if choices is not None and (listed := _listed(rows, choices)):
        reason = f"{choices!r} holds the choices and {key!r} the right one"
    elif columns:
        listed = "[" + ", ".join(map(as_expression, columns)) + "]"
        reason = f"{', '.join(columns)} are choices and {key!r} names the right one"
    else:
        return None
    start = f"{{% set choices = {listed} %}}"
    right = start + _right_choice(rows, key)
    if is_text and not _fits(rows, key, right):
        return None  # what stands beside a text may be anything; a question with choices whose key does not fit is refused row by row
    about = topic_of(rows, names, (question, key))
    passage = f"{{% if {optional(rows, about)} %}}{{{{ {optional(rows, about)} }}}}\n\n{{% endif %}}" if about else ""
    prompt = (
        f"{start}{passage}{{{{ {as_expression(question)} }}}}\n{{% for choice in choices %}}\n"
        f'{{{{ "{LETTERS}"[loop.index0] }}}}. {{{{ choice }}}}{{% endfor %}}'
    )
    return Guess({"prompt": prompt, "response": right}, None, f"multiple choice: {reason}")


def _columns_of_choices(names: Sequence[str]) -> list[str]:
    """Return the columns that hold a choice each: A, B, C, or `option1`, `opa`, `ending_a` and so on; none if there are no such ones."""
    if all(letter in names for letter in "ABC"):
        return [letter for letter in LETTERS if letter in names]
    by_stem = ([name for name in names if re.fullmatch(f"{stem}[ _]?([a-j]|[0-9])", name.lower())] for stem in STEMS)
    return next((columns for columns in by_stem if len(columns) > 1), [])


def _listed(rows: Rows, choices: str) -> str | None:
    """Return the choices of a column as a list in a template: a list of texts or of objects with one, the texts of an object, or its values
    by letters.

    None for other objects: `options` may be those of a program.
    """
    values = [row[choices] for row in rows if row.get(choices)]
    if not any(isinstance(value, Mapping) for value in values):
        objects = [item for value in values if isinstance(value, list) for item in value if isinstance(item, Mapping)]
        if not objects:
            return as_expression(choices)
        text = first_named([field for field, value in objects[0].items() if isinstance(value, str)], CHOICE_TEXTS)
        return f"({as_expression(choices)} | map(attribute={json.dumps(text)}) | list)" if text else None
    has_texts = all(isinstance(value, Mapping) and "text" in value for value in values)
    if has_texts:
        return f'{as_expression(choices)}["text"]'
    fields = {field for value in values if isinstance(value, Mapping) for field in value}
    return f"({as_expression(choices)}.values() | list)" if all(map(BY_LETTER.fullmatch, fields)) else None


def _right_choice(rows: Rows, key: str) -> str:
    """Return the template of the right choice: `B. its text`."""
    values = [str(row[key]).strip() for row in rows if _is_told(row.get(key))]
    if values and all(re.fullmatch(r"\d+(\.0)?", value) for value in values):  # pandas writes 1.0 where a row has none
        first = 0 if {"0", "0.0"}.intersection(values) else 1
        position = f"range({first}, {first + len(LETTERS)}).index({as_expression(key)} | int(-1))"
    elif values and all(value.strip(MARKS).upper() in list(LETTERS) for value in values):
        position = f'("{LETTERS}" | list).index(({as_expression(key)} | trim("{MARKS}")).upper())'
    else:
        position = f"choices.index({as_expression(key)})"
    return f'{{% set right = {position} %}}{{{{ "{LETTERS}"[right] }}}}. {{{{ choices[right] }}}}'


def _fits(rows: Rows, key: str, right: str) -> bool:
    """Return True if the template tells the right choice of half of the rows, without those that hide it."""
    told = [row for row in rows if _is_told(row.get(key))]
    num_fitting = 0
    for row in told:
        with suppress(ValueError):
            templates.rendered(right, row)
            num_fitting += 1
    return 2 * num_fitting >= len(told)


def _is_told(value: Any) -> bool:
    """Return False for what hidden answers are written as."""
    return value is not None and str(value).strip() not in ("", "-1")
