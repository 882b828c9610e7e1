"""Check `choice`: the answer is one of a question's options, by its letter or its text.

The options are in a column (a list of texts, or `{text: […], label: […]}`), or in the prompt, one on each line (`B) Paris`). They are also
scored without generation: `choice acc` is the share of items whose right option has the highest likelihood. For `choice acc_norm`, each
log-likelihood is divided by the number of characters of its option. lm-evaluation-harness defines both.
"""

import re
import string
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

from tasks.core.answers.base import AnswerCheck, Grade, Row, binary, loosely, named_in, place_of
from tasks.core.records import Unfit

ACC, ACC_NORM = "choice acc", "choice acc_norm"
QUESTIONS = ("question", "prompt", "instruction", "query", "ctx")
"""The columns that may hold the question."""
PASSAGES = ("context", "passage", "article", "input")
"""The columns that may hold the passage that the question is about. It is put above the question."""
ANSWERS = ("answer", "response", "completion", "output", "answerKey", "label", "target", "gold")
"""The columns that may hold the right option, if `reference` names none."""
SYSTEM = ("system", "system_prompt")
"""The columns that may hold the system message."""
LINE = re.compile(r"^\s*\(?([A-Z])[).:]\s+(\S.*)$", re.MULTILINE)
MARKS = r"(?:[\s:：*_\"'“‘`(\[{$]|\\(?:[a-z]{1,9}\{|[(\[])){0,20}"
"""Signs before a letter: Markdown, quotes, brackets, LaTeX. The limit keeps the search linear in a text that consists of such signs."""
ALONE = r"(?!\w)(?!\W{0,3}(?:\s(?:and|or)\s|[&/])\W{0,3}[A-Z](?:\W*\n|\W*$|[\s*)\]}]{0,3}[.,;:!]))"
"""Follows a letter that is not one of two: `A and B.` names no option, `A and B is wrong` names A."""
STATED = re.compile(
    rf"(?:\b(?i:answer|option|choice)\b(?:\s+is\b|[\s*_]*:|>)|\\boxed\{{){MARKS}(?:(?i:option|choice)\b{MARKS})?([A-Z]){ALONE}"
)
MENTIONED = re.compile(rf"\b(?:(?i:answer|option|choice)|is)\b{MARKS}([A-Z]){ALONE}")
LONE = re.compile(r"(?<![\dA-Za-zÀ-ӿ'’])([A-Z])(?![\dA-Za-zÀ-ӿ'’]|(?<=[AI])\s+(?!(?:and|or)\s+[A-Z]\b)[a-z])")
"""A single letter between signs or characters of a script without cases, except for a word of a sentence, such as the first of `A good …`."""
BARE = re.compile(r"^\W*([A-Z])(?:\W*$|[).:]\**\s)", re.MULTILINE)


class Choice(AnswerCheck):
    """The answer names the right option."""

    beside: ClassVar[tuple[str, ...]] = (ACC, ACC_NORM)
    kind: Literal["choice"] = "choice"
    options: str | None = None
    """The column with the options. Without it, they are read from the prompt."""
    answer: Literal["letter", "text"] = "letter"
    """`letter`: the prompt lists the options, and the response is a letter. `text`: the prompt is only the question, and the response is the
    text of an option."""

    def reshape(self, values: Mapping[str, Any]) -> Mapping[str, Any] | Unfit:
        """Return the question with its options listed, and the right letter or text as the response."""
        if self.options is None:
            return values
        options = read_options(values.get(self.options))
        if options is None:
            return Unfit("no options", f"the column {self.options!r} holds no list of two to 26 different texts")
        question = _first_text(values, QUESTIONS)
        if question is None:
            return Unfit("no question", f"none of the columns {', '.join(QUESTIONS)} holds a text")
        column = self.reference_column(values)
        right = position(_meant(values[column], values[self.options], *options), *options) if column else None
        if right is None:
            given = "no column names it" if column is None else f"{column!r} is {str(values.get(column))[:40]!r}"
            return Unfit("choices without the right one", f"{given}; the options are {', '.join(options[0])[:120]}")
        passage = _first_text(values, PASSAGES)
        prompt, response = (
            values[question] if passage is None else f"{values[passage]}\n\n{values[question]}",
            options[0][right],
        )
        if self.answer == "letter":
            prompt, response = f"{prompt}\n\n{listed(options[0])}", string.ascii_uppercase[right]
        system = {name: value for name, value in values.items() if name in SYSTEM}
        return {**system, "prompt": prompt, "response": response}

    def reshaped(self, values: Mapping[str, Any]) -> set[str]:
        """Return the columns of question, passage, options, right option and system message."""
        if self.options is None:
            return set()
        columns = _first_text(values, QUESTIONS), _first_text(values, PASSAGES), self.reference_column(values)
        return {self.options, *filter(None, columns), *SYSTEM}

    def reference_column(self, values: Mapping[str, Any]) -> str | None:
        """Return the column that names the right option of a row; None if none does."""
        return self.reference or next((name for name in ANSWERS if values.get(name) not in (None, "")), None)

    def expect(self, row: Row) -> dict[str, Any] | Unfit:
        if self.options is not None:
            texts = (read_options(row.values.get(self.options)) or ([], []))[0]
            right = position(row.response, texts, [])
        else:
            lines = LINE.findall(row.prompt)
            texts = [text.strip() for _, text in lines]
            if len(texts) < 2 or [letter for letter, _ in lines] != list(string.ascii_uppercase[: len(texts)]):
                return Unfit("no options", "the prompt does not list options A, B, … each on a line of its own")
            reference = self.reference_of(row)
            right = position(None if isinstance(reference, Unfit) else reference, texts, [])
        if right is None:
            return Unfit("choices without the right one", f"{row.response[:40]!r} is none of {', '.join(texts)[:120]}")
        return {"options": texts, "right": right}

    def grade(self, answer: str, expected: Any) -> Grade:
        chosen = chosen_option(answer, expected["options"])
        if chosen is None:
            return Grade(0.0, "no choice")
        return binary(chosen == expected["right"], self._shown(chosen, expected["options"]))

    def shown(self, expected: Any) -> str:
        return self._shown(expected["right"], expected["options"])

    def continuations(self, expected: Any) -> list[str]:
        """Return the responses whose likelihoods are compared: letters or texts."""
        texts = expected["options"]
        return list(string.ascii_uppercase[: len(texts)]) if self.answer == "letter" else texts

    def _shown(self, number: int, texts: Sequence[str]) -> str:
        return string.ascii_uppercase[number] if self.answer == "letter" else texts[number]


