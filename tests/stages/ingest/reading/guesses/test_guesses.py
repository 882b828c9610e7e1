"""Conversations in lists and objects are guessed, and the guess reads them."""

import json

import pytest

from tasks.core.records import Example
from tasks.stages.ingest.reading.guesses.table import guess
from tests.stages.ingest.reading.guesses.rows import guessed, read

TALK = [("user", "Why so?"), ("assistant", "It is <so>."), ("user", "Is it?"), ("assistant", 'Yes, "it" is.')]
SAID = [text for _, text in TALK]
ASKED, ANSWERED = SAID[::2], SAID[1::2]


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"id": "7", "data": SAID}, "'data' holds texts that two sides say in turn"),  # UltraChat
        ({"dialog": [*SAID, "And then?"], "act": [1, 2, 1, 2, 1]}, "'dialog' holds texts"),  # DailyDialog
        ({"turns": {"speaker": [0, 1, 0, 1], "utterance": SAID}}, "'turns' holds texts"),  # MultiWOZ
        ({"conversation": [{"input": q, "output": a} for q, a in zip(ASKED, ANSWERED, strict=True)]}, "pairs of 'input'"),
        ({"items": [{"human": q, "assistant": a} for q, a in zip(ASKED, ANSWERED, strict=True)]}, "pairs of 'human'"),
        ({"turns": ASKED, "reference": ANSWERED}, "'turns' holds questions and 'reference' their answers"),  # MT-Bench
        ({"questions": ASKED, "answers": {"input_text": ANSWERED, "answer_start": [0, 1]}}, "'answers' their answers"),
    ],
)  # fmt: skip
def test_the_turns_of_a_list_are_read(row, words):
    answer = guess([row] * 5)
    assert words in answer.reason
    example = read(row, answer)
    assert isinstance(example, Example), example
    assert [(message.role, message.content) for message in example.messages] == TALK


def test_the_story_stands_above_the_first_question():
    row = {"source": "wikipedia", "story": "It is so, they say.", "questions": ASKED, "answers": ANSWERED}
    example = read(row, guess([row] * 5))
    assert [message.content for message in example.messages if message.role == "user"] == [
        f"It is so, they say.\n\n{ASKED[0]}",
        ASKED[1],
    ]


@pytest.mark.parametrize(
    "row",
    [
        {"text": "It rains a lot here.", "tags": ["a b", "c d"]},
        {"text": "It rains a lot here.", "data": ["rain", "here"]},
        {"text": "It rains a lot here.", "questions": ASKED, "answers": ANSWERED[:1]},
        {"text": "It rains a lot here.", "turns": []},
        {"name": "It rains a lot here.", "text": ["It rains .", "So it is ."], "label": 1},
    ],
)
def test_other_lists_are_no_conversations(row):
    answer = guess([row | {"text": f"It rains on day {n}."} for n in range(5)])
    assert "messages" not in answer.columns


