"""Words for the columns of tables, and their names as templates write them."""

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
ABOUT = (*EXTRAS, "premise", "article", "paragraph", "background", "story", "schema", "kontext", "contexto", "contexte")
"""What a question is about."""
WEAK = ("input", "inputs", "context", "ctx", "source", "task")
"""Words for a prompt that stand for other things where instructions are there."""
INSTRUCTIONS = ("instructions",)
"""What a row asks, or what holds for all rows and is no prompt."""
IDS = ("id", "ids", "uuid", "hash", "index")
VALUES = ("date", "time", "url", "name")
MEASURES = ("count", "at", "rank", "score", "length", "tokens")
FACTS = (*IDS, *VALUES, *MEASURES)
"""What is known of a thing, and is not the thing. Those of `VALUES` may be what a question asks for."""
CODE = r"[!-~]*\d[!-~]*"
"""A name of a thing, such as a UUID, a date, an address: characters of ASCII without a space, and a digit among them."""
FEWEST_WORDS = 3
"""Words on average below which a column is no text that was made of another."""
HUMP = re.compile(r"(?<=[a-z\d])(?=[A-Z])")
"""Where a word begins within a name such as `botReply`."""
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


def names_of(rows: Rows) -> list[str]:
    """Return the columns of some rows, in their order."""
    return list(dict.fromkeys(name for row in rows for name in row))


def first_named(names: Sequence[str], words: Sequence[str]) -> str | None:
    """Return the name that is one of these words, or holds one; the exact ones first, in the order of the words."""
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
    """Return the words of a name in small letters and without accents, whether signs, digits or capitals part them."""
    return re.split(r"[\W_\d]+", HUMP.sub(" ", name.strip()).lower().translate(ACCENTS))


def is_about(name: str, facts: Sequence[str] = FACTS) -> bool:
    """Return True for a name of several words that ends in what is known of a thing, as `user_id` and `answer_count`."""
    spelled = re.split(r"[\W_]+", HUMP.sub(" ", name).lower())
    return len(spelled) > 1 and spelled[-1] in facts


def topic_of(rows: Rows, names: Sequence[str], others: Sequence[str]) -> str | None:
    """Return the column of the text that a question is about, or that instructions are for; not every question needs one.

    The question is the first of the other columns.
    """
    told = [name for name in names if name not in others]
    texts = [name for name in told if num_words(rows, name) >= FEWEST_WORDS]
    about = first_named(texts, ABOUT)
    if about is None and first_named(others[:1], INSTRUCTIONS):
        inputs = [name for name in told if name in EXTRAS and num_words(rows, name)]
        about = first_named(inputs, EXTRAS) or first_named(text_columns(rows, texts), (*TEXTS, *WEAK))
    return about


def asked(rows: Rows, columns: Sequence[str], question: str) -> tuple[str, str | None]:
    """Return a question, the column or template in the first of some columns, with what it is about below it, and the column of that."""
    about = topic_of(rows, names_of(rows), columns)
    if about is None:
        return question, None
    text = optional(rows, about)
    if not templates.is_template(question):
        question = f"{{{{ {as_expression(question)} }}}}"
    return f"{question}{{% if {text} %}}\n\n{{{{ {text} }}}}{{% endif %}}", about


def prompt_of(rows: Rows, names: Sequence[str]) -> str | None:
    """Return the column of prompts by its name, or that of instructions: those that hold for all rows ask nothing."""
    prompt = first_named(names, PROMPTS)
    if prompt is not None and not first_named([prompt], WEAK):
        return prompt
    return first_named(text_columns(rows, names, fewest=2), INSTRUCTIONS) or prompt


def num_words(rows: Rows, name: str) -> float:
    """Return the words of a column's texts on average."""
    counts = [len(value.split()) for row in rows if isinstance(value := row.get(name), str) and value]
    return sum(counts) / max(1, len(counts))


def as_expression(name: str) -> str:
    """Return a column as a template names it."""
    return name if name.isidentifier() else f"row[{quoted(name)}]"


def optional(rows: Rows, name: str) -> str:
    """Return a column as a template names it; one that some rows lack so that it is empty there."""
    return as_expression(name) if all(name in row for row in rows) else f"row.get({quoted(name)})"


def quoted(name: str) -> str:
    """Return a name as a text of a template, whatever marks it has in it."""
    return json.dumps(name, ensure_ascii=False)


def text_columns(rows: Rows, names: Sequence[str], code: str = CODE, fewest: int = 3) -> list[str]:
    """Return the columns that hold words in most rows, the fewest texts or more, those with the longest first. What matches `code` is no word."""

    def texts(name: str) -> Iterator[str]:
        return (value for row in rows if isinstance(value := row.get(name), str))

    lengths = {}
    for name in names:
        words = [text for text in texts(name) if re.search(r"[^\W\d_]{2}", text) and not re.fullmatch(code, text)]
        if 2 * len(words) > len(rows) and len(set(words)) >= min(fewest, len(rows)):
            lengths[name] = sum(map(len, words)) / len(words)
    return sorted(lengths, key=lambda name: -lengths[name])
