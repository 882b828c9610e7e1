"""The messages of a table that holds one a row become conversations, whatever their order and their spellings."""

import pytest

from tasks.core.records import Example, Refusal
from tasks.io.sources.record import Broken, Row
from tasks.stages.ingest.columns_config import Thread
from tasks.stages.ingest.config import File
from tasks.stages.ingest.preview.examples import preview
from tasks.stages.ingest.reading import threads
from tasks.stages.ingest.reading.examples import Checked, examples_from_records, read_rows
from tasks.stages.ingest.reading.guesses.table import guess
from tasks.stages.ingest.reading.threads import joined
from tests.stages.ingest.running import examples_of, ingest

TICKETS = Thread(by="ticket", role="sender", content="body", order="sent", roles={"Anna": "assistant", "event": None})
CSV = """ticket,sender,body,sent,queue,number
7,customer,My printer is broken.,2026-03-01T10:00:00,print,1
8,customer,How do I log in?,2026-03-01T10:01:00,web,2
7,Anna,Which one is it?,2026-03-01T10:02:00,print,3
7,customer,The blue one.,2026-03-01T10:03:00,print,4
8,Anna,With your number.,2026-03-01T10:05:00,web,6
8,customer,Thanks!,2026-03-01T10:06:00,web,7
7,Anna,Switch it on.,2026-03-01T10:07:00,print,8
7,customer,It is on the desk.,2026-03-01T10:03:30,print,5
7,event,closed,2026-03-01T10:08:00,print,9
"""


def rows(*messages, names=("ticket", "sender", "body", "sent")):
    return [("file a.csv", Row(f"line {n}", dict(zip(names, row, strict=False)))) for n, row in enumerate(messages, 1)]


def turns(records, **changes):
    """The turns of the only conversation."""
    ((_, row),) = joined(records, TICKETS.model_copy(update=changes))
    return [(turn["role"], turn["content"]) for turn in row.values["messages"]]


def test_messages_of_several_tickets_become_conversations_in_their_order(tmp_path):
    path = tmp_path / "tickets.csv"
    path.write_text(CSV)
    source = File.model_validate({"from": "file", "path": path, "thread": TICKETS.model_dump(), "task_by": "queue"})
    first, second = (record for _, record in read_rows(source, 0))
    assert [(message.role, message.content) for message in first.messages] == [
        ("user", "My printer is broken."),
        ("assistant", "Which one is it?"),
        ("user", "The blue one.\nIt is on the desk."),
        ("assistant", "Switch it on."),
    ]
    assert [message.content for message in second.messages] == ["How do I log in?", "With your number."]
    assert [first.task, second.task] == ["print", "web"], "a column in which all messages agree stays one"
    assert first.source.endswith("tickets.csv: line 2")


