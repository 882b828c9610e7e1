"""Guess the columns of exports of annotation tools: Label Studio, Argilla and Prodigy. The answer is what people wrote or chose, not what they saw."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tasks.stages.ingest.reading.guesses.names import (
    FEWEST_WORDS,
    RESPONSES,
    TEXTS,
    TOGETHER,
    Guess,
    Rows,
    as_expression,
    asked,
    first_named,
    names_of,
    num_words,
    prompt_of,
    quoted,
    text_columns,
    topic_of,
)

SUBMITTED = "submitted"
"""The status in Argilla of an answer that is neither a draft nor discarded."""
HASHES = frozenset({"_input_hash", "_task_hash"})
"""The columns that Prodigy adds to each row."""
ANSWERS = ("accept", "reject", "ignore")
OF_RECORDS = ("id", "status", "external_id", "_server_id", "metadata")
"""The columns that Argilla adds to the fields of a record."""


def guess_annotated(rows: Rows) -> Guess | None:
    """Return the guess for an export of an annotation tool, whose rows have people's answers. A row without an answer is refused."""
    if not rows:
        return None
    return _labelled(rows) if are_annotated(rows) else _accepted(rows) or _submitted(rows) or _nested(rows)


def are_annotated(rows: Rows) -> bool:
    """Return True for an export of Label Studio. People's annotations are beside the data; answers in the data are those that people saw."""
    return all(isinstance(row.get("annotations"), list) and isinstance(row.get("data"), Mapping) for row in rows)


def _labelled(rows: Rows) -> Guess | None:
    """Return the guess for an export of Label Studio whose annotations hold one written text each, else choices. Cancelled ones are ignored."""
    data = [row["data"] for row in rows]
    prompt = _prompt(data, names_of(data))
    for kind, field in (("textarea", "text"), ("choices", "choices")):
        written = [values for row in rows if (values := _first_values(row["annotations"], kind, field))]
        if not written or prompt is None:
            continue
        asked_for = list(dict.fromkeys(name for values in written for name, _ in values))
        words = {name: num_words(*_texts_of(written, name)) for name in asked_for}
        name = max(words, key=words.__getitem__)
        told = [own for values in written if (own := [value for each, value in values if each == name])]
        kinds = {type(value) for values in told for value in values}
        if len(kinds) != 1 or any(len(values) > 1 for values in told) or (kind == "choices" and len(asked_for) > 1):
            return None
        if kind == "textarea" and any(isinstance(text, list) and len(text) > 1 for (text,) in told):
            return None
        listed = {"textarea": " | first", "choices": ' | join(", ")'}[kind] if kinds == {list} else ""
        results = "annotations | rejectattr('was_cancelled', 'sameas', true) | sum(attribute='result', start=[])"
        named = f" | selectattr('from_name', 'equalto', {quoted(str(name))})" if len(asked_for) > 1 else ""
        value = f"({results} | selectattr('type', 'equalto', '{kind}'){named} | first)['value']['{field}']"
        columns = {"prompt": _shown(data, prompt, "data"), "response": f"{{{{ {value}{listed} }}}}"}
        what = "wrote" if kind == "textarea" else "chose"
        reason = f"'annotations' holds what a person {what} on {prompt!r} of 'data'; cancelled annotations are left out"
        if len(asked_for) > 1:
            reason += f"; of {', '.join(map(repr, asked_for))} it is {name!r}, which has the longest texts"
        return Guess(columns, None, reason)
    return None


def _texts_of(written: Sequence[Sequence[tuple[Any, Any]]], name: Any) -> tuple[Rows, str]:
    """Return the texts of one field of annotations as rows with one column, and its name."""
    values = [value for each in written for other, value in each if other == name]
    return [{"text": text} for value in values for text in _as_list(value)], "text"


def _first_values(annotations: Sequence[Any], kind: str, field: str) -> list[tuple[Any, Any]]:
    """Return the values of a kind, each with the name of its field, in the first annotation that has any and was not cancelled."""
    kept = (a for a in annotations if isinstance(a, Mapping) and a.get("was_cancelled") is not True)
    return next((values for annotation in kept if (values := list(_values(annotation, kind, field)))), [])


def _values(annotation: Mapping[str, Any], kind: str, field: str) -> Iterator[tuple[Any, Any]]:
    results = annotation.get("result")
    for result in results if isinstance(results, list) else ():
        if isinstance(result, Mapping) and result.get("type") == kind and isinstance(result.get("value"), Mapping):
            yield result.get("from_name"), result["value"].get(field)


def _accepted(rows: Rows) -> Guess | None:
    """Return the guess for an export of Prodigy, in which people accept, reject or ignore a label or some options.

    A rejected label says what a text is not. So it is an answer only if there is one label alone; otherwise the row is refused, as an ignored
    one is.
    """
    if not all(row.keys() >= HASHES and row.get("answer") in ANSWERS for row in rows):
        return None
    names = names_of(rows)
    text = first_named(text_columns(rows, [name for name in names if name != "label"]), TEXTS)
    labels = {row.get("label") for row in rows}
    if text is not None and "accept" in names and all(isinstance(row.get("options"), list) for row in rows):
        chosen = "options | selectattr('id', 'in', accept) | map(attribute='text') | join(', ')"
        columns = {"prompt": text, "response": f"{{{{ {{'accept': {chosen}}}[answer] }}}}"}
        return Guess(columns, None, f"'accept' holds what people chose for {text!r}; ignored rows are refused")
    if text is None or not all(isinstance(label, str) for label in labels):
        return None
    alone = ", 'reject': 'not ' ~ label" if len(labels) == 1 else ""
    columns = {"prompt": text, "response": f"{{{{ {{'accept': label{alone}}}[answer] }}}}"}
    refused = "ignored rows are refused" if alone else "rejected and ignored rows are refused"
    return Guess(columns, None, f"'answer' tells if people accepted 'label' for {text!r}; {refused}")


