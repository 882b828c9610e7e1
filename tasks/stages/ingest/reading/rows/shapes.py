"""Guess which columns of a table make a conversation, from their names in several languages and from what they hold."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tasks.core.text import templates
from tasks.stages.ingest.reading.rows.conversations import EXTRAS
from tasks.stages.ingest.reading.rows.turns import ROLES
from tasks.stages.ingest.reading.threads import moment

PROMPTS = (
    "prompt", "question", "query", "instruction", "input", "user", "human", "request", "problem", "task", "ask", "source", "context", "ctx", "inputs",
    "frage", "anfrage", "aufgabe", "eingabe", "pregunta", "consulta", "entrada", "pergunta", "requete", "domanda", "richiesta", "vraag",
    "fraga", "pytanie", "otazka", "soru", "вопрос", "запрос", "задача", "问题", "提问", "指令", "質問", "질문", "سؤال", "प्रश्न",
)  # fmt: skip
RESPONSES = (
    "response", "answer", "completion", "output", "reply", "assistant", "target", "solution", "gpt", "bot", "result", "expected", "chosen",
    "antwort", "ausgabe", "losung", "loesung", "respuesta", "salida", "resposta", "saida", "reponse", "risposta", "antwoord", "svar",
    "odpowiedz", "odpoved", "yanit", "cevap", "ответ", "решение", "回答", "答案", "輸出", "输出", "답변", "جواب", "उत्तर",
    "answers", "responses", "replies", "outputs", "antworten", "respuestas", "respostas", "reponses",
)  # fmt: skip
LABELS = (
    "label",
    "labels",
    "class",
    "category",
    "sentiment",
    "intent",
    "tag",
    "topic",
    "klasse",
    "kategorie",
    "categoria",
    "categorie",
)
TEXTS = (
    "text", "content", "sentence", "document", "body", "review", "message", "comment", "article", "dialogue", "dialog", "passage",
    "inhalt", "texto", "texte", "testo",
)  # fmt: skip
MADE = ("summary", "highlights", "tldr", "abstract", "code", "sql", "zusammenfassung", "resumen", "resume", "riassunto")
"""What is made of a text."""
ABOUT = (*EXTRAS, "article", "paragraph", "background", "schema", "kontext", "contexto", "contexte")
"""What a question is about."""
TOGETHER = (
    ("premise", "hypothesis"), ("sentence1", "sentence2"), ("text1", "text2"), ("question1", "question2"), ("title", "text"),
    ("title", "content"), ("title", "body"), ("subject", "body"),
)  # fmt: skip
"""Texts that have one label together."""
TRANSLATIONS = ("translation", "translations")
SPEAKERS = ("role", "speaker", "sender", "author", "from", "participant", "direction")
"""Who says what stands in a row."""
THREADS = ("conversation", "thread", "ticket", "session", "chat", "dialogue", "dialog", "case", "issue")
"""The conversation that a row is a message of."""
MOMENTS = ("order", "turn", "index", "position", "timestamp", "created", "sent", "time", "date")
"""When it was said."""
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
    "antwort",
    "loesung",
)
LETTERS = "ABCDEFGHIJ"
MAX_LABELS = 50
"""Distinct values beyond which a column is no label."""
FEWEST_WORDS = 3
"""Words on average below which a column is no text that was made of another."""
DEEPEST = 3
"""Lists and objects, one in the other, in which a text is looked for."""
LONG_NAME = 40
"""Characters beyond which a name of a column may be a row."""
ACCENTS = str.maketrans("áàâäãåéèêëíìîïóòôöõúùûüçñýšžřťďěůłśżź", "aaaaaaeeeeiiiiooooouuuucnyszrtdeulszz")


@dataclass(frozen=True)
class Guess:
    """The settings that fit a table, and the reason for them."""

    columns: Mapping[str, str]
    """As in `columns` of a source; empty if the table holds texts alone."""
    text: str | None
    """The column of running text for continued pretraining, where there is nothing to answer."""
    reason: str
    thread: Mapping[str, Any] | None = None
    """As in `thread` of a source, for a table of one message a row."""


def guess(rows: Sequence[Mapping[str, Any]]) -> Guess | None:
    """Return a guess from the first rows of a table, or None if nothing speaks for one."""
    names = _names(rows)
    by_names = (_threaded, _named, _made, _labelled, _longest)
    guesses = (guess_choices(rows), _translated(rows), *(by_name(rows, names) for by_name in by_names))
    return next((answer for answer in guesses if answer is not None), None)


def guess_choices(rows: Sequence[Mapping[str, Any]]) -> Guess | None:
    """Return the guess for multiple choice: a question, its choices, and the right one by number, letter or text."""
    names = _names(rows)
    question, key = _first(names, PROMPTS), _first(names, KEYS)
    choices = _first(names, CHOICES)
    if question is None or key is None or question == key:
        return None
    if choices is not None:
        listed = f'{_column(choices)}["text"]' if _is_mapping(rows, choices) else _column(choices)
        reason = f"{choices!r} holds the choices and {key!r} the right one"
    elif all(letter in names for letter in "ABC"):
        letters = [letter for letter in LETTERS if letter in names]
        listed = "[" + ", ".join(letters) + "]"
        reason = f"{', '.join(letters)} are choices and {key!r} names the right one"
    else:
        return None
    start = f"{{% set choices = {listed} %}}"
    about = _about(rows, names, (question, key))
    passage = f"{{% if {_optional(rows, about)} %}}{{{{ {_optional(rows, about)} }}}}\n\n{{% endif %}}" if about else ""
    prompt = (
        f"{start}{passage}{{{{ {_column(question)} }}}}\n{{% for choice in choices %}}\n"
        f'{{{{ "{LETTERS}"[loop.index0] }}}}. {{{{ choice }}}}{{% endfor %}}'
    )
    return Guess({"prompt": prompt, "response": start + _right_choice(rows, key)}, None, f"multiple choice: {reason}")


def _right_choice(rows: Sequence[Mapping[str, Any]], key: str) -> str:
    """Return the template of the right choice: `B. its text`."""
    values = [str(row[key]).strip() for row in rows if row.get(key) is not None]
    if values and all(value.isdigit() for value in values):
        position = f"{_column(key)} | int" if "0" in values else f"({_column(key)} | int) - 1"
    elif values and all(len(value) == 1 and value.upper() in LETTERS for value in values):
        position = f'"{LETTERS}".index(({_column(key)} | trim).upper())'
    else:
        position = f"choices.index({_column(key)})"
    return f'{{% set right = {position} %}}{{{{ "{LETTERS}"[right] }}}}. {{{{ choices[right] }}}}'


def _translated(rows: Sequence[Mapping[str, Any]]) -> Guess | None:
    """Return the guess for a column that holds one text in several languages, as data sets of translations have it."""
    name = _first(_names(rows), TRANSLATIONS)
    texts = [row[name] for row in rows if row.get(name)] if name else []
    if name is None or not texts or not all(isinstance(text, Mapping) and len(text) > 1 for text in texts):
        return None
    first, second, *_ = texts[0]
    columns = {
        side: f"{{{{ {_column(name)}[{_quoted(language)}] }}}}"
        for side, language in (("prompt", first), ("response", second))
    }
    return Guess(columns, None, f"{name!r} holds a text in {first!r} and in {second!r}, in this order")


def _threaded(rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> Guess | None:
    """Return the guess for a table of one message a row: who says what, in which conversation, and when."""
    by, speaker = _thread_columns(rows, names)
    texts = [name for name in _text_columns(rows, names) if name not in (by, speaker)]
    if by is None or speaker is None or not texts:
        return None
    speakers = {ROLES.get(str(row.get(speaker)).strip().lower()) for row in rows}
    if None in speakers or not {"user", "assistant"} <= speakers:
        return None
    content = _first(texts, TEXTS) or texts[0]
    columns = {"by": by, "role": speaker, "content": content}
    reason = f"a row is one message: {by!r} tells its conversation, {speaker!r} who says {content!r}"
    dates = [name for name in names if name not in columns.values() and _is_sorted_by(rows, name)]
    if order := _first(dates, MOMENTS):
        return Guess({}, None, f"{reason}, {order!r} when", columns | {"order": order})
    return Guess({}, None, reason, columns)


def _thread_columns(rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> tuple[str | None, str | None]:
    """Return the columns of conversation and speaker of a table of one message a row, as far as there are any."""
    speaker = _first(names, SPEAKERS)
    if speaker is None:
        return None, None
    repeated = [name for name in names if name != speaker and len({str(row.get(name)) for row in rows}) < len(rows)]
    return _first(repeated, THREADS), speaker


def _is_sorted_by(rows: Sequence[Mapping[str, Any]], name: str) -> bool:
    """Return True if the values of a column have an order: numbers alone, or dates alone."""
    try:
        return bool(sorted(moment(row.get(name)) for row in rows))
    except (TypeError, ValueError):
        return False


def _named(rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> Guess | None:
    prompt = _first(names, PROMPTS)
    response = _first([name for name in names if name != prompt], RESPONSES)
    if prompt is None or response is None:
        return None
    question, answer = _text_in(rows, prompt), _text_in(rows, response)
    if question is None or answer is None:
        return None
    about = _about(rows, names, (prompt, response))
    reason = f"{prompt!r} is a word for a prompt and {response!r} for a response"
    if about is not None:
        reason += f"; {about!r} for what it is about"
        question = question if templates.is_template(question) else f"{{{{ {_column(question)} }}}}"
        question += f"{{% if {_optional(rows, about)} %}}\n\n{{{{ {_optional(rows, about)} }}}}{{% endif %}}"
    return Guess({"prompt": question, "response": answer}, None, reason)


def _about(rows: Sequence[Mapping[str, Any]], names: Sequence[str], others: Sequence[str]) -> str | None:
    """Return the column of the text that a question is about; not every question needs one."""
    return _first([name for name in names if name not in others and _num_words(rows, name) >= FEWEST_WORDS], ABOUT)


def _text_in(rows: Sequence[Mapping[str, Any]], name: str) -> str | None:
    """Return a column of texts or numbers, or the template of the first text within its lists and objects; None where there is none."""
    value = next((row[name] for row in rows if row.get(name)), "")
    path = _column(name)
    for _ in range(DEEPEST):
        if isinstance(value, list) and value:
            value, path = value[0], f"{path}[0]"
        elif isinstance(value, Mapping) and (key := _first(list(value), (*TEXTS, *RESPONSES, *PROMPTS, "value"))):
            value, path = value[key], f"{path}[{_quoted(key)}]"
    if isinstance(value, list | Mapping):
        return None
    return name if path == _column(name) else f"{{{{ {path} }}}}"


def _made(rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> Guess | None:
    """Return the guess for a text and what was made of it, as a summary or a program."""
    texts = [name for name in _text_columns(rows, names) if _num_words(rows, name) >= FEWEST_WORDS]
    text = _first(texts, TEXTS)
    made = _first([name for name in texts if name != text], MADE)
    if text is None or made is None:
        return None
    return Guess(
        {"prompt": text, "response": made}, None, f"{text!r} is a word for a text and {made!r} for what is made of it"
    )


def _labelled(rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> Guess | None:
    label = _first(names, LABELS)
    texts = [name for name in _text_columns(rows, names) if name != label]
    if label is None or not texts or any(isinstance(row.get(label), list | Mapping) for row in rows):
        return None
    values = {str(row.get(label)) for row in rows}
    if len(values) > MAX_LABELS:
        return None
    told = f"classification: {label!r} has {len(values)} values"
    if both := next((pair for pair in TOGETHER if set(pair) <= set(texts)), None):
        prompt = "\n\n".join(f"{{{{ {name} }}}}" for name in both)
        return Guess({"prompt": prompt, "response": label}, None, f"{told}, {both[0]!r} and {both[1]!r} are the texts")
    text = _first(texts, TEXTS) or texts[0]
    return Guess({"prompt": text, "response": label}, None, f"{told}, {text!r} is the text")


def _longest(rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> Guess | None:
    """Return the guess by contents: two columns of text are prompt and response in their order, one is running text."""
    texts = _text_columns(rows, names)
    if not texts:
        return None
    if len(texts) == 1:
        reason = f"{texts[0]!r} is its only column of text, so there is nothing to answer"
        by, speaker = _thread_columns(rows, names)
        if by and speaker:
            reason += (
                f". {by!r} and {speaker!r} say that a row is one message: to train on conversations, name these columns, and who the "
                "assistant is, in `thread` of the source"
            )
        return Guess({}, texts[0], reason)
    if text := _first(texts[:1], TEXTS):
        return Guess({}, text, f"{text!r} has the longest texts, and no column is a word for an answer to them")
    prompt, response = sorted(texts[:2], key=list(names).index)
    reason = f"{prompt!r} and {response!r} have the longest texts, in this order"
    if all(len(name) > LONG_NAME for name in (prompt, response)):
        reason += ". These names are the first line of the table: if that is a row, write a line of names above it"
    return Guess({"prompt": prompt, "response": response}, None, reason)


def _names(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(name for row in rows for name in row))


def _text_columns(rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> list[str]:
    """Return the columns that hold words in most rows, those with the longest texts first."""

    def texts(name: str) -> Iterator[str]:
        return (value for row in rows if isinstance(value := row.get(name), str))

    lengths = {}
    for name in names:
        words = [text for text in texts(name) if re.search(r"[^\W\d_]{2}", text)]
        if 2 * len(words) > len(rows) and len(set(words)) > min(2, len(rows) - 1):
            lengths[name] = sum(map(len, words)) / len(words)
    return sorted(lengths, key=lambda name: -lengths[name])


def _num_words(rows: Sequence[Mapping[str, Any]], name: str) -> float:
    """Return the words of a column's texts on average."""
    counts = [len(value.split()) for row in rows if isinstance(value := row.get(name), str) and value]
    return sum(counts) / max(1, len(counts))


def _first(names: Sequence[str], words: Sequence[str]) -> str | None:
    """Return the name that is one of these words, or holds one; the exact ones first, in the order of the words."""
    plain = {name: name.strip().lower().translate(ACCENTS) for name in names}
    for word in words:
        for name, spelled in plain.items():
            if spelled == word:
                return name
    for word in words:
        for name, spelled in plain.items():
            if word in re.split(r"[\W_\d]+", spelled):
                return name
    return None


def _is_mapping(rows: Sequence[Mapping[str, Any]], name: str) -> bool:
    return any(isinstance(row.get(name), Mapping) for row in rows)


def _column(name: str) -> str:
    """Return a column as a template names it."""
    return name if name.isidentifier() else f"row[{_quoted(name)}]"


def _optional(rows: Sequence[Mapping[str, Any]], name: str) -> str:
    """Return a column as a template names it; one that some rows lack so that it is empty there."""
    return _column(name) if all(name in row for row in rows) else f"row.get({_quoted(name)})"


def _quoted(name: str) -> str:
    """Return a name as a text of a template, whatever marks it has in it."""
    return json.dumps(name, ensure_ascii=False)
