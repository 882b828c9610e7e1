"""Guess the columns of multiple choice: a question, its choices, and the right one."""

import json
import re
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from typing import Any

from tasks.core.answers.choice import is_number
from tasks.core.text import templates
from tasks.io.sources.formats.headers import NUMBERED
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
"""Beginnings of the names of columns that hold one choice each."""
BY_LETTER = re.compile(f"(?:{'|'.join(STEMS)})?[ _]?([a-z]|[0-9]{{1,2}})", re.IGNORECASE)
"""Matches a field of an object that maps letters or numbers to choices."""
CHOICE_TEXTS = (*TEXTS, "choice", "option", "answer", "value")
"""Names of the field with the text of a choice, if the choice is an object."""
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
NUMBER = r"\d+(\.0)?"
"""Matches the number of the right choice. pandas writes 1 as 1.0 if other rows have no number."""
MARKS = "(). "
"""Characters that may surround the letter of the right choice."""


def guess_choices(rows: Rows, is_usable: bool = False) -> Guess | None:
    """Return the guess for multiple choice: a question, its choices, and the right one by number, letter or text.

    If rows are usable without a guess (`is_usable`), they must fit it.
    """
    names = names_of(rows)
    choices, columns = first_named(names, CHOICES), _columns_of_choices(names)
    key = first_named([name for name in names if name not in (choices, *columns)], KEYS)
    told = [name for name in names if not is_about(name) and name not in (choices, *columns)]
    question = prompt_of(rows, told)
    if all(map(NUMBERED.fullmatch, names)) and _is_key(rows, names[-1:], len(names) - 2):
        question, *columns, key = names
    is_text = question is None
    if question is None and (choices or columns):
        question = first_named(told, TEXTS)
    if question is None or key is None or question == key:
        return None
    if choices is not None and (listed := _listed(rows, choices)):
        reason = f"{choices!r} holds the choices and {key!r} the right one"
    elif columns:
        choices = None
        listed = "[" + ", ".join(optional(rows, column) for column in columns) + "]"
        reason = f"{', '.join(columns)} are choices and {key!r} names the right one"
    else:
        return None
    start = f'{{% set given = {listed} %}}{{% set choices = given | reject("in", [none, ""]) | list %}}'
    right = start + _right_choice(rows, key, start, choices)
    if (is_text or is_usable) and not _fits(rows, key, right):
        return None  # columns beside a text may mean anything; a question whose key does not fit is refused row by row
    about = topic_of(rows, names, (question, key))
    passage = f"{{% if {optional(rows, about)} %}}{{{{ {optional(rows, about)} }}}}\n\n{{% endif %}}" if about else ""
    prompt = (
        f"{start}{passage}{{{{ {as_expression(question)} }}}}\n{{% for choice in choices %}}\n"
        f'{{{{ "{LETTERS}"[loop.index0] }}}}. {{{{ choice }}}}{{% endfor %}}'
    )
    return Guess({"prompt": prompt, "response": right}, None, f"multiple choice: {reason}")


def _is_key(rows: Rows, names: Sequence[str], num_choices: int) -> bool:
    """Return True if a last column holds letters, each of one of so many choices, as in the files of MMLU, which have no header."""
    letters = LETTERS[: max(num_choices, 0)]
    return num_choices > 1 and all(str(row.get(name)) in list(letters) for row in rows for name in names)


def _columns_of_choices(names: Sequence[str]) -> list[str]:
    """Return the columns that hold one choice each: A, B, C, or `option1`, `opa`, `ending_a` and so on; none if there are no such columns."""
    if all(letter in names for letter in "ABC"):
        return [letter for letter in LETTERS if letter in names]
    by_stem = (
        [name for name in names if re.fullmatch(f"{stem}[ _]?([a-j]|[0-9]{{1,2}})", name.lower())] for stem in STEMS
    )
    columns = next((columns for columns in by_stem if len(columns) > 1), [])
    return sorted(columns, key=lambda name: (len(name), name.lower()))