# --- by names ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        (  # CommitPack: of the pairs of columns, the one with the longer texts
            {"old_file": "a.py", "new_file": "a.py", "old_contents": lambda n: f"x = {n}", "new_contents": lambda n: f"x = {n} + 1", "message": lambda n: f"Add one to {n}"},
            {"prompt": "{{ message }}\n\n{{ old_contents }}", "response": "new_contents"},
        ),
        (  # Stack Exchange
            {"question": lambda n: f"Why, {n}?", "response_j": "Because it is.", "response_k": "No idea at all."},
            {"prompt": "question", "response": "response_j", "rejected": "response_k"},
        ),
        (  # NuminaMath: how, and not the result alone
            {"problem": lambda n: f"What is {n} + {n}?", "solution": lambda n: f"Twice {n} is what we want: {2 * n}.", "answer": lambda n: str(2 * n)},
            {"prompt": "problem", "response": "solution"},
        ),
        (  # CodeSearchNet
            {"func_documentation_string": lambda n: f"Return the number {n}.", "func_code_string": lambda n: f"def f(): return {n}"},
            {"prompt": "func_documentation_string", "response": "func_code_string"},
        ),
        (  # Spider: what is asked, whichever column comes first
            {"query": lambda n: f"SELECT {n} FROM t", "question": lambda n: f"How many of {n} are there?"},
            {"prompt": "question", "response": "query"},
        ),
        (  # a helpdesk
            {"subject": lambda n: f"Problem {n}", "body": lambda n: f"It does not print page {n}.", "reply": lambda n: f"Switch printer {n} on, please."},
            {"prompt": "body", "response": "reply"},
        ),
        (  # Prodigy: a hash asks nothing
            {"text": lambda n: f"It rains on day {n}.", "_input_hash": lambda n: n, "label": lambda n: "AB"[n % 2], "answer": "accept"},
            {"prompt": "text", "response": "label"},
        ),
        (  # MoleculeNet: of a label and codes alone, the codes are what it labels, but no ids
            {"mol_id": lambda n: f"TOX{n}-long-name-of-a-molecule", "smiles": lambda n: f"CC(=O)OC{n}=CC", "label": lambda n: ("toxic", "safe", "unknown")[n % 3]},
            {"prompt": "smiles", "response": "label"},
        ),
        (  # Aya
            {"inputs": lambda n: f"Why is it {n}?", "targets": lambda n: f"It is {n}.", "language_code": "eng"},
            {"prompt": "inputs", "response": "targets"},
        ),
        (  # names with capitals
            {"userId": lambda n: f"u{n}", "userMessage": lambda n: f"Why, {n}?", "botReply": lambda n: f"So it is {n}.", "replyDate": "2026-03-01"},
            {"prompt": "userMessage", "response": "botReply"},
        ),
        (  # SWE-bench: what is asked, whichever column comes first
            {"patch": lambda n: f"+ a = {n} * b of course", "problem_statement": lambda n: f"It breaks at {n}."},
            {"prompt": "problem_statement", "response": "patch"},
        ),
        (  # what is known of an answer is the answer where there is no other
            {"question": lambda n: f"When was number {n} born?", "question_id": lambda n: f"q{n}", "answer_date": lambda n: f"1969-03-{n + 1:02d}"},
            {"prompt": "question", "response": "answer_date"},
        ),
    ],
)  # fmt: skip
def test_the_columns_that_are_meant_are_guessed(columns, expected):
    assert guessed(**columns).columns == expected


def test_an_answer_is_found_though_the_first_rows_have_none():
    """SQuAD 2: without it the question was taken for the answer."""
    rows = [
        {
            "context": f"It was in the year {n}.",
            "question": f"When, {n}?",
            "answers": {"text": [str(n)] if n > 1 else []},
        }
        for n in range(6)
    ]
    answer = guess(rows)
    assert read(rows[2], answer).response == "2"
    assert read(rows[0], answer).reason == "columns do not fit"


@pytest.mark.parametrize(
    "columns",
    [
        {"context": lambda n: f"It was in the year {n}, they say.", "question": lambda n: f"When was {n}?"},
        {"instruction": lambda n: f"Sum up page {n}.", "input": lambda n: f"This is the page {n}."},
        {"passage": lambda n: f"It was in {n}, they say.", "question": lambda n: f"When is {n}?", "answers_spans": {"spans": ["so"]}},
        {"question": lambda n: f"What does country {n} speak?", "country_code": lambda n: ("de", "fr")[n % 2]},
    ],
)  # fmt: skip
def test_questions_and_codes_answer_nothing(columns):
    answer = guessed(**columns)
    assert answer is None or answer.text == "question"


def test_prompt_and_response_in_an_object_are_guessed():
    rows = [
        {"id": str(n), "fields": {"prompt": f"Why, {n}?", "response": f"Because, {n}."}, "metadata": {}}
        for n in range(9)
    ]
    answer = guess(rows)
    assert answer.columns == {"prompt": '{{ fields["prompt"] }}', "response": '{{ fields["response"] }}'}
    assert read(rows[3], answer).response == "Because, 3."


