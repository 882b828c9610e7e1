"""Multiple choice is guessed with all of its choices and the right one, and nothing else is taken for it."""

import json

import pytest

from tasks.stages.ingest.columns_config import Columns
from tasks.stages.ingest.config import File
from tasks.stages.ingest.preview.examples import preview
from tasks.stages.ingest.reading.guesses.judged import guess_judged
from tasks.stages.ingest.reading.guesses.table import guess
from tests.stages.ingest.reading.guesses.rows import guessed, read


def previewed(path, columns, number=6):
    """Return the preview of a table, and that with the guess for it."""
    rows = [{name: value(n) if callable(value) else value for name, value in columns.items()} for n in range(number)]
    path.write_text("".join(json.dumps({"question": f"What is {n}?"} | row) + "\n" for n, row in enumerate(rows)))
    source = File.model_validate({"from": "file", "path": path})
    plain = preview((source,))
    guess = plain["guesses"][0]
    return plain, guess and preview((source.model_copy(update={"columns": Columns(**guess["columns"])}),))


@pytest.mark.parametrize(
    ("ends", "verdict"),
    [
        ("ab", {"winner": lambda n: "ab"[n % 2]}),
        ("ab", {"winner": lambda n: ("answer_a", "answer_b")[n % 2]}),
        ("12", {"preference": lambda n: n % 2 + 1}),
        ("01", {"better_response_id": lambda n: n % 2, "safer_response_id": 1}),  # PKU-SafeRLHF
    ],
)
def test_two_answers_of_which_one_is_preferred_are_a_pair(tmp_path, ends, verdict):
    answers = {f"answer_{end}": lambda n, end=end: f"The answer {end} to {n}." for end in ends}
    _, named = previewed(tmp_path / "a.jsonl", answers | verdict)
    assert [(row["response"], row["rejected"]) for row in named["rows"][:2]] == [
        (f"The answer {ends[0]} to 0.", f"The answer {ends[1]} to 0."),
        (f"The answer {ends[1]} to 1.", f"The answer {ends[0]} to 1."),
    ]


@pytest.mark.parametrize(
    ("ends", "verdicts"),
    [
        ("12", (-2, 1, 2, -1, 3, -3)),
        ("12", ("-2", "-1")),
        ("12", (1, 2, 3, 4, 5)),
        ("12", (1, 2, 0)),
        ("12", ("score: -2", "score: -1")),
        ("ab", ("A>B", "B>A", "A=B")),
        ("ab", ("A", "B", "A>B")),
    ],
)
def test_points_of_a_scale_name_no_better_one_of_two_answers(tmp_path, ends, verdicts):
    answers = {f"answer_{end}": lambda n, end=end: f"The answer {end} to {n}." for end in ends}
    plain, _ = previewed(tmp_path / "a.jsonl", answers | {"preference": lambda n: verdicts[n % len(verdicts)]})
    assert not any("rejected" in guess["columns"] for guess in plain["guesses"] if guess)


@pytest.mark.parametrize("ends", [("_1", "_2"), ("1", "2")])
@pytest.mark.parametrize(("column", "kind"), [("preference_strength", int), ("overall_preference", str)])
def test_the_sign_of_a_strength_prefers_one_of_two_answers(tmp_path, ends, column, kind):
    one, other = (f"response{end}" for end in ends)
    answers = {one: lambda n: f"The first answer to {n}.", other: lambda n: f"The second answer to {n}."}
    strength = {column: lambda n: kind((-2, 3, 0)[n % 3])}
    plain, named = previewed(tmp_path / "a.jsonl", answers | strength)
    assert "a tie is refused" in plain["guesses"][0]["reason"]
    assert [(row["response"], row["rejected"]) for row in named["rows"][:3]] == [
        ("The first answer to 0.", "The second answer to 0."),
        ("The second answer to 1.", "The first answer to 1."),
        ("The first answer to 3.", "The second answer to 3."),
    ]


@pytest.mark.parametrize("strengths", [(1, 2, 3, 4, 5), (0, 1, 2, 3), ("slightly", "much")])
def test_a_strength_without_a_sign_prefers_no_answer(tmp_path, strengths):
    answers = {f"answer_{end}": lambda n, end=end: f"The answer {end} to {n}." for end in "ab"}
    strength = {"preference_strength": lambda n: strengths[n % len(strengths)]}
    plain, _ = previewed(tmp_path / "a.jsonl", answers | strength)
    assert not any("rejected" in guess["columns"] for guess in plain["guesses"] if guess)
    _, named = previewed(tmp_path / "b.jsonl", answers | strength | {"winner": lambda n: "ab"[n % 2]})
    assert [row["response"] for row in named["rows"][:2]] == ["The answer a to 0.", "The answer b to 1."]