def _submitted(rows: Rows) -> Guess | None:
    """Return the guess for an export of Argilla with the status of each answer, either in columns of their own or in the answers."""
    names = names_of(rows)
    questions: dict[str, tuple[str, list[str]]] = {}
    for name in names:
        status = f"{name}.status"
        if name.endswith(".responses") and status in names:
            pairs = [
                pair
                for row in rows
                if isinstance(row.get(name), list) and isinstance(row.get(status), list)
                for pair in zip(row[name], row[status], strict=False)
            ]
            column, told = f"row[{quoted(name)}]", f"row[{quoted(status)}]"
            path = f"{column}[{told}.index({quoted(SUBMITTED)})]"
            questions[name.removesuffix(".responses")] = (
                path,
                [v for v, s in pairs if s == SUBMITTED] or [v for v, _ in pairs],
            )
        elif answers := _judged_answers(rows, name):
            path = f'({as_expression(name)} | selectattr("status", "equalto", {quoted(SUBMITTED)}) | first)["value"]'
            questions[name] = (
                path,
                [a["value"] for a in answers if a["status"] == SUBMITTED] or [a["value"] for a in answers],
            )
    beside = (*questions, *(f"{question}{mark}" for question in questions for mark in (".responses", ".suggestion")))
    fields = [
        name
        for name in names
        if name not in (*OF_RECORDS, *beside)
        and not name.startswith(tuple(f"{b}{sign}" for b in beside for sign in ".-"))
    ]
    shown = [{name: row.get(name) for name in fields} for row in rows]
    sides = _sides(shown, fields, {name: values for name, (_, values) in questions.items()})
    if sides is None:
        return None
    prompt, question = sides
    columns = {
        "prompt": asked(shown, (prompt, question), prompt)[0],
        "response": f"{{{{ {questions[question][0]} }}}}",
    }
    reason = f"{question!r} holds what people submitted on {prompt!r}; a row of which nothing was submitted is refused"
    return Guess(columns, None, reason)


def _judged_answers(rows: Rows, name: str) -> list[Mapping[str, Any]]:
    """Return the answers in a column of lists of answers with their status; none if it holds anything else."""
    answers = [answer for row in rows if row.get(name) for answer in _as_list(row[name])]
    return answers if all(isinstance(a, Mapping) and {"value", "status"} <= a.keys() for a in answers) else []


def _nested(rows: Rows) -> Guess | None:
    """Return the guess for an export of Argilla with `fields` and `responses`, but without the status of answers."""
    if not all(isinstance(row.get("fields"), Mapping) and isinstance(row.get("responses"), Mapping) for row in rows):
        return None
    shown, responses = ([row[name] for row in rows] for name in ("fields", "responses"))
    values = {
        name: [a["value"] for each in responses for a in _as_list(each.get(name)) if isinstance(a, Mapping) and "value" in a]
        for name in names_of(responses)
    }  # fmt: skip
    sides = _sides(shown, names_of(shown), values)
    if sides is None:
        return None
    prompt, question = sides
    columns = {
        "prompt": _shown(shown, prompt, "fields"),
        "response": f'{{{{ responses[{quoted(question)}][0]["value"] }}}}',
    }
    return Guess(columns, None, f"{question!r} of 'responses' holds what people answered on {prompt!r} of 'fields'")


def _as_list(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list) else [value]


def _sides(shown: Rows, fields: Sequence[str], values: Mapping[str, Sequence[Any]]) -> tuple[str, str] | None:
    """Return the field that people were shown and the question that they answered about it; None unless both are known."""
    question = _question(shown, fields, values)
    prompt = _prompt(shown, [name for name in fields if not first_named([name], RESPONSES)])
    return None if question is None or prompt is None else (prompt, question)


def _question(shown: Rows, fields: Sequence[str], values: Mapping[str, Sequence[Any]]) -> str | None:
    """Return the question with the longest texts as answers. None if people saw a response and the answers are short, since they judge it."""
    words = {
        name: num_words([{name: text} for text in texts], name)
        for name, texts in values.items()
        if texts and all(isinstance(text, str) for text in texts)
    }
    question = max(words, key=words.__getitem__, default=None)
    is_judged = first_named([name for name in fields if num_words(shown, name)], RESPONSES) is not None
    return None if question is None or (is_judged and words[question] < FEWEST_WORDS) else question


def _shown(rows: Rows, prompt: str, place: str) -> str:
    """Return the template of the text that people were shown, from an object in each row: two texts that share one label, or the question and
    below it its topic."""
    names = names_of(rows)
    if both := next((pair for pair in TOGETHER if prompt in pair and set(pair) <= set(names)), None):
        return "\n\n".join(f"{{{{ {place}[{quoted(name)}] }}}}" for name in both)
    about = topic_of(rows, names, [prompt])
    below = f"{place}.get({quoted(about)})" if about else ""
    return f"{{{{ {place}[{quoted(prompt)}] }}}}" + (
        f"{{% if {below} %}}\n\n{{{{ {below} }}}}{{% endif %}}" if about else ""
    )


def _prompt(rows: Rows, names: Sequence[str]) -> str | None:
    """Return the column of the text that people were shown."""
    return prompt_of(rows, names) or first_named(names, TEXTS) or next(iter(text_columns(rows, names)), None)
