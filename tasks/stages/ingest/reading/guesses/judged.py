"""Guess which of a row's answers is the better one, if the columns are not named `chosen` and `rejected`."""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tasks.stages.ingest.reading.guesses.names import (
    RESPONSES,
    Guess,
    Rows,
    as_expression,
    asked,
    first_named,
    is_about,
    names_of,
    prompt_of,
    quoted,
    text_columns,
    text_in,
)
from tasks.stages.ingest.reading.guesses.nested import talk_columns

BY_CUSTOM = ("response_j", "response_k")
"""The better and the worse answer in data sets of pairs from Stack Exchange."""
PREFERENCE = ("input", "preferred_output", "non_preferred_output")
"""The columns of OpenAI's files of preferences."""
VERDICTS = ("winner", "preference", "preferred", "better", "verdict", "choice", "label")
"""Columns that name the better of two answers as `a` or `b`, 1 or 2, 0 or 1, possibly after a word: `model_a`."""
SIDE = re.compile(r"(?:[^\W\d_](?:[^\W\d]|[\s:#])*(?:[\s_:#]|\b-))?([ab012])", re.IGNORECASE)
"""Matches a verdict for a side, alone or after words. `-1` and `A>B` are no such verdicts."""
SCALE = re.compile(r"\d|.[<>=].", re.DOTALL)
"""Matches a value for neither side that belongs to a scale, in contrast to a word such as `tie`."""
SIGNED = ("preference_strength", "overall_preference")
"""Columns whose negative numbers prefer the first of two answers, and positive numbers the second, as in HelpSteer2 and HelpSteer3."""
TEXTS = ("response", "completion", "output", "answer", "text", "content")
POSTS = ("history", "post", "title")
"""Names of the prompt of two answers, if no column has a usual name for it."""
SCORES = (
    "overall_score",
    "score",
    "rating",
    "reward",
    "rank",
    "upvotes",
    "likes",
    "points",
    "quality",
    "helpfulness",
    "stars",
)
"""Fields with the score of an answer in a list. The highest score is the best; of ranks, the lowest."""

LISTS_OF_SCORES = ("overall_scores", "scores", "ratings", "rewards", "ranks")
"""Columns with the scores of a list of answers, in the same order."""


def guess_judged(rows: Rows) -> Guess | None:
    """Return the guess for a prompt with a better and a worse answer."""
    names = names_of(rows)
    if guess := _preferred(rows, names) or _better_talk(rows, names):
        return guess
    told = [name for name in names if not is_about(name)]
    prompt = prompt_of(rows, told)
    pair = _two_answers(rows, [name for name in names if name != prompt]) or _two_answers(rows, names)
    if pair and (prompt is None or prompt in pair):  # a `human_ref_A` is no prompt
        others = [name for name in told if name not in pair]
        prompt = prompt_of(rows, others) or first_named(text_columns(rows, others, fewest=1), POSTS)
    if prompt is None:
        return None
    better, worse = BY_CUSTOM
    if {better, worse} <= set(names):
        columns = {"prompt": asked(rows, (prompt, better, worse), prompt)[0], "response": better, "rejected": worse}
        return Guess(columns, None, f"{better!r} is the better answer and {worse!r} the worse one")
    guess = pair and (
        _signed(rows, prompt, *pair)
        or _named_winner(rows, names, prompt, *pair)
        or _scored_pair(rows, names, prompt, *pair)
    )
    return guess or _scored(rows, names, prompt) or _scored_beside(rows, names, prompt)


def _preferred(rows: Rows, names: Sequence[str]) -> Guess | None:
    """Return the guess for OpenAI's preferences: the messages of an input, and the turns of a better and a worse answer."""
    asked, better, worse = PREFERENCE
    if not set(PREFERENCE) <= set(names) or not all(isinstance(row.get(asked), Mapping) for row in rows):
        return None
    said = f"{asked}['messages']"
    columns = {"prompt": f"{{{{ {said} | tojson }}}}"} | {
        kind: f"{{{{ ({said} + {name}) | tojson }}}}" for kind, name in (("response", better), ("rejected", worse))
    }
    return Guess(
        columns, None, f"{better!r} is the better answer to the messages of {asked!r}, and {worse!r} the worse one"
    )