def _listed(rows: Rows, choices: str) -> str | None:
    """Return the template expression that lists the choices of a column.

    The column may hold a list of texts, a list of objects with a text, an object with a list of texts, or an object of choices by letter.

    Returns None for other objects, since `options` may be those of a program, and for choices in a single text.
    """
    values = [row[choices] for row in rows if isinstance(row.get(choices), list | Mapping)]
    if not values:
        return None
    if not any(isinstance(value, Mapping) for value in values):
        objects = [item for value in values for item in value if isinstance(item, Mapping)]
        if not objects:
            return f"({as_expression(choices)} + [])"  # fails for a text, whose characters would become choices
        text = first_named([field for field, value in objects[0].items() if isinstance(value, str)], CHOICE_TEXTS)
        return f"({as_expression(choices)} | map(attribute={json.dumps(text)}) | list)" if text else None
    has_texts = all(isinstance(value, Mapping) and isinstance(value.get("text"), list) for value in values)
    if has_texts:
        return f'({as_expression(choices)}["text"] + [])'
    fields = _fields(rows, choices)
    if not all(map(BY_LETTER.fullmatch, fields)):
        return None
    has_order = len(set(map(len, fields))) == 1  # sorting names of different lengths would put `10` before `2`
    sort = " | dictsort | map('last')" if has_order else ".values()"
    return f"({as_expression(choices)}{sort} | list)"


def _fields(rows: Rows, choices: str) -> set[str]:
    """Return the fields of all objects in a column; none if it holds no objects."""
    return {field for row in rows if isinstance(value := row.get(choices), Mapping) for field in value}


def _right_choice(rows: Rows, key: str, start: str, choices: str | None) -> str:
    """Return the template of the right choice, `B. its text`.

    After `start`, the template's variable `given` has all choices of a row, and `choices` those that are not empty.
    """
    told = [row for row in rows if _is_told(row.get(key))]
    values, name = [str(row[key]).strip() for row in told], as_expression(key)
    if choices and values and _fields(rows, choices).issuperset(value.strip(MARKS) for value in values):
        text = f'{as_expression(choices)}[{name} | string | trim("{MARKS}")]'
    elif values and all(re.fullmatch(NUMBER, value) for value in values) and not _are_among(told, key, choices):
        sizes = (_num_choices(row, start) for row in told)
        first = int(counts_from_one([(int(float(value)), size) for value, size in zip(values, sizes, strict=True)]))
        text = f"given[range({first}, {first + len(LETTERS)}).index({name} | int(-1))]"
    elif values and all(value.strip(MARKS).upper() in list(LETTERS) for value in values):
        text = f'given[("{LETTERS}" | list).index(({name} | trim("{MARKS}")).upper())]'
    else:
        text = name
    return f'{{% set right = choices.index({text}) %}}{{{{ "{LETTERS}"[right] }}}}. {{{{ choices[right] }}}}'


def _are_among(rows: Rows, key: str, choices: str | None) -> bool:
    """Return True if the choices are numbers, and the right one is one of them in every row."""
    listed = [row.get(choices) for row in rows] if choices else [None]
    return all(
        isinstance(numbers, list) and all(map(is_number, numbers)) and is_number(row[key]) and row[key] in numbers
        for row, numbers in zip(rows, listed, strict=False)
    )


def counts_from_one(numbers: Collection[tuple[int, int]]) -> bool:
    """Return True if the numbers of right choices count from 1: none is 0, and one equals the number of choices. `numbers` are such pairs."""
    return all(number > 0 for number, _ in numbers) and any(number == most for number, most in numbers)


def _num_choices(row: Mapping[str, Any], start: str) -> int:
    """Return the number of choices of a row up to the last one that is not empty; 0 if the row does not fit the template."""
    with suppress(ValueError):
        return int(templates.rendered(start + "{{ given.index(choices | last) + 1 }}", row))
    return 0


def _fits(rows: Rows, key: str, right: str) -> bool:
    """Return True if the template gives the right choice in at least half of the rows that do not hide it."""
    told = [row for row in rows if _is_told(row.get(key))]
    num_fitting = 0
    for row in told:
        with suppress(ValueError):
            templates.rendered(right, row)
            num_fitting += 1
    return 2 * num_fitting >= len(told)


def _is_told(value: Any) -> bool:
    """Return False for a value that marks a hidden answer."""
    return value is not None and str(value).strip() not in ("", "-1")