def read_options(value: Any) -> tuple[list[str], list[str]] | None:
    """Return the texts and the labels of a column of options; None if it does not hold 2 to 26 different texts."""
    labels: Any = []
    if isinstance(value, Mapping):
        value, labels = value.get("text"), value.get("label") or []
    if not isinstance(value, list) or not all(isinstance(text, str | int | float) for text in value):
        return None
    texts = [str(text).strip() for text in value]
    if not 2 <= len(set(texts)) == len(texts) <= len(string.ascii_uppercase) or not all(texts):
        return None
    return texts, [str(label) for label in labels]


def listed(texts: Sequence[str]) -> str:
    """Return the options as lines, `A) …`."""
    return "\n".join(f"{letter}) {text}" for letter, text in zip(string.ascii_uppercase, texts, strict=False))


def position(reference: Any, texts: Sequence[str], labels: Sequence[str]) -> int | None:
    """Return the index of the right option, given by its text, its label, its letter or its number from 0; None if it is none of these."""
    if isinstance(reference, int) and not isinstance(reference, bool):
        if str(reference) in labels:
            return labels.index(str(reference))
        return reference if 0 <= reference < len(texts) else None
    if not isinstance(reference, str):
        return None
    for names in (texts, labels, string.ascii_uppercase[: len(texts)]):
        if reference.strip() in list(names):
            return list(names).index(reference.strip())
    lettered = re.fullmatch(r"\(?([A-Z])[).:]?(?:\s.*)?", reference.strip(), re.DOTALL)
    number = string.ascii_uppercase.index(lettered[1]) if lettered else len(texts)
    return number if number < len(texts) else None


def _first_text(values: Mapping[str, Any], names: Sequence[str]) -> str | None:
    """Return the text of the first of the columns that has one."""
    return next((name for name in names if isinstance(values.get(name), str) and values[name]), None)


def _meant(reference: Any, given: Any, texts: Sequence[str], labels: Sequence[str]) -> Any:
    """Return a reference in the form for `position`: the text of the option that is the same boolean or number, or the number in a text of digits.

    If options are numbers, a numeric reference is one of them, not an index. Digits that are an option or a label stay a text.
    """
    if isinstance(reference, bool):
        return next((text for text in texts if text.casefold() == str(reference).casefold()), reference)
    if isinstance(reference, int | float):
        options = given["text"] if isinstance(given, Mapping) else given
        numbers = {option: text for text, option in zip(texts, options, strict=True) if is_number(option)}
        return numbers.get(reference) if numbers else int(reference) if reference == reference // 1 else reference
    is_plain = isinstance(reference, str) and re.fullmatch(r"\d{1,9}(\.0)?", reference.strip())
    return int(float(reference)) if is_plain and not labels and reference.strip() not in texts else reference


def is_number(value: Any) -> bool:
    """Return True for a number; a boolean is not one."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def chosen_option(answer: str, texts: Sequence[str]) -> int | None:
    """Return the option that an answer names, or None.

    The first of these rules that matches counts: the answer is only the option; the last letter that is stated (`the answer is …`); the letter
    at the start; the last letter that is mentioned (`option …`); the first letter at the start of a line, unless the answer lists all options
    again; the text of an option within the answer, or within its last line; the only letter in it."""
    normal = [loosely(text) for text in texts]
    whole = loosely(answer)
    if (place := place_of(answer, texts)) is not None:
        return place
    if len(whole) == 1 and whole in string.ascii_lowercase[: len(texts)]:
        return string.ascii_lowercase.index(whole)
    lines, begins = BARE.findall(answer), BARE.match(answer) is not None
    leading = lines if begins and len(lines) == 1 else []  # several such lines may be the list of all options
    if not begins and len(lines) > 1 and lines == list(string.ascii_uppercase[: len(lines)]):
        lines = []
    for letters in (STATED.findall(answer), leading, MENTIONED.findall(answer), lines[:1]):
        if letters and (number := string.ascii_uppercase.index(letters[-1])) < len(texts):
            return number
    for part in (whole, loosely(answer.strip().rpartition("\n")[2])):
        named = named_in(part, normal)
        if len(named) == 1 and normal.count(text := named.pop()) == 1:
            return normal.index(text)
    alone = {string.ascii_uppercase.index(letter) for letter in LONE.findall(answer)}
    return alone.pop() if len(alone) == 1 and max(alone) < len(texts) else None