def _better_talk(rows: Rows, names: Sequence[str]) -> Guess | None:
    """Return the guess for two conversations and a column that names the better one. A tie is refused."""
    talks = talk_columns(rows, names)
    talks = [name for name in talks if all(isinstance(row.get(name), list) for row in rows)]
    pair = next(((one, other) for one in talks for other in talks if one[:-1] == other[:-1] and one < other), None)
    guess = pair and _named_winner(rows, names, pair[0], *pair)
    if not pair or not guess:
        return None
    columns = {
        kind: value.replace("{{ ", "{{ (").replace(" }}", " + []) | tojson }}")
        for kind, value in guess.columns.items()
        if kind != "prompt"
    }
    return Guess({"prompt": pair[0], **columns}, None, guess.reason)


def is_undecided(rows: Rows) -> bool:
    """Return True if rows hold two answers and a verdict that no guess can read. To take the first answer would be wrong in many rows."""
    names = names_of(rows)
    if _list_of_scores(rows, names) is not None and any(_are_texts(rows, name) for name in names):
        return True
    pairs = [pair for pair in _pairs(rows, names) if first_named(pair[:1], RESPONSES)]
    return any(first_named([name for name in names if name not in pair], VERDICTS) for pair in pairs)


def _two_answers(rows: Rows, names: Sequence[str]) -> tuple[str, str] | None:
    """Return the columns of two answers, whose names differ only in their end."""
    return next(_pairs(rows, names), None)


