"""Words for the columns of tables, and expressions for columns in templates."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tasks.core.text import templates
from tasks.stages.ingest.reading.rows.conversations import EXTRAS

Rows = Sequence[Mapping[str, Any]]
PROMPTS = (
    "prompt", "question", "questions", "query", "instruction", "input", "user", "human", "request", "problem", "task", "ask", "source", "context", "ctx", "inputs",
    "frage", "anfrage", "aufgabe", "eingabe", "pregunta", "consulta", "entrada", "pergunta", "requete", "domanda", "richiesta", "vraag",
    "fraga", "pytanie", "otazka", "soru", "вопрос", "запрос", "задача", "问题", "提问", "指令", "質問", "질문", "سؤال", "प्रश्न",
)  # fmt: skip
RESPONSES = (
    "response", "answer", "completion", "output", "reply", "assistant", "target", "solution", "gpt", "bot", "result", "expected", "chosen",
    "antwort", "ausgabe", "losung", "loesung", "respuesta", "salida", "resposta", "saida", "reponse", "risposta", "antwoord", "svar",
    "odpowiedz", "odpoved", "yanit", "cevap", "ответ", "решение", "回答", "答案", "輸出", "输出", "답변", "جواب", "उत्तर",
    "answers", "responses", "completions", "replies", "outputs", "targets", "resolution", "antworten", "respuestas", "respostas", "reponses",
)  # fmt: skip
TEXTS = (
    "utterance", "text", "content", "sentence", "document", "documentation", "docstring", "body", "review", "message", "comment", "article", "dialogue", "dialog", "passage",
    "inhalt", "texto", "texte", "testo",
)  # fmt: skip
TOGETHER = (
    ("instructions", "text"), ("instructions", "document"), ("premise", "hypothesis"), ("sentence1", "sentence2"), ("text1", "text2"), ("question1", "question2"), ("title", "text"),
    ("title", "content"), ("title", "body"), ("subject", "body"),
)  # fmt: skip
"""Texts that have one label together."""
ABOUT = (*EXTRAS, "premise", "article", "paragraph", "background", "story", "schema", "kontext", "contexto", "contexte")
"""Words for a text that a question is about."""
WEAK = ("input", "inputs", "context", "ctx", "source", "task")
"""Words for a prompt that mean something else if there is a column of instructions."""
INSTRUCTIONS = ("instructions",)
"""Words for the request of a row, or for a text that is the same in all rows and so is no prompt."""
IDS = ("id", "ids", "uuid", "hash", "index")
VALUES = ("date", "time", "url", "name")
MEASURES = ("count", "at", "rank", "score", "length", "tokens")
FACTS = (*IDS, *VALUES, *MEASURES)
"""Words for a property of a thing, such as its id or date, and not for the thing. A question may ask for those in `VALUES`."""
CODE = r"[!-~]*\d[!-~]*"
"""Matches an identifier such as a UUID, a date or an address: ASCII characters without a space, at least one of them a digit."""
DEEPEST = 3
"""Deepest nesting of lists and objects in which a text is searched."""
FEWEST_WORDS = 3
"""Fewest words, on average, of a column that may be a text derived from another."""
HUMP = re.compile(r"(?<=[a-z\d])(?=[A-Z])")
"""Matches the beginning of a word inside a name such as `botReply`."""
ACCENTS = str.maketrans("áàâäãåéèêëíìîïóòôöõúùûüçñýšžřťďěůłśżź", "aaaaaaeeeeiiiiooooouuuucnyszrtdeulszz")


@dataclass(frozen=True)
class Guess:
    """The settings that fit a table, and the reason for them."""

    columns: Mapping[str, str]
    """The setting `columns` of a source; empty if the table holds only texts."""
    text: str | None
    """The column of running text for continued pretraining, if there is nothing to answer."""
    reason: str
    thread: Mapping[str, Any] | None = None
    """The setting `thread` of a source, for a table with one message in each row."""


def parsed(value: Any) -> Any:
    """Return the object or list in a text that is JSON; None for any other value."""
    if isinstance(value, str) and value.lstrip()[:1] in ("{", "["):
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return None
    return None


def names_of(rows: Rows) -> list[str]:
    """Return the columns of some rows, in their order."""
    return list(dict.fromkeys(name for row in rows for name in row))


def first_named(names: Sequence[str], words: Sequence[str]) -> str | None:
    """Return the first name that equals one of these words, else the first that contains one, in the order of the words."""
    for word in words:
        for name in names:
            if name.strip().lower().translate(ACCENTS) == word:
                return name
    spelled = {name: words_of(name) for name in names}
    for word in words:
        for name in names:
            if word in spelled[name]:
                return name
    return None


def words_of(name: str) -> list[str]:
    """Return the words of a name in lower case and without accents. Signs, digits or capitals may separate them."""
    return re.split(r"[\W_\d]+", HUMP.sub(" ", name.strip()).lower().translate(ACCENTS))


def is_about(name: str, facts: Sequence[str] = FACTS) -> bool:
    """Return True for a name of several words whose last word is a property of a thing, such as `user_id` and `answer_count`."""
    spelled = re.split(r"[\W_]+", HUMP.sub(" ", name).lower())
    return len(spelled) > 1 and spelled[-1] in facts


def topic_of(rows: Rows, names: Sequence[str], others: Sequence[str]) -> str | None:
    """Return the column of the text that a question is about, or that instructions refer to; None if there is no such column.

    The first of `others` is the column of the question.
    """
    told = [name for name in names if name not in others]
    texts = [name for name in told if num_words(rows, name) >= FEWEST_WORDS]
    about = first_named(texts, ABOUT)
    if about is None and first_named(others[:1], INSTRUCTIONS):
        inputs = [name for name in told if name in EXTRAS and num_words(rows, name)]
        about = first_named(inputs, EXTRAS) or first_named(text_columns(rows, texts), (*TEXTS, *WEAK))
    return about


def asked(rows: Rows, columns: Sequence[str], question: str) -> tuple[str, str | None]:
    """Return the template of a question followed by the text that it is about, and the column of that text.

    `question` is the column or template of the first of `columns`. It is returned unchanged, with None, if there is no such text.
    """
    about = topic_of(rows, names_of(rows), columns)
    if about is None:
        return question, None
    text = optional(rows, about)
    if not templates.is_template(question):
        question = f"{{{{ {as_expression(question)} }}}}"
    return f"{question}{{% if {text} %}}\n\n{{{{ {text} }}}}{{% endif %}}", about


def prompt_of(rows: Rows, names: Sequence[str]) -> str | None:
    """Return the column of prompts by its name, or the column of instructions unless they are the same in all rows."""
    prompt = first_named(names, PROMPTS)
    if prompt is not None and not first_named([prompt], WEAK):
        return prompt
    return first_named(text_columns(rows, names, fewest=2), INSTRUCTIONS) or prompt


def num_words(rows: Rows, name: str) -> float:
    """Return the average number of words in a column's texts."""
    counts = [len(value.split()) for row in rows if isinstance(value := row.get(name), str) and value]
    return sum(counts) / max(1, len(counts))