def test_many_messages_are_taken_in_batches(monkeypatch):
    monkeypatch.setattr(threads, "AT_ONCE", 7)
    messages = [(n % 25, ("user", "assistant")[n // 25 % 2], f"{n % 25}: {n // 25}", n) for n in range(100)]
    made = [row.values["messages"] for _, row in joined(rows(*messages), TICKETS)]
    assert [[turn["content"] for turn in each] for each in made] == [
        [f"{ticket}: {place}" for place in range(4)] for ticket in range(25)
    ]


def test_equal_names_in_two_files_are_two_conversations():
    records = rows((1, "user", "Why?", 1), (2, "user", "Well?", 1), (1, "Anna", "So.", 2), (2, "Anna", "Well.", 2))
    records += [("file b.csv", record) for _, record in records]
    made = [(label, row.where, len(row.values["messages"])) for label, row in joined(records, TICKETS)]
    assert made == [(f"file {file}.csv", f"line {line}", 2) for file in "ab" for line in (1, 2)]


@pytest.mark.parametrize(
    "moments",
    [("2", "10", "9.5"), (2, 10, 9.5), (2**60, 2**60 + 2, 2**60 + 1), (f"{2**60}", f"{2**60 + 2}", f"{2**60 + 1}"), ("2026-03-01", "2026-03-03", "2026-03-02"), ("2026-03-01 10:00Z", "2026-03-01 12:00Z", "2026-03-01 13:00+02:00")],
)  # fmt: skip
def test_numbers_and_dates_are_ordered_as_such(moments):
    first, last, middle = moments
    messages = (("1", "user", "Why?", first), ("1", "Anna", "So.", last), ("1", "user", "Well?", middle))
    assert turns(rows(*messages)) == [("user", "Why?\nWell?"), ("assistant", "So.")]


def test_everybody_else_may_have_a_role():
    messages = ((1, "Cem", "Why?", 1), (1, "Dea", "Well?", 2), (1, "Anna", "So.", 3), (1, "system", "Be brief.", 0))
    said = [("system", "Be brief."), ("user", "Why?\nWell?"), ("assistant", "So.")]
    assert turns(rows(*messages), others="user") == said


def test_any_name_and_any_text_is_taken():
    messages = (("\ud800", "user", "W\ud800y?", 1), ("\ud800", "Anna", "\x00", 2))
    assert turns(rows(*messages)) == [("user", "W\ud800y?"), ("assistant", "\x00")]


def test_without_an_order_it_is_that_of_the_rows():
    messages = ((1, "user", "Why?", 2), (1, "Anna", "So.", 1))
    assert turns(rows(*messages), order=None) == [("user", "Why?"), ("assistant", "So.")]


def test_what_is_said_before_the_first_question_and_after_the_last_answer_is_left_out():
    said = ("assistant", "system", "user", "assistant", "user")
    messages = [(1, role, f"{n}.", n) for n, role in enumerate(said)]
    assert turns(rows(*messages)) == [("system", "1."), ("user", "2."), ("assistant", "3.")]


def test_a_column_that_a_turn_might_have_is_a_column_here():
    names = ("ticket", "sender", "body", "sent", "type", "name", "text")
    messages = [
        (1, "user", "Why?", 1, "mail", "Cem", "x"),
        (1, "user", "Well?", 2, "mail", "Cem", "y"),
        (1, "Anna", "So.", 3, "mail", "A", "z"),
    ]
    ((_, row),) = joined(rows(*messages, names=names), TICKETS)
    assert row.values["messages"] == [
        {"role": "user", "content": "Why?\nWell?"},
        {"role": "assistant", "content": "So."},
    ]
    assert row.values["type"] == "mail"


def test_results_of_tools_and_marked_messages_stay_turns_of_their_own():
    messages = [
        {"role": "user", "content": "Why?"},
        {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "ask", "arguments": "{}"}}]},
        {"role": "tool", "content": "1"},
        {"role": "tool", "content": "2"},
        {"role": "assistant", "content": "So.", "weight": 0},
        {"role": "assistant", "content": "Because."},
    ]
    records = [("a", Row(f"line {n}", {"id": 7, **message})) for n, message in enumerate(messages)]
    ((_, row),) = joined(records, Thread(by="id"))
    assert row.values["messages"] == messages


@pytest.mark.parametrize(
    ("messages", "reason", "detail"),
    [
        ([(1, "user", "Why?", 1), (1, "Ben", "So.", 2)], "unknown role", "turn 2 has role 'Ben'"),
        ([(1, "user", "Why?", 1), (1, "Anna", None, 2)], "content is no text", "turn 2 (assistant)"),
        ([(1, "user", "Why?", 1), (1, "user", "Well?", 2)], "no answer", "user"),
        ([(1, "user", "Why?", 1), (1, "Anna", "So.", "then")], "no order", "holds 1, then"),
        ([(1, "user", "Why?", 1), (1, "Anna", "So.", "2026-03-01")], "no order", "all alike"),
        ([(1, "user", "Why?", None), (1, "Anna", "So.", 2)], "no order", "holds None, 2"),
        ([(1, "user", "Why?", 1), (1, "Anna", "So.", float("nan"))], "no order", "holds 1, nan"),
        ([(None, "user", "Why?", 1)], "no conversation", "the column 'ticket' is empty"),
    ],
)
def test_a_conversation_that_cannot_be_used_is_refused_with_its_reason(messages, reason, detail):
    source = File.model_validate({"from": "file", "path": "a.csv", "thread": TICKETS.model_dump()})
    ((_, refused),) = examples_from_records(joined(rows(*messages), TICKETS), source, "a", Checked())
    assert isinstance(refused, Refusal)
    assert refused.reason == reason
    assert detail in refused.detail


def test_records_that_are_no_messages_pass():
    broken, other = ("a", Broken("line 1", "no JSON", "", "")), ("a", Row("line 2", {"prompt": "Why?"}))
    assert list(joined([broken, other], TICKETS)) == [broken, other]


def test_the_stage_counts_conversations_as_records(tmp_path):
    (tmp_path / "raw").mkdir()
    lines = ["ticket,sender,body,sent"]
    for n in range(40):
        lines += [f"{n},customer,Where is part {n * n} of shelf {n}?,1", f"{n},Anna,Part {n * n} is on shelf {n}.,2"]
    (tmp_path / "raw/t.csv").write_text("\n".join([*lines, "40,customer,Hello?,1", ",Anna,Lost.,1"]))
    _, report = ingest(
        tmp_path, [{"from": "file", "path": str(tmp_path / "raw/t.csv"), "thread": TICKETS.model_dump()}]
    )
    (counts,) = report["sources"].values()
    assert counts == {"read": 42, "kept": 40, "merged": 0, "refused": {"no answer": 1, "no conversation": 1}}
    assert all(isinstance(row, Example) and len(row.messages) == 2 for row in examples_of(tmp_path)["train"])