@pytest.mark.parametrize("verdicts", [("model_a", "model_b"), ("A", "B"), ("response-a", "response-b")])
def test_the_better_one_of_two_answers_is_read(verdicts):
    rows = [
        {"prompt": f"Why, {n}?", "response_a": f"It is {n}.", "response_b": "No idea.", "winner": verdicts[n % 2]}
        for n in range(6)
    ]
    answer = guess(rows)
    even, odd = (read(row, answer) for row in rows[:2])
    assert (even.response, even.rejected) == ("It is 0.", "No idea.")
    assert (odd.response, odd.rejected) == ("No idea.", "It is 1.")
    assert read(rows[0] | {"winner": "tie"}, answer).reason == "columns do not fit"


@pytest.mark.parametrize(("field", "values"), [("overall_score", (5.0, 7.5, 1)), ("rank", (2, 1, 3))])
def test_the_best_and_the_worst_of_scored_answers_are_read(field, values):
    texts = ("It may be.", "It is so.", "No idea.")
    completions = [{"model": "m", "response": text, field: value} for text, value in zip(texts, values, strict=True)]
    row = {"source": "x", "instruction": "Why is it?", "completions": completions, "correct_answers": ["None"]}
    example = read(row, guess([row] * 5))
    assert (example.response, example.rejected) == ("It is so.", "No idea.")
    tie = row | {"completions": [{**completion, field: 3} for completion in completions]}
    assert read(tie, guess([row] * 5)).reason == "columns do not fit"


@pytest.mark.parametrize(("answers", "scores", "values"), [("responses", "scores", (0.2, 0.9, 0.1)), ("responses", "ranks", (2, 1, 3)), ("completions", "rewards", (1, 2, 0))])  # fmt: skip
def test_the_best_and_the_worst_by_a_list_of_scores_are_read(answers, scores, values):
    rows = [
        {"prompt": f"Why is it {n}?", answers: [f"It may be {n}.", f"It is {n}.", "No idea."], scores: [*values]}
        for n in range(6)
    ]
    answer = guess(rows)
    assert f"{scores!r} holds the scores of {answers!r}" in answer.reason
    example = read(rows[0], answer)
    assert (example.response, example.rejected) == ("It is 0.", "No idea.")
    assert read(rows[0] | {scores: [1, 1, 1]}, answer).reason == "columns do not fit"
    assert read(rows[0] | {scores: [1, 2]}, answer).reason == "columns do not fit"
    assert guess([row | {scores: [*values, 4]} for row in rows]) is None


@pytest.mark.parametrize("name", ["responses", "completions"])
@pytest.mark.parametrize("wrap", [str, lambda text: {"text": text}])
def test_of_answers_without_scores_the_first_one_is_taken_and_it_is_said(name, wrap):
    rows = [{"prompt": f"Why is it {n}?", name: [wrap(f"It is {n}."), wrap("No idea.")]} for n in range(6)]
    answer = guess(rows)
    assert read(rows[2], answer).response == "It is 2."
    assert f"Some rows of {name!r} hold several answers, and the first one is taken" in answer.reason
    assert "several" not in guess([row | {name: row[name][:1]} for row in rows]).reason


def test_calls_beside_a_question_and_tools_are_calls():
    tools = json.dumps([{"name": "weather", "description": "It.", "parameters": {"city": {"type": "str"}}}])
    calls = [{"name": "weather", "arguments": {"city": "Rome"}}, {"name": "weather", "arguments": {"city": "Oslo"}}]
    for answers in (json.dumps(calls), calls):
        row = {"id": 1, "query": 'How is "it"?', "tools": tools, "answers": answers}
        example = read(row, guess([row] * 5))
        assert [(call.name, json.loads(call.arguments)["city"]) for call in example.messages[-1].tool_calls] == [
            ("weather", "Rome"),
            ("weather", "Oslo"),
        ]
        assert json.loads(example.tools)[0]["function"]["name"] == "weather"


@pytest.mark.parametrize("wrap", [lambda text: [text], str])
def test_what_a_person_wrote_on_an_answer_is_the_answer(wrap):
    def result(text):
        return {"from_name": "answer", "type": "textarea", "value": {"text": wrap(text)}}

    rows = [
        {"id": n, "data": {"prompt": f"Why is it {n}?", "response": "A guess."}, "annotations": [{"result": [result(f"It is {n}.")]}]}
        for n in range(6)
    ]  # fmt: skip
    answer = guess(rows)
    assert read(rows[2], answer).response == "It is 2."
    assert read(rows[2] | {"annotations": []}, answer).reason == "columns do not fit"
    rows[0]["annotations"][0]["result"].append(result("Or so."))
    assert guess(rows) is None