@pytest.mark.parametrize(
    "verdict",
    [
        {"winner_model_a": lambda n: n % 2, "winner_model_b": lambda n: 1 - n % 2},  # Chatbot Arena on Kaggle
        {"preference": lambda n: ("slightly the first", "much the second")[n % 2]},
    ],
)
def test_of_two_answers_none_is_taken_where_the_verdict_on_them_is_not_known(tmp_path, verdict):
    answers = {f"response_{end}": lambda n, end=end: f"The answer {end} to {n}." for end in "ab"}
    plain, _ = previewed(tmp_path / "a.jsonl", answers | verdict)
    assert plain["guesses"] == [None]


def test_an_answer_of_one_word_makes_no_other_thing_of_a_pair(tmp_path):
    answers = {f"answer_{end}": lambda n, end=end: f"{end} to {n}" if n else "Yes." for end in "ab"}
    _, named = previewed(tmp_path / "a.jsonl", answers | {"winner": lambda n: "ab"[n % 2]})
    assert [(row["response"], row["rejected"]) for row in named["rows"][:2]] == [
        ("b to 1", "a to 1"),
        ("a to 2", "b to 2"),
    ]


@pytest.mark.parametrize("verdict", [{"label": (1, 2)}, {"preference_strength": (-1, 1)}])
def test_a_question_is_no_answer_to_itself(verdict):
    rows = [
        {"question1": f"What is {n} for?", "question2": f"Why is {n}?"}
        | {name: of[n % 2] for name, of in verdict.items()}
        for n in range(6)
    ]
    assert guess_judged(rows) is None


@pytest.mark.parametrize(("verdicts", "others"), [((1, 2), (-1, -2, 11)), (("A", "B", "tie"), ("A>B", "tie"))])
def test_a_verdict_below_that_is_none_of_the_guessed_ones_is_refused(tmp_path, verdicts, others):
    answers = {f"answer_{end}": f"The answer {end}." for end in ("12" if 1 in verdicts else "ab")}
    path = tmp_path / "a.jsonl"
    plain, _ = previewed(path, answers | {"winner": lambda n: verdicts[n % len(verdicts)]})
    columns = plain["guesses"][0]["columns"]
    path.write_text("".join(json.dumps({"question": "Why?"} | answers | {"winner": other}) + "\n" for other in others))
    source = File.model_validate({"from": "file", "path": path, "columns": columns})
    assert "rejected" in columns
    assert preview((source,))["rows"] == []


def test_two_answers_alone_are_no_choices(tmp_path):
    answers = {"answer1": lambda n: f"It is {n}.", "answer2": lambda n: f"{n} it is."}
    _, named = previewed(tmp_path / "a.jsonl", answers)
    assert (named["rows"][1]["prompt"], named["rows"][1]["response"]) == ("What is 1?", "It is 1.")


@pytest.mark.parametrize(
    "options", ["a ) 38 , b ) 27 , c ) 3", '{"a": "ay", "b": "bee"}', {"text": "a) ay b) bee", "label": ["a", "b"]}]
)
def test_the_signs_of_one_text_are_no_choices(tmp_path, options):
    columns = {"options": options, "correct": lambda n: "ab"[n % 2], "reason": lambda n: f"Since {n} is so."}
    plain, _ = previewed(tmp_path / "a.jsonl", columns)
    assert plain["guesses"][0]["columns"] == {"prompt": "question", "response": "reason"}


def test_a_text_beside_lists_of_choices_is_refused(tmp_path):
    columns = {"options": lambda n: "yes, no" if n else ["yes", "no"], "correct": lambda n: "ab"[n % 2]}
    _, named = previewed(tmp_path / "a.jsonl", columns)
    assert [row["response"] for row in named["rows"]] == ["A. yes"]