def test_init_shows_conversations_and_tells_what_they_lose(tmp_path):
    path = tmp_path / "tickets.csv"
    path.write_text(CSV)
    shown = preview((File.model_validate({"from": "file", "path": path, "thread": TICKETS.model_dump()}),))
    assert [row["response"] for row in shown["rows"]] == ["Switch it on.", "With your number."]
    assert (shown["kept"], shown["unused"]) == (2, ["number", "queue"])


TREE = Thread(by="tree", role="role", content="text", id="id", parent="parent")
OASST = [
    ("t", "a", None, "prompter", "Why?"),
    ("t", "b", "a", "assistant", "So."),
    ("t", "c", "a", "assistant", "Because."),
    ("t", "d", "b", "prompter", "And?"),
    ("t", "e", "d", "assistant", "Well."),
    ("t", "f", "b", "prompter", "But?"),
    ("t", "g", "f", "assistant", "No."),
    ("t", "h", "c", "prompter", "Unanswered?"),
]


def tree(*messages):
    return list(joined(rows(*messages, names=("tree", "id", "parent", "role", "text")), TREE))


def test_each_branch_of_a_tree_is_a_conversation_and_each_answer_trains_once():
    made = {
        row.where: [(turn["content"], turn.get("weight", 1)) for turn in row.values["messages"]]
        for _, row in tree(*OASST)
    }
    assert made == {
        "line 3": [("Why?", 1), ("Because.", 1)],
        "line 5": [("Why?", 1), ("So.", 1), ("And?", 1), ("Well.", 1)],
        "line 7": [("Why?", 1), ("So.", 0), ("But?", 1), ("No.", 1)],
    }


def test_answers_that_follow_each_other_are_one_turn_in_every_branch():
    answers = [("b", "a"), ("c", "b"), ("d", "b")]
    further = [("e", "c", "user"), ("f", "e", "assistant"), ("g", "c", "user"), ("h", "g", "assistant")]
    messages = [
        ("t", "a", None, "user", "Why?"),
        *(("t", name, parent, "assistant", f"{name}.") for name, parent in answers),
        *(("t", name, parent, role, f"{name}.") for name, parent, role in further),
    ]
    made = [[(turn["content"], turn.get("weight", 1)) for turn in row.values["messages"]] for _, row in tree(*messages)]
    assert made == [
        [("Why?", 1), ("b.\nd.", 1)],
        [("Why?", 1), ("b.\nc.", 1), ("e.", 1), ("f.", 1)],
        [("Why?", 1), ("b.\nc.", 0), ("g.", 1), ("h.", 1)],
    ]


def test_names_of_messages_are_read_as_pandas_writes_them():
    messages = [
        ("t", "1", None, "user", "Why?"),
        ("t", "2", "1.0", "assistant", "So."),
        ("t", 3, 1.0, "assistant", "No."),
    ]
    assert [[turn["content"] for turn in row.values["messages"]] for _, row in tree(*messages)] == [
        ["Why?", "So."],
        ["Why?", "No."],
    ]


def test_a_long_chain_of_answers_is_read_at_once():
    chain = [("t", n, n - 1 if n else None, ("user", "assistant")[n % 2], f"{n}.") for n in range(4_000)]
    ((_, row),) = tree(*chain)
    assert [turn["content"] for turn in row.values["messages"]] == [f"{n}." for n in range(4_000)]


@pytest.mark.parametrize(
    ("messages", "reason"),
    [
        ([*OASST, ("t", "a", None, "user", "Again?")], "repeated id"),
        ([*OASST, ("t", "x", "y", "user", "Why?"), ("t", "y", "x", "assistant", "So.")], "no first message"),
        ([*OASST, ("t", "x", "y", "user", "Why?"), ("t", "y", "x", "user", "So?"), ("t", "z", "y", "assistant", "No.")], "no first message"),
    ],
)  # fmt: skip
def test_what_is_no_tree_is_refused(messages, reason):
    ((_, refused),) = tree(*messages)
    assert refused.reason == reason


def test_a_tree_without_an_answer_is_refused_as_a_whole():
    source = File.model_validate({"from": "file", "path": "a.csv", "thread": TREE.model_dump()})
    ((_, refused),) = examples_from_records(tree(OASST[0], OASST[7]), source, "a", Checked())
    assert refused.reason == "no answer"