def as_expression(name: str) -> str:
    """Return the template expression for a column."""
    return name if name.isidentifier() else f"row[{quoted(name)}]"


def optional(rows: Rows, name: str) -> str:
    """Return the template expression for a column, which is empty in rows that lack the column."""
    return as_expression(name) if all(name in row for row in rows) else f"row.get({quoted(name)})"


def quoted(name: str) -> str:
    """Return a name as a string literal of a template, with its quotation marks escaped."""
    return json.dumps(name, ensure_ascii=False)


def text_columns(rows: Rows, names: Sequence[str], code: str = CODE, fewest: int = 3) -> list[str]:
    """Return the columns that hold words in most rows and at least `fewest` different texts, the column with the longest texts first.

    A text that matches `code` does not count.
    """

    def texts(name: str) -> Iterator[str]:
        return (value for row in rows if isinstance(value := row.get(name), str))

    lengths = {}
    for name in names:
        words = [text for text in texts(name) if re.search(r"[^\W\d_]{2}", text) and not re.fullmatch(code, text)]
        if 2 * len(words) > len(rows) and len(set(words)) >= min(fewest, len(rows)):
            lengths[name] = sum(map(len, words)) / len(words)
    return sorted(lengths, key=lambda name: -lengths[name])


def text_in(rows: Rows, name: str) -> str | None:
    """Return a column of texts or numbers, or the template of the first text within its lists and objects; None if there is none.

    A column that is empty in the first rows, such as unknown answers, may hold a text in later rows.
    """
    values = [row[name] for row in rows if row.get(name)]
    paths = (_path_to_text(value, as_expression(name)) for value in values)
    path = next((path for path in paths if path is not None), None) if values else as_expression(name)
    return name if path == as_expression(name) else path and f"{{{{ {path} }}}}"


def _path_to_text(value: Any, path: str) -> str | None:
    """Return the path of the first text or number within a value. `path` is the path of the value."""
    for _ in range(DEEPEST):
        if isinstance(value, list) and value:
            value, path = value[0], f"{path}[0]"
        elif isinstance(value, Mapping) and (key := first_named(list(value), (*TEXTS, *RESPONSES, *PROMPTS, "value"))):
            value, path = value[key], f"{path}[{quoted(key)}]"
    return None if isinstance(value, list | Mapping) else path