@pytest.mark.parametrize(
    ("columns", "listed", "responses"),
    [
        ({"options": lambda n: {"A": "yes", "B": "no", "C": None}, "answer": lambda n: "AB"[n % 2]}, "A. yes\nB. no", ["A. yes", "B. no"]),
        ({"options": ["yes", "no", None], "target": lambda n: n % 2 + 1}, "A. yes\nB. no", ["A. yes", "B. no"]),
        ({"option1": "yes", "option2": 0, "option3": "", "answer": lambda n: n % 2 + 1}, "A. yes\nB. 0", ["A. yes", "B. 0"]),
        ({"option3": "maybe", "option2": None, "option1": "yes", "answer": lambda n: n % 2 * 2 + 1}, "A. yes\nB. maybe", ["A. yes", "B. maybe"]),
        ({"options": {"B": "bee", "A": "ay", "C": "see"}, "answer": lambda n: "AC"[n % 2]}, "A. ay\nB. bee\nC. see", ["A. ay", "C. see"]),
        ({"options": {"D": "dee", "B": None, "A": "ay", "C": "see"}, "answer": lambda n: "(A)(C)"[n % 2 * 3 :][:3]}, "A. ay\nB. see\nC. dee", ["A. ay", "B. see"]),
        ({"options": {"b": "bee", "a": "ay"}, "answer": lambda n: "AB"[n % 2]}, "A. ay\nB. bee", ["A. ay", "B. bee"]),
        ({"opt_b": "bee", "opt_a": "ay", "correct": lambda n: "AB"[n % 2]}, "A. ay\nB. bee", ["A. ay", "B. bee"]),
        ({"options": {"1": "one", "2": "two", "3": "three"}, "answer": lambda n: n % 2 + 1}, "A. one\nB. two\nC. three", ["A. one", "B. two"]),
    ],
)  # fmt: skip
def test_choices_stand_in_the_order_of_their_letters_without_those_that_are_absent(
    tmp_path, columns, listed, responses
):
    _, named = previewed(tmp_path / "a.jsonl", columns)
    assert named["rows"][0]["prompt"] == f"What is 0?\n\n{listed}"
    assert [row["response"] for row in named["rows"][:2]] == responses


def test_a_choice_that_is_absent_is_not_the_right_one(tmp_path):
    columns = {"options": {"A": "yes", "B": "no", "C": None}, "answer": lambda n: "ABC"[n % 3]}
    _, named = previewed(tmp_path / "a.jsonl", columns)
    assert (named["kept"], named["refused"]) == (4, {"columns do not fit": 2})


@pytest.mark.parametrize("numbered", ["fields", "columns"])
def test_ten_choices_and_more_are_choices(tmp_path, numbered):
    choices = {f"option_{n}": f"It is {n}." for n in range(1, 13)}
    options = {"options": {name.removeprefix("option_"): text for name, text in choices.items()}}
    columns = (options if numbered == "fields" else choices) | {"answer": lambda n: str(12 - n)}
    _, named = previewed(tmp_path / "a.jsonl", columns)
    assert named["rows"][0]["prompt"].splitlines()[2:] == [f"{'ABCDEFGHIJKL'[n]}. It is {n + 1}." for n in range(12)]
    assert [row["response"] for row in named["rows"][:3]] == ["L. It is 12.", "K. It is 11.", "J. It is 10."]


@pytest.mark.parametrize(
    "columns",
    [
        {"choice1": "one", "choice2": "two", "choice3": "three", "label": lambda n: n % 2 + 1},
        {"options": ["one", "two", "three", "four"], "answer_index": lambda n: n % 3 + 1},
    ],
)
def test_numbers_count_from_one_only_where_one_is_the_last(tmp_path, columns):
    _, named = previewed(tmp_path / "a.jsonl", columns)
    assert [row["response"] for row in named["rows"][:2]] == ["B. two", "C. three"]


def test_rows_that_are_read_without_a_guess_stay_where_it_does_not_fit(tmp_path):
    columns = {"answer": lambda n: f"zero {n}", "answer_1": lambda n: f"first {n}", "answer_2": "second"}
    plain, named = previewed(tmp_path / "a.jsonl", columns)
    assert (plain["kept"], named) == (6, None)
    fitting = columns | {"answer": lambda n: f"first {n}"}
    _, named = previewed(tmp_path / "b.jsonl", fitting)
    assert (named["kept"], named["rows"][0]["response"]) == (6, "A. first 0")