@pytest.mark.parametrize("name", ["instructions", "written_question"])
def test_the_id_of_a_prompt_is_not_asked(name):
    answers = [{"text": "It is so.", "score": 2}, {"text": "No idea.", "score": 1}]
    rows = [{"prompt_id": f"p{n}", name: f"Why is it {n}?", "answers": answers} for n in range(5)]
    example = read(rows[1], guess(rows))
    assert [message.content for message in example.messages] == ["Why is it 1?", "It is so."]


SAME = "Be kind and brief in all that you say."


@pytest.mark.parametrize(
    ("columns", "prompt"),
    [
        ({"instructions": SAME, "user": lambda n: f"Why {n}?", "assistant": "So it is."}, "user"),
        ({"instructions": lambda n: f"{SAME} {n}", "request": lambda n: f"Why {n}?", "reply": "So it is."}, "request"),
        ({"instructions": SAME, "text": lambda n: f"It rains {n}.", "target": lambda n: f"Es regnet {n}."}, "text"),
        ({"instructions": SAME, "text": lambda n: f"It rains {n}.", "options": ["no", "yes"], "answer": "yes"}, "text"),
        ({"instructions": lambda n: f"Say {n}.", "output": lambda n: str(n)}, "instructions"),
        ({"instructions": lambda n: f"Say {n}.", "output": lambda n: str(n), "source": "sharegpt"}, "instructions"),
        ({"instructions": lambda n: f"Say {n}.", "response": lambda n: f"It is {n}.", "task": "qa"}, "instructions"),
    ],
)  # fmt: skip
def test_instructions_that_hold_for_all_rows_are_not_asked_and_none_beside_a_prompt(columns, prompt):
    asked = guessed(**columns).columns["prompt"]
    assert asked == prompt or f"{{{{ {prompt} }}}}" in asked
    assert prompt == "instructions" or "instructions" not in asked


TWICE = {"instructions": lambda n: ("Translate it.", "Shorten it.")[n % 2]}
VARIED = {"instructions": lambda n: f"Cut it to {n} words."}
PAIR = {"response_a": lambda n: f"It is {n}.", "response_b": "No idea.", "winner": lambda n: "ab"[n % 2]}


@pytest.mark.parametrize(
    ("columns", "text", "response"),
    [
        (TWICE | {"response": lambda n: f"So it is {n}."}, "context", "So it is 0."),
        (TWICE | {"response": lambda n: f"So it is {n}."}, "source", "So it is 0."),
        (VARIED | {"response": lambda n: f"So it is {n}."}, "document", "So it is 0."),
        (VARIED | {"response": lambda n: f"So it is {n}."}, "text", "So it is 0."),
        (VARIED | {"summary": lambda n: f"So it is {n}."}, "document", "So it is 0."),
        (VARIED | {"label": lambda n: "AB"[n % 2]}, "text", "A"),
        (VARIED | PAIR, "text", "It is 0."),
        (VARIED | PAIR, "input", "It is 0."),
    ],
)
def test_instructions_that_differ_stand_above_the_text_that_they_are_for(columns, text, response):
    answer = guessed(**columns, **{text: lambda n: f"It rains on day {n}."})
    row = {name: value(0) if callable(value) else value for name, value in columns.items()}
    example = read(row | {text: "It rains a lot."}, answer)
    assert [message.content for message in example.messages] == [f"{row['instructions']}\n\nIt rains a lot.", response]


def test_a_verdict_in_numbers_is_not_guessed():
    rows = [
        {"history": "Why is it?", "human_ref_A": f"It is {n}.", "human_ref_B": "No idea.", "labels": n % 2}
        for n in range(6)
    ]
    assert "rejected" not in guess(rows).columns


def test_what_never_comes_again_is_no_label():
    answer = guessed(
        topic=lambda n: f"The topic {n} of the day", text=lambda n: f"A text about the topic {n}, which is longer."
    )
    assert "classification" not in answer.reason


