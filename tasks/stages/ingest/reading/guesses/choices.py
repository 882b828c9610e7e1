"""Guess the columns of multiple choice: a question, its choices, and the right one."""

import json
import re
from collections.abc import Collection, Mapping, Sequence
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
BY_LETTER = re.compile(f"(?:{'|'.join(STEMS)})?[ _]?([a-z]|[0-9]{{1,2}})", re.IGNORECASE)
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
NUMBER = r"\d+(\.0)?"
"""The number of the right choice; pandas writes 1.0 where a row has none."""
MARKS = "(). "
"""What may stand around the letter of the right choice."""


def guess_choices(rows: Rows, is_usable: bool = False) -> Guess | None:
    """Return the guess for multiple choice: a question, its choices, and the right one by number, letter or text.

    Rows that are usable without it must fit it.
    """
    names = names_of(rows)
    choices, columns = first_named(names, CHOICES), _columns_of_choices(names)
    key = first_named([name for name in names if name not in (choices, *columns)], KEYS)
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
        choices = None
        listed = "[" + ", ".join(optional(rows, column) for column in columns) + "]"
        reason = f"{', '.join(columns)} are choices and {key!r} names the right one"
    else:
        return None
    start = f'{{% set given = {listed} %}}{{% set choices = given | reject("in", [none, ""]) | list %}}'
    right = start + _right_choice(rows, key, start, choices)
    if (is_text or is_usable) and not _fits(rows, key, right):
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
    by_stem = (
        [name for name in names if re.fullmatch(f"{stem}[ _]?([a-j]|[0-9]{{1,2}})", name.lower())] for stem in STEMS
    )
    columns = next((columns for columns in by_stem if len(columns) > 1), [])
    return sorted(columns, key=lambda name: (len(name), name.lower()))


def _listed(rows: Rows, choices: str) -> str | None:
    """Return the choices of a column as a list in a template: a list of texts or of objects with one, the texts of an object, or its values
    by letters.

    None for other objects, as `options` may be those of a program, and for choices that stand in one text.
    """
    values = [row[choices] for row in rows if isinstance(row.get(choices), list | Mapping)]
    if not values:
        return None
    if not any(isinstance(value, Mapping) for value in values):
        objects = [item for value in values for item in value if isinstance(item, Mapping)]
        if not objects:
            return f"({as_expression(choices)} + [])"  # a text, whose signs would be choices, fits no list
        text = first_named([field for field, value in objects[0].items() if isinstance(value, str)], CHOICE_TEXTS)
        return f"({as_expression(choices)} | map(attribute={json.dumps(text)}) | list)" if text else None
    has_texts = all(isinstance(value, Mapping) and isinstance(value.get("text"), list) for value in values)
    if has_texts:
        return f'({as_expression(choices)}["text"] + [])'
    fields = _fields(rows, choices)
    if not all(map(BY_LETTER.fullmatch, fields)):
        return None
    has_order = len(set(map(len, fields))) == 1  # else `10` would come before `2`
    sort = " | dictsort | map('last')" if has_order else ".values()"
    return f"({as_expression(choices)}{sort} | list)"


def _fields(rows: Rows, choices: str) -> set[str]:
    """Return the fields of a column of objects; none if it holds none."""
    return {field for row in rows if isinstance(value := row.get(choices), Mapping) for field in value}


def _right_choice(rows: Rows, key: str, start: str, choices: str | None) -> str:
    """Return the template of the right choice, `B. its text`. Behind `start`, `given` are all choices of a row and `choices` those that it has."""
    told = [row for row in rows if _is_told(row.get(key))]
    values, name = [str(row[key]).strip() for row in told], as_expression(key)
    if choices and values and _fields(rows, choices).issuperset(value.strip(MARKS) for value in values):
        text = f'{as_expression(choices)}[{name} | string | trim("{MARKS}")]'
    elif values and all(re.fullmatch(NUMBER, value) for value in values):
        sizes = (_num_choices(row, start) for row in told)
        first = int(counts_from_one([(int(float(value)), size) for value, size in zip(values, sizes, strict=True)]))
        text = f"given[range({first}, {first + len(LETTERS)}).index({name} | int(-1))]"
    elif values and all(value.strip(MARKS).upper() in list(LETTERS) for value in values):
        text = f'given[("{LETTERS}" | list).index(({name} | trim("{MARKS}")).upper())]'
    else:
        text = name
    return f'{{% set right = choices.index({text}) %}}{{{{ "{LETTERS}"[right] }}}}. {{{{ choices[right] }}}}'


def counts_from_one(numbers: Collection[tuple[int, int]]) -> bool:
    """Return True if the numbers of right choices, each beside the number of choices, count from 1: none is 0, and one is the last."""
    return all(number > 0 for number, _ in numbers) and any(number == most for number, most in numbers)


def _num_choices(row: Mapping[str, Any], start: str) -> int:
    """Return the number of choices of a row up to the last one that it has; 0 if it does not fit the template."""
    with suppress(ValueError):
        return int(templates.rendered(start + "{{ given.index(choices | last) + 1 }}", row))
    return 0


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
