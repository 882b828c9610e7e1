"""Guess which columns of a table make a conversation, from their names in several languages and from what they hold."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

PROMPTS = (
    "prompt", "question", "query", "instruction", "input", "user", "human", "request", "problem", "task", "ask", "source", "context",
    "frage", "anfrage", "aufgabe", "eingabe", "pregunta", "consulta", "entrada", "pergunta", "requete", "domanda", "richiesta", "vraag",
    "fraga", "pytanie", "otazka", "soru", "вопрос", "запрос", "задача", "问题", "提问", "指令", "質問", "질문", "سؤال", "प्रश्न",
)  # fmt: skip
RESPONSES = (
    "response", "answer", "completion", "output", "reply", "assistant", "target", "solution", "gpt", "bot", "result", "expected", "chosen",
    "antwort", "ausgabe", "losung", "loesung", "respuesta", "salida", "resposta", "saida", "reponse", "risposta", "antwoord", "svar",
    "odpowiedz", "odpoved", "yanit", "cevap", "ответ", "решение", "回答", "答案", "輸出", "输出", "답변", "جواب", "उत्तर",
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
    "text",
    "content",
    "sentence",
    "document",
    "body",
    "review",
    "message",
    "comment",
    "article",
    "inhalt",
    "texto",
    "texte",
    "testo",
)
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
ACCENTS = str.maketrans("áàâäãåéèêëíìîïóòôöõúùûüçñýšžřťďěůłśżź", "aaaaaaeeeeiiiiooooouuuucnyszrtdeulszz")


@dataclass(frozen=True)
class Guess:
    """The settings that fit a table, and the reason for them."""

    columns: Mapping[str, str]
    """As in `columns` of a source; empty if the table holds texts alone."""
    text: str | None
    """The column of running text for continued pretraining, where there is nothing to answer."""
    reason: str


def guess(rows: Sequence[Mapping[str, Any]]) -> Guess | None:
    """Return a guess from the first rows of a table, or None if nothing speaks for one."""
    names = _names(rows)
    for candidate in (guess_choices(rows), _named(names), _labelled(rows, names), _longest(rows, names)):
        if candidate is not None:
            return candidate
    return None


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
    prompt = (
        f"{start}{{{{ {_column(question)} }}}}\n{{% for choice in choices %}}\n"
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


def _named(names: Sequence[str]) -> Guess | None:
    prompt = _first(names, PROMPTS)
    response = _first([name for name in names if name != prompt], RESPONSES)
    if prompt is None or response is None:
        return None
    reason = f"{prompt!r} is a word for a prompt and {response!r} for a response"
    return Guess({"prompt": prompt, "response": response}, None, reason)


def _labelled(rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> Guess | None:
    label = _first(names, LABELS)
    texts = [name for name in _text_columns(rows, names) if name != label]
    if label is None or not texts:
        return None
    values = {str(row.get(label)) for row in rows}
    if len(values) > MAX_LABELS:
        return None
    text = _first(texts, TEXTS) or texts[0]
    reason = f"classification: {label!r} has {len(values)} values, {text!r} is the text"
    return Guess({"prompt": text, "response": label}, None, reason)


def _longest(rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> Guess | None:
    """Return the guess by contents: two columns of text are prompt and response in their order, one is running text."""
    texts = _text_columns(rows, names)
    if not texts:
        return None
    if len(texts) == 1 or _first(texts[:1], TEXTS):
        text = _first(texts, TEXTS) or texts[0]
        return Guess({}, text, f"{text!r} is its only column of text, so there is nothing to answer")
    prompt, response = sorted(texts[:2], key=list(names).index)
    reason = f"{prompt!r} and {response!r} have the longest texts, in this order"
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
    return name if name.isidentifier() else f'row["{name}"]'