def test_an_input_output_is_no_output():
    answer = guessed(question=lambda n: f"Why {n}, and why not?", input_output='{"inputs": []}', solutions="[]")
    assert "input_output" not in answer.columns.values()


def test_what_is_known_of_a_thing_is_no_prompt_and_no_answer():
    text = "A text about the topic of the day, which is longer."
    answer = guessed(
        user_id=lambda n: f"{n:032x}", text=lambda n: f"{n}. {text}", answer_count="three", query_time="soon"
    )
    assert (answer.columns, answer.text) == ({}, "text")


def test_a_name_is_no_text():
    assert guessed(key=lambda n: f"c4ab-{n:08d}", day=lambda n: f"2026-03-{n + 1:02d}T10:00:00") is None
    assert guessed(id=lambda n: f"c4ab-{n:08d}", label=lambda n: ("toxic", "safe")[n % 2]) is None


@pytest.mark.parametrize("known", [
    {"response_time": lambda n: n / 10},
    {"reply_date": lambda n: f"2026-03-{n + 1:02d}", "user_id": "u1"},
    {"answer_time": lambda n: f"{n}.2"},
    {"answer_name": "helper"},
])  # fmt: skip
def test_what_a_log_holds_of_an_answer_is_none(known):
    assert guessed(prompt=lambda n: f"Why {n}, and why not?", **known).text == "prompt"


@pytest.mark.parametrize("name", ["commit", "session_token", "revision"])
def test_a_hash_has_no_label(name):
    code = "ab01cdef{}" if name == "revision" else "xy-{}-long"
    assert guessed(**{name: lambda n: code.format(n), "label": lambda n: ("good", "bad")[n % 2]}) is None


def test_a_count_of_answers_is_no_answer():
    assert guessed(question=lambda n: f"Why {n}, and why not?", answer_count="three").text == "question"


def test_labels_in_lists_are_labels_and_texts_in_lists_are_what_people_wrote():
    text = [f"It rains on day {n}." for n in range(9)]
    labelled = [{"id": n, "text": text[n], "label": [["wet"], ["dry"], ["wet", "cold"]][n % 3]} for n in range(9)]
    assert [read(row, guess(labelled)).response for row in labelled[:3]] == ["wet", "dry", "wet, cold"]
    written = [{"id": n, "text": text[n], "label": [f"Es regnet an Tag {n}."]} for n in range(9)]
    assert read(written[1], guess(written)).response == "Es regnet an Tag 1."
    spans = [{"id": n, "text": text[n], "label": [[0, 2, "IT"]]} for n in range(9)]
    assert guess(spans).text == "text"
    assert guess(spans).reason.endswith("; not used: 'id', 'label'")


def test_a_column_whose_name_only_counts_may_be_a_label():
    rows = [{"v1": ("ham", "spam")[n % 2], "v2": f"It rains on day {n}.", "": ""} for n in range(9)]
    assert guess(rows).columns == {"prompt": "v2", "response": "v1"}


@pytest.mark.parametrize(
    ("row", "prompt"),
    [
        ({"question": {"full_text": "Why?"}, "answer_0": "So it is.", "answer_1": "Who knows.", "score_0": 0.5, "score_1": -0.5}, "Why?"),
        ({"history": "Why is it so?", "human_ref_A": "So it is.", "human_ref_B": "Who knows.", "score_A": "9", "score_B": "3"}, "Why is it so?"),
        ({"prompt": "Why?", "text1": "So it is.", "text2": "Who knows.", "rank1": 1, "rank2": 2}, "Why?"),
    ],
)  # fmt: skip
def test_the_better_of_two_answers_with_scores_beside_them_is_chosen(row, prompt):
    answer = guess([row] * 5)
    example = read(row, answer)
    assert (example.messages[0].content, example.response, example.rejected) == (prompt, "So it is.", "Who knows.")
    first, second = (name for name in row if name.startswith(("score", "rank")))
    turned = read(row | {first: row[second], second: row[first]}, answer)
    assert (turned.response, turned.rejected) == ("Who knows.", "So it is.")
    assert read(row | {first: row[second]}, answer).reason == "columns do not fit"
