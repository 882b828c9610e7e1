"""A table without a header keeps its first row, and no header is taken for a row."""

import csv
import io

import pytest

from tasks.io.sources import table
from tasks.io.sources.formats import delimited
from tests.io.sources import strangers

QUESTIONS = [(f"What is {n} plus {n}?", f"It is {2 * n}.") for n in range(12)]
SUMS = [(f"What is {n} plus {n}?", str(2 * n)) for n in range(12)]
REVIEWS = [(f"I would buy number {n} again", ("positive", "negative", "neutral")[n % 3]) for n in range(12)]
CHINESE = [(f"{n}加{n}等于多少？", f"等于{2 * n}。") for n in range(12)]
ESSAYS = [
    (f"Write about topic {n} in a few words.", f"Topic {n} is old.\nIt began, so they say, in {n}.") for n in range(12)
]
SURVEY = [(f"2026-05-{n:02}", "Good", f"The delivery of parcel {n} was late.") for n in range(1, 12)]
WITHOUT = {
    "questions and answers": QUESTIONS,
    "questions and numbers": SUMS,
    "ids in front": [(str(n), *row) for n, row in enumerate(QUESTIONS)],
    "an empty column": [("", *row) for row in QUESTIONS],
    "texts and labels": REVIEWS,
    "labels and texts": [(label, text) for text, label in REVIEWS],
    "stars and texts": [(str(n % 5), f"It fits me in size {n}.") for n in range(12)],
    "Chinese": CHINESE,
    "several lines in a cell": ESSAYS,
    "three texts": [(*row, f"Because {n} and {n} make it.") for n, row in enumerate(QUESTIONS)],
    "exclamations": [(f"Greet guest {n} please!", f"Welcome guest {n}!") for n in range(12)],
    "times": [(f"2026-05-01 10:{n:02}:00", *row) for n, row in enumerate(QUESTIONS)],
    "three rows": QUESTIONS[:3],
    "short answers": [("Capital of France?", "Paris"), *[(f"Capital of land {n}?", f"Town {n}") for n in range(12)]],
    "short texts and labels": [
        ("Great film", "positive"),
        *[(f"Film {n} is fine", "positive") for n in range(6)],
        ("Bad", "negative"),
    ],
    "labels alone": [(("yes", "no")[n % 2], ("spam", "ham", "other")[n % 3]) for n in range(12)],
}
WITH = {
    "plain names": [("question", "answer"), *QUESTIONS],
    "no rows like them": [("text", "label"), *REVIEWS],
    "a label as a name": [("text", "positive"), *REVIEWS],
    "long names": [
        ("The question that a customer asked us", "The answer that our staff gave to the customer"),
        *QUESTIONS,
    ],
    "a survey": [("Timestamp", "How did you like it?", "Why? Please tell us in your own words."), *SURVEY],
    "questions alone": [("How did you like our shop?", "Would you come to us again?"), *[row[1:] for row in SURVEY]],
    "years": [("2019", "2020", "2021"), *[(str(n), str(n + 1), str(n + 2)) for n in range(12)]],
    "numbers below names": [("id", "value"), *[(str(n), str(n * n)) for n in range(12)]],
    "numbers alone": [(str(n), str(n * n)) for n in range(12)],
    "an index without a name": [("", "prompt", "completion"), *[(str(n), *row) for n, row in enumerate(QUESTIONS)]],
    "joined files": [("prompt", "completion"), *QUESTIONS[:6], ("prompt", "completion"), *QUESTIONS[6:]],
    "one row": [("question", "answer"), QUESTIONS[0]],
    "a question as a name": [("Question?", "Answer"), *QUESTIONS],
    "words for sentences": [("Abbr.", "Meaning"), *[(f"A{n}c.", f"Alphabetic {n}") for n in range(12)]],
    "numbers with dots": [("No.", "Name"), *[(f"{n}.", f"Name {n}") for n in range(12)]],
    "marked choices": [("Mail", "Post"), *[("Mail" if n % 2 else "", "Post" if n % 3 else "") for n in range(12)]],
    "a label below longer texts": [("review", "positive"), *REVIEWS],
    "names alone": [("question", "answer")],
    "Chinese": [("问题", "答案"), *CHINESE],
}


def written(rows, delimiter):
    text = io.StringIO()
    csv.writer(text, delimiter=delimiter, lineterminator="\n").writerows(rows)
    return text.getvalue()