def test_no_split_parts_a_tree_unless_a_group_is_named():
    read = {"from": "file", "path": "a.csv", "thread": TREE.model_dump()}
    for settings, number in ((read, 1), (read | {"group": "messages"}, 3)):
        examples = examples_from_records(tree(*OASST), File.model_validate(settings), "a", Checked())
        assert len({example.group for _, example in examples}) == number


def test_a_parent_is_named_by_ids():
    with pytest.raises(ValueError, match="`parent` names messages by their `id`"):
        Thread(by="tree", parent="parent")


def test_threads_and_columns_exclude_each_other():
    settings = {"from": "file", "path": "a.csv", "thread": {"by": "id"}, "columns": {"messages": "turns"}}
    with pytest.raises(ValueError, match="`thread` makes the turns of a conversation, and `columns` names others"):
        File.model_validate(settings)


# --- guessing ---------------------------------------------------------------------------------------------------------------


def guessed(**columns):
    names = list(columns)
    return guess([dict(zip(names, values, strict=True)) for values in zip(*columns.values(), strict=True)])


SAID = ["My printer is broken.", "Switch it on.", "How do I log in?", "With your number."]


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        (
            {"ticket_id": [7, 7, 8, 8], "sender": ["customer", "agent"] * 2, "body": SAID},
            {"by": "ticket_id", "role": "sender", "content": "body"},
        ),
        (
            {"id": [1, 2, 3, 4], "session": list("aabb"), "role": ["user", "assistant"] * 2, "message": SAID, "created_at": ["2026-03-01"] * 4},
            {"by": "session", "role": "role", "content": "message", "order": "created_at"},
        ),
    ],
)  # fmt: skip
def test_one_message_a_row_is_guessed(columns, expected):
    answer = guessed(**columns)
    assert (answer.thread, answer.columns, answer.text) == (expected, {}, None)
    assert answer.reason.startswith("a row is one message")


def test_a_column_that_names_messages_makes_a_tree():
    names = ("message_tree_id", "message_id", "parent_id", "role", "text")
    columns = dict(zip(names, zip(*OASST, strict=True), strict=True)) | {"user_id": [f"{n:032x}" for n in range(8)]}
    answer = guessed(**columns)
    expected = {"by": "message_tree_id", "role": "role", "content": "text", "id": "message_id", "parent": "parent_id"}
    assert answer.thread == expected
    assert "'parent_id' which one it answers" in answer.reason
    others = {name: values for name, values in columns.items() if name != "message_id"}
    assert guessed(**others).thread.keys() == {"by", "role", "content"}, "nothing is named by it"


def test_a_count_of_answers_names_no_message():
    said = {"thread": [1, 1, 2, 2], "role": ["user", "assistant"] * 2, "text": SAID}
    counted = said | {"message_id": [1, 2, 3, 4], "reply_count": [1, 2, None, 3], "answers": [1, 2, 3, 3]}
    assert "parent" not in guessed(**counted, in_reply_to_number=[None, 3, None, 1]).thread, "of another conversation"
    answer = guessed(**counted, in_reply_to_id=["", "1.0", "", "3.0"])
    assert (answer.thread["id"], answer.thread["parent"]) == ("message_id", "in_reply_to_id")


def test_of_two_speakers_the_one_who_always_begins_is_the_user():
    answer = guessed(
        conv_id=[7, 7, 8, 8],
        utterance_idx=[1, 2, 1, 2],
        prompt=["It is sad here."] * 4,
        speaker_idx=[0, 1] * 2,
        utterance=SAID,
    )
    expected = {
        "by": "conv_id",
        "role": "speaker_idx",
        "content": "utterance",
        "order": "utterance_idx",
        "roles": {"0": "user", "1": "assistant"},
    }
    assert answer.thread == expected
    assert "('0' begins, and is taken for the user)" in answer.reason
    assert guessed(ticket=[7, 7, 8, 8], author=["Ann", "Ben", "Ben", "Ann"], body=SAID).thread is None


def test_speakers_of_unknown_names_are_asked_for():
    answer = guessed(ticket=[7, 7, 8, 8], author=["Ann", "Ben", "Cem", "Ben"], body=SAID)
    assert (answer.thread, answer.text) == (None, "body")
    assert "'ticket' and 'author' say that a row is one message" in answer.reason
    assert "in `thread` of the source" in answer.reason


@pytest.mark.parametrize(
    "columns",
    [
        {"author": ["Ann", "Ben", "Cem", "Dea"], "text": SAID},
        {"case": [1, 2, 3, 4], "role": ["user", "assistant"] * 2, "text": SAID},
        {"case": [1, 1, 2, 2], "role": ["user"] * 4, "text": SAID},
    ],
)
def test_other_tables_with_such_columns_are_none(columns):
    assert guessed(**columns).thread is None
