"""Articles with questions about their paragraphs, as in SQuAD's files: one row for each question."""

from collections.abc import Iterable, Iterator
from typing import Any

from tasks.io.sources.record import Record, Row


def by_question(records: Iterable[Record]) -> Iterator[Record]:
    """Yield the questions of articles, each with its paragraph and the other fields of its article. Any other record is yielded unchanged."""
    for record in records:
        paragraphs = record.values.get("paragraphs") if isinstance(record, Row) else None
        if isinstance(record, Row) and isinstance(paragraphs, list) and paragraphs and all(map(_is_asked, paragraphs)):
            yield from _questions(record, paragraphs)
        else:
            yield record


def _questions(record: Row, paragraphs: list[dict[str, Any]]) -> Iterator[Row]:
    of_article = {name: value for name, value in record.values.items() if name != "paragraphs"}
    for number, paragraph in enumerate(paragraphs, 1):
        of_paragraph = {name: value for name, value in paragraph.items() if name != "qas"}
        for count, question in enumerate(paragraph["qas"], 1):
            where = f"{record.where}, paragraph {number}, question {count}"
            yield Row(where, of_article | of_paragraph | question)


def _is_asked(paragraph: Any) -> bool:
    """Return True for a paragraph with a list of questions."""
    questions = paragraph.get("qas") if isinstance(paragraph, dict) else None
    return isinstance(questions, list) and all(isinstance(question, dict) for question in questions)