def read(path):
    return [record.values for record in table.rows(path)]


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("rows", WITHOUT.values(), ids=WITHOUT)
def test_a_table_without_a_header_keeps_its_first_row(tmp_path, monkeypatch, rows, delimiter):
    path = tmp_path / "a.csv"
    path.write_text(written(rows, delimiter))
    names = [f"column {number}" for number in range(1, len(rows[0]) + 1)]
    assert read(path) == [dict(zip(names, [cell or None for cell in row], strict=True)) for row in rows]
    assert "no header" in table.describe(path)
    monkeypatch.setattr(delimited, "BLOCK", 100)
    records = [record for block in table.blocks(path) for record in block.records(path)]
    assert records == list(table.rows(path))
    assert records[0].where == "line 1"


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("rows", WITH.values(), ids=WITH)
def test_no_header_is_taken_for_a_row(tmp_path, rows, delimiter):
    path = tmp_path / "a.csv"
    path.write_text(written(rows, delimiter))
    assert len(read(path)) == len(rows) - 1
    assert "no header" not in table.describe(path)


def test_a_sheet_without_a_header_keeps_its_first_row(tmp_path):
    path = tmp_path / "a.xlsx"
    path.write_bytes(strangers.workbook(QUESTIONS))
    assert [tuple(values.values()) for values in read(path)] == QUESTIONS
    assert list(read(path)[0]) == ["column 1", "column 2"]
    assert [record.where for record in table.rows(path)][:2] == ["row 1", "row 2"]
    same = [("It is so, they say.", "It is so, they say."), *QUESTIONS[1:]]
    path.write_bytes(strangers.workbook([(answer, answer) for _, answer in same]))
    assert [tuple(values.values()) for values in read(path)] == [(answer, answer) for _, answer in same]
    path.write_bytes(strangers.workbook([("question", "answer"), *QUESTIONS]))
    assert [tuple(values.values()) for values in read(path)] == QUESTIONS


@pytest.mark.parametrize("name", ["a.csv", "a.xlsx"])
def test_a_person_has_the_last_word_on_the_header(tmp_path, monkeypatch, name):
    path = tmp_path / name
    for rows in (QUESTIONS, [("question", "answer"), *QUESTIONS]):
        path.write_bytes(strangers.workbook(rows) if name == "a.xlsx" else written(rows, ",").encode())
        below = [dict(zip(rows[0], row, strict=True)) for row in rows[1:]]
        every = [dict(zip(("column 1", "column 2"), row, strict=True)) for row in rows]
        assert [record.values for record in table.rows(path, header=True)] == below
        assert [record.values for record in table.rows(path, header=False)] == every
    if name == "a.csv":
        assert ("no header" in table.describe(path), "no header" in table.describe(path, header=False)) == (False, True)
        monkeypatch.setattr(delimited, "BLOCK", 100)
        blocks = table.blocks(path, header=False)
        assert [record.values for block in blocks for record in block.records(path)] == every


def test_only_some_formats_may_lack_a_header(tmp_path):
    for name, text, may in (
        ("a.csv", "a,b\n1,2\n", True),
        ("a.jsonl", '{"a": 1}\n', False),
        ("a.gz", "\x1f\x8b", False),
    ):
        (tmp_path / name).write_text(text, encoding="latin-1")
        assert table.may_lack_header(tmp_path / name) == may


@pytest.mark.parametrize(
    ("lines", "is_table"),
    [
        (
            [f"[{day:02}/01/24, 10:00:00] {'Ann' if day % 2 else 'Bob'}: It is day {day}." for day in range(1, 20)],
            False,
        ),
        ([f"Rose {n} is red, violet {n} is blue" for n in range(9)], False),
        ([f"2026-05-01 10:00:{n:02} | INFO | step {n}" for n in range(9)], False),
        ([",".join(row) for row in SUMS], False),
        (["cat,chat", "dog,chien", "bird,oiseau"], False),
        ([f'"{question}","{answer}"' for question, answer in QUESTIONS], True),
        (["\t".join(row) for row in QUESTIONS], True),
        (["question,answer", *(f"What is {n} + {n}?,{2 * n}" for n in range(9))], True),
        (["en;fr", "cat;le chat", "dog;le chien"], True),
    ],
)
@pytest.mark.parametrize("name", ["a.txt", "a.log", "a"])
def test_lines_of_texts_are_no_table_by_their_commas(tmp_path, lines, is_table, name):
    path = tmp_path / name
    path.write_text("\n".join(lines) + "\n")
    assert table.describe(path).startswith("CSV" if is_table else "text")
    path.rename(tmp_path / "a.csv")
    assert table.describe(tmp_path / "a.csv").startswith("CSV")