def _pairs(rows: Rows, names: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield pairs of columns of texts whose names end in `_a` and `_b`, in 1 and 2, or in 0 and 1.

    Most of the texts must have several words, unless the names are words for answers, which may be as short as `Yes`.
    """
    for one in names:
        if one.endswith(("_a", "_A", " A", "-a", "0", "1")):
            other = one[:-1] + chr(ord(one[-1]) + 1)
            texts = [text for row in rows for name in (one, other) if isinstance(text := row.get(name), str)]
            if len(texts) == 2 * len(rows) and (
                2 * sum(" " in text for text in texts) > len(texts) or first_named([one], RESPONSES)
            ):
                yield one, other


def _signed(rows: Rows, prompt: str, one: str, other: str) -> Guess | None:
    """Return the guess for two answers and a number whose sign prefers one of them. A tie is refused.

    Returns None if no number is negative: on a scale that starts at 0 or 1, every row would prefer the second answer.
    """
    strength = next((name for name in SIGNED if any(_number(row.get(name)) < 0 for row in rows)), None)
    if strength is None or not all(strength in row for row in rows):
        return None
    number = f"({as_expression(strength)} | float)"
    columns = {
        kind: f"{{{{ {{true: {as_expression(a)}, false: {as_expression(b)}}}[{number} < 0 if {number} else none] }}}}"
        for kind, a, b in (("response", one, other), ("rejected", other, one))
    }
    reason = f"{strength!r} prefers {one!r} where it is negative and {other!r} where it is positive; a tie is refused"
    return Guess({"prompt": asked(rows, (prompt, one, other), prompt)[0], **columns}, None, reason)


def _number(value: Any) -> float:
    """Return a value as the template filter `float` reads it: 0 if it is not a number."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return 0.0


def _named_winner(rows: Rows, names: Sequence[str], prompt: str, one: str, other: str) -> Guess | None:
    """Return the guess for two answers and a column that names the better one. A tie is refused."""
    verdict = first_named(names, VERDICTS)
    if verdict is None:
        return None
    told = {str(row[verdict]) for row in rows if row.get(verdict) is not None}
    sides = {value: match[1].lower() for value in told if (match := SIDE.fullmatch(value))}
    first, second = (name[-1].lower() for name in (one, other))
    if set(sides.values()) != {first, second} or any(map(SCALE.search, told - sides.keys())):
        return None
    # If verdicts are single characters, the whole value is compared: a later row may have a point of a scale, such as `-1`, which ends in one.
    is_alone = all(len(value) == 1 for value in sides)
    side = f"[{as_expression(verdict)} | lower]" if is_alone else f"[{as_expression(verdict)} | lower | last]"
    columns = {
        kind: f"{{{{ {{'{first}': {as_expression(a)}, '{second}': {as_expression(b)}}}{side} }}}}"
        for kind, a, b in (("response", one, other), ("rejected", other, one))
    }
    prompt = asked(rows, (prompt, one, other), prompt)[0]
    return Guess({"prompt": prompt, **columns}, None, f"{verdict!r} names the better one of {one!r} and {other!r}")


def _scored_pair(rows: Rows, names: Sequence[str], prompt: str, one: str, other: str) -> Guess | None:
    """Return the guess for two answers and two columns with their scores, whose names end like those of the answers. A tie is refused."""
    question = text_in(rows, prompt)
    stems = [name[:-1] for name in names if name.endswith(one[-1]) and f"{name[:-1]}{other[-1]}" in names]
    scores = [
        stem for stem in stems if all(_is_number(row.get(f"{stem}{end[-1]}")) for row in rows for end in (one, other))
    ]
    score = first_named(scores, SCORES)
    if question is None or score is None:
        return None
    first, second = (f"({as_expression(f'{score}{name[-1]}')} | float)" for name in (one, other))
    sign = "<" if "rank" in score.lower() else ">"
    verdict = f"{first} {sign} {second} if {first} != {second} else none"
    columns = {
        kind: f"{{{{ {{true: {as_expression(a)}, false: {as_expression(b)}}}[{verdict}] }}}}"
        for kind, a, b in (("response", one, other), ("rejected", other, one))
    }
    reason = f"{score + one[-1]!r} and {score + other[-1]!r} are the scores of {one!r} and {other!r}; a tie is refused"
    return Guess({"prompt": asked(rows, (prompt, one, other), question)[0], **columns}, None, reason)


def _is_number(value: Any) -> bool:
    """Return True for a number, or for the text of one, as tables have it."""
    try:
        return math.isfinite(float(value))
    except (TypeError, ValueError):
        return False


def _scored(rows: Rows, names: Sequence[str], prompt: str) -> Guess | None:
    """Return the guess for a list of answers with scores: the best and the worst answer. A tie of the two is refused."""
    for name in names:
        lists = [row.get(name) for row in rows]
        answers = [answer for answers in lists if isinstance(answers, list) for answer in answers]
        if len(answers) < 2 * len(rows) or not all(isinstance(answer, Mapping) for answer in answers):
            continue
        text = first_named(
            [field for field in answers[0] if all(isinstance(a.get(field), str) for a in answers)], TEXTS
        )
        numbers = [field for field in answers[0] if all(isinstance(a.get(field), int | float) for a in answers)]
        score = first_named(numbers, SCORES)
        if text is None or score is None:
            continue
        order = "false" if "rank" in score.lower() else "true"
        ranked = f"({as_expression(name)} | sort(attribute={quoted(score)}, reverse={order}))"
        best, worst = (f"{ranked}[{place}]" for place in (0, -1))
        is_judged = f"{best}[{quoted(score)}] != {worst}[{quoted(score)}]"
        columns = {
            "response": f"{{{{ {best}[{quoted(text)}] }}}}",
            "rejected": f"{{{{ {{true: {worst}[{quoted(text)}]}}[{is_judged}] }}}}",
        }
        reason = (
            f"{name!r} holds answers with their {score!r}: the best one, and the worst as rejected; a tie is refused"
        )
        return Guess({"prompt": asked(rows, (prompt, name), prompt)[0], **columns}, None, reason)
    return None


def _scored_beside(rows: Rows, names: Sequence[str], prompt: str) -> Guess | None:
    """Return the guess for a list of answers and a list of their scores: the best and the worst answer. A tie of the two is refused."""
    score = _list_of_scores(rows, names)
    if score is None:
        return None
    lists = [
        name for name in names if _are_texts(rows, name) and all(len(row[name]) == len(row[score]) for row in rows)
    ]
    name = first_named(lists, RESPONSES) or next(iter(lists), None)
    if name is None or sum(len(row[name]) for row in rows) < 2 * len(rows):
        return None
    best, worst = ("min", "max") if "rank" in score.lower() else ("max", "min")
    answers, scores = as_expression(name), as_expression(score)
    is_judged = f"({scores} | max) != ({scores} | min) and ({answers} | length) == ({scores} | length)"
    columns = {
        side: f"{{{{ {{true: {answers}[{scores}.index({scores} | {end})]}}[{is_judged}] }}}}"
        for side, end in (("response", best), ("rejected", worst))
    }
    reason = f"{score!r} holds the scores of {name!r}: the best one, and the worst as rejected; a tie is refused"
    return Guess({"prompt": asked(rows, (prompt, name), prompt)[0], **columns}, None, reason)


def _list_of_scores(rows: Rows, names: Sequence[str]) -> str | None:
    """Return the column that holds a list of numbers in every row and has a name for scores."""
    lists = [
        name
        for name in names
        if all(
            isinstance(values := row.get(name), list)
            and values
            and all(isinstance(value, int | float) for value in values)
            for row in rows
        )
    ]
    return first_named(lists, LISTS_OF_SCORES)


def _are_texts(rows: Rows, name: str) -> bool:
    """Return True for a column that holds a list of texts in every row."""
    return all(
        isinstance(texts := row.get(name), list) and texts and all(isinstance(text, str) for text in texts)
        for row in rows
    )