@pytest.mark.parametrize(
    ("columns", "prompt", "response"),
    [
        (  # MedQA
            {"question": lambda n: f"What is {n}?", "options": lambda n: {"A": f"a {n}", "B": f"b {n}"}, "answer": lambda n: f"b {n}"},
            "What is 3?\n\nA. a 3\nB. b 3", "B. b 3",
        ),
        (  # MedMCQA
            {"question": lambda n: f"What is {n}?", "opa": "one", "opb": "two", "opc": "three", "cop": lambda n: n % 3},
            "What is 3?\n\nA. one\nB. two\nC. three", "A. one",
        ),
        (  # WinoGrande
            {"sentence": lambda n: f"It is _, {n}.", "option1": "so", "option2": "not", "answer": lambda n: str(n % 2 + 1)},
            "It is _, 3.\n\nA. so\nB. not", "B. not",
        ),
        (  # choices that are objects
            {"question": lambda n: f"What is {n}?", "choices": [{"label": "A", "text": "one"}, {"label": "B", "text": "two"}], "answerKey": lambda n: "AB"[n % 2]},
            "What is 3?\n\nA. one\nB. two", "B. two",
        ),
        (  # an id asks nothing
            {"question_id": lambda n: f"q{n}", "text": lambda n: f"What is {n}?", "choices": ["one", "two"], "answer": lambda n: "AB"[n % 2]},
            "What is 3?\n\nA. one\nB. two", "B. two",
        ),
    ],
)  # fmt: skip
def test_choices_in_an_object_or_in_columns_are_listed(columns, prompt, response):
    answer = guessed(**columns)
    example = read({name: value(3) if callable(value) else value for name, value in columns.items()}, answer)
    assert ([message.content for message in example.messages]) == [prompt, response]


def test_a_choice_before_the_first_is_refused_where_choices_are_counted_from_one():
    columns = {"question": lambda n: f"What is {n}?", "choices": ["one", "two", "three"], "answer": lambda n: n % 3 + 1}
    row = {name: value(3) if callable(value) else value for name, value in columns.items()}
    assert read(row, guessed(**columns)).response == "A. one"
    assert read(row | {"answer": 0}, guessed(**columns)).reason == "columns do not fit"


def asked(answers):
    return [
        {"question": f"What is {n}?", "choices": ["one", "two"], "answer": answer} for n, answer in enumerate(answers)
    ]


@pytest.mark.parametrize("hidden", [None, "", -1])
@pytest.mark.parametrize("answers", [(0, 1), ("A", "B")])
def test_an_answer_that_is_hidden_is_not_the_first_choice(answers, hidden):
    _, right, none = rows = asked([*answers, hidden])
    answer = guess(rows)
    assert read(right, answer).response == "B. two"
    assert read(none, answer).reason == "columns do not fit"
    assert "multiple choice" in guess(asked([hidden] * 3)).reason


@pytest.mark.parametrize(("answers", "other"), [(("0", "1"), "B"), (("A", "B"), "AB")])
def test_an_answer_that_names_no_choice_is_not_the_first_one(answers, other):
    assert read(*asked([other]), guess(asked(answers))).reason == "columns do not fit"


@pytest.mark.parametrize(
    ("answers", "right"), [((0.0, 1.0), "B. two"), (("(A)", "(B)"), "B. two"), (("a.", "b."), "B. two")]
)
def test_numbers_of_pandas_and_letters_in_brackets_name_a_choice(answers, right):
    rows = asked(answers)
    assert read(rows[1], guess(rows)).response == right


def test_a_question_with_choices_is_no_question_without_them():
    rows = asked(["option 1", "option 2"])
    assert [read(row, guess(rows)).reason for row in rows] == ["columns do not fit"] * 2


OPTIONS = [{"id": "good", "text": "Good"}, {"id": "bad", "text": "Bad"}]


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        (
            {"options": {"lang": "en"}, "label": lambda n: ("pos", "neg")[n % 2]},
            {"prompt": "text", "response": "label"},
        ),
        ({"options": {"lang": "en", "page": "2"}, "label": lambda n: n % 2}, {"prompt": "text", "response": "label"}),
        ({"options": OPTIONS, "accept": ["good"], "answer": "accept"}, {}),  # Prodigy
    ],
)
def test_options_of_which_none_is_right_are_no_choices(columns, expected):
    assert guessed(text=lambda n: f"It rains a lot on day {n}.", **columns).columns == expected


def test_a_last_column_of_letters_names_the_right_choice_of_a_table_without_header():
    table = [[f"Which is {n}?", f"w{n}", f"x{n}", f"y{n}", f"z{n}", "ABCD"[n % 4]] for n in range(9)]
    rows = [{f"column {place}": cell for place, cell in enumerate(cells, 1)} for cells in table]
    example = read(rows[5], guess(rows))
    assert [message.content for message in example.messages] == [
        "Which is 5?\n\nA. w5\nB. x5\nC. y5\nD. z5",
        "B. x5",
    ]
    assert "multiple choice" not in guess([row | {"column 6": "E"} for row in rows]).reason
