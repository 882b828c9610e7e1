"""A turn of the loop: rewritten, added and unchanged examples, and review decisions."""

import random
from collections import Counter
from dataclasses import asdict

import pytest

from benchmarks import functions
from tasks.core import origins
from tasks.core.records import Example, Lineage, Message, Tests, ToolCall, identify
from tasks.core.text.programs import program
from tasks.core.text.wording import request
from tasks.io import tables
from tasks.io.sandbox import Case, run
from tasks.stages.refine import summary
from tests import tiny as small
from tests.stages.refine.turns import prepare, work

LOOP = "def f(xs):\n    out = []\n    for x in xs:\n        if not x in (1, 2):\n            out.append(x + {})\n    return out"


def function(number, code=None, examples=None):
    """An example in the project's own wording whose program has a more usual form."""
    code = code or LOOP.format(number)
    examples = examples or f">>> f([1, 2, 3, 4])\n[{3 + number}, {4 + number}]\n"
    doc = '    """Add to what is neither.\n\n' + "".join(f"    {line}\n" for line in examples.splitlines()) + '    """'
    stub = code.splitlines()[0] + "\n" + doc
    return small.example(
        number, prompt=request("f", stub, ""), response=f"```python\n{code}\n```", task="function",
        tests=Tests("doctest", examples, "f"),
    )  # fmt: skip


ROWS = [function(number) for number in range(6)]


def test_hard_and_poor_ones_are_replaced_and_lonely_ones_stay_beside_what_is_added(refine):
    turn = refine(ROWS, {0: ["hard"], 1: ["low"], 2: ["sparse"]}, near={2: [ROWS[3].id]})
    assert turn.record["accepted"] == {"extend": 1, "improve": 1, "simplify": 1}
    assert [example for example in turn.examples if example in ROWS] == ROWS[2:]
    simpler, clearer, new = turn.examples[0], turn.examples[1], turn.examples[-1]
    assert program(simpler.response) == "def f(xs):\n    return [x + 0 for x in xs if x not in (1, 2)]"
    assert simpler.prompt == ROWS[0].prompt
    assert clearer.prompt[-1].content.count(">>>") > ROWS[1].prompt[-1].content.count(">>>")
    assert new.parents[0] == ROWS[2].id
    assert {example.round for example in (simpler, clearer, new)} == {1}


def test_all_that_is_new_passes_its_tests_and_has_its_lineage(refine):
    rows = functions.examples(40, 3)
    near = {place: [rows[place - 1].id, rows[place - 2].id] for place in range(40)}
    turn = refine(rows, {n: [("hard", "low", "sparse")[n % 3]] for n in range(40)}, near=near)
    new = [example for example in turn.examples if example not in rows]
    assert len(new) >= 13
    assert {verdict.kind for verdict in run(Case(program(e.response), e.tests) for e in new)} == {"passed"}
    assert {line.id for line in turn.lineage if line.accepted} == {example.id for example in new}
    assert all(example.parents and example.id not in {row.id for row in rows} for example in new)


@pytest.mark.parametrize("seed", range(3))
def test_the_size_is_what_the_card_says(refine, seed):
    draw = random.Random(seed)
    chosen = {n: [name for name in ("hard", "low", "sparse") if draw.random() < 0.4] for n in range(6)}
    turn = refine(ROWS, chosen, near={n: [ROWS[n - 1].id] for n in range(6)})
    accepted = Counter((line.parents[0], line.operator) for line in turn.lineage if line.accepted)
    both = sum((row.id, "simplify") in accepted and (row.id, "improve") in accepted for row in ROWS)
    assert len(turn.examples) == len(ROWS) + both + turn.record["accepted"].get("extend", 0)
    touched = {name for name, operator in accepted if operator != "extend"}
    assert [e for e in turn.examples if not e.parents] == [row for row in ROWS if row.id not in touched]


def test_exactly_as_many_examples_stay_where_they_are_to(refine):
    chosen = {0: ["hard", "low"], 1: ["sparse"], 2: ["sparse"]}
    turn = refine(ROWS, chosen, near={1: [ROWS[3].id], 2: [ROWS[4].id]}, keep_scale="exact")
    assert len(turn.examples) == len(ROWS)
    assert [line.operator for line in turn.lineage if line.accepted] == ["improve", "extend", "extend", "drop", "drop"]
    dropped = {line.id for line in turn.lineage if line.operator == "drop"}
    assert dropped == {ROWS[5].id, ROWS[4].id}  # the nearest neighbours of all that was not chosen


def test_where_nothing_was_chosen_the_next_round_is_this_one(refine):
    turn = refine(ROWS, {})
    assert (turn.folder / "new_examples").read_bytes() == (turn.folder / "examples.parquet").read_bytes()
    assert (turn.lineage, turn.record["changed"], turn.record["why"]) == ([], False, "nothing chosen")


def test_the_same_seed_gives_the_same_bytes(refine):
    chosen, near = {0: ["hard"], 1: ["sparse"], 3: ["low"]}, {1: [ROWS[2].id]}
    first, again = (refine(ROWS, chosen, near=near, name=name) for name in ("one", "two"))
    for name in ("new_examples", "new_lineage", "new_refinement"):
        assert (first.folder / name).read_bytes() == (again.folder / name).read_bytes()


def test_what_has_no_rule_or_no_tests_stays_and_is_counted(refine):
    usual = function(1, "def f(xs):\n    return xs[::-1]", ">>> f('a')\n'a'\n")
    text = small.example(2, prompt="Who?", response="Nobody.")
    turn = refine([usual, text], {0: ["hard"], 1: ["hard"]})
    assert turn.examples == [usual, text]
    assert turn.reasons == ["no rule applies"] * 2
    assert (turn.record["why"], turn.record["few"]) == ("converged", "")
    assert turn.record["proposals"] == {"made": 0, "accepted": 0}
    assert "not taken: 2 no rule applies" in turn.run.said[0]


def test_a_turn_by_rules_over_texts_alone_names_what_could_rewrite_them(refine):
    texts = [small.example(number, prompt=f"Who is {number}?", response="Nobody.") for number in (1, 2)]
    assert "{from: local}" in " ".join(refine(texts, {0: ["hard"]}, name="texts").run.said)
    assert "{from: local}" not in " ".join(refine([*ROWS, *texts], {0: ["hard"]}, name="mixed").run.said)


def test_what_several_rules_wrote_is_not_taken_for_a_persons(refine):
    code = "def f(xs):\n    c = 0\n    for x in xs:\n        if not x is None:\n            c += 1\n    return c"
    row = function(1, code, ">>> f([1])\n1\n")
    (line,) = refine([row], {0: ["hard"]}, generator={"from": "rules", "tries": 1}).lineage
    assert line.generator == "idioms+names"
    assert origins.trace([row.id], [[line]])[line.id] == "expert"


def test_where_no_program_can_be_run_all_stay_and_a_text_is_still_asked_for(refine, monkeypatch):
    from tasks.stages.refine import stage

    def run(*_, **__):
        raise RuntimeError("this machine gives level 1")

    monkeypatch.setattr(stage.sandbox, "probe", lambda: stage.sandbox.Level(1, "subprocess"))
    monkeypatch.setattr(stage.sandbox, "run", run)
    monkeypatch.setattr(stage.sandbox, "outputs", run)
    edit = {"id": ROWS[2].id, "decision": "edit", "text": "```python\ndef f(xs):\n    return xs\n```"}
    text = small.example(99, prompt="Who?", response="Nobody.")
    turn = refine([*ROWS, text], {0: ["hard"], 1: ["sparse"], len(ROWS): ["hard"]}, decided=[edit])
    assert turn.examples == [*ROWS, text]
    assert sorted(turn.reasons) == ["no rule applies", *["no sandbox"] * 3]
    assert "`ratchet doctor` says what would do" in turn.lineage[0].detail


def test_a_test_set_that_holds_the_new_function_keeps_it_out(refine):
    free = refine(ROWS[:1], {0: ["sparse"]}, name="free")
    (new,) = free.examples[1:]
    turn = refine(ROWS[:1], {0: ["sparse"]}, evaluation=[new], name="held", generator={"from": "rules", "tries": 1})
    assert turn.examples == ROWS[:1]
    assert turn.reasons == ["contaminated"]
    assert (turn.record["changed"], turn.record["why"]) == (False, "refused")
    assert (turn.folder / "new_examples").read_bytes() == (turn.folder / "examples.parquet").read_bytes()


def test_an_edit_of_the_indentation_alone_is_an_edit_of_a_program(refine):
    wrong = "```python\ndef total(xs):\n    n = 0\n    for x in xs:\n        n += x\n        return n\n```"
    row = small.example(
        1, prompt="Write `total`.", response=wrong, task="function", tests=Tests("doctest", ">>> total([1, 2])\n3\n", "total")
    )  # fmt: skip
    for name, text in (("mended", wrong.replace("        return", "    return")), ("spaced", f"{wrong} \n")):
        turn = refine([row], {}, decided=[{"id": row.id, "decision": "edit", "text": text}], name=name)
        assert turn.reasons == ([] if name == "mended" else ["unchanged"])
        assert turn.examples[0].response == (text if name == "mended" else wrong)


def test_a_person_may_lay_out_an_answer_anew(refine):
    row = small.example(1, prompt="Why?", response="First this. Then that.")
    for name, text in (("parted", "First this.\n\nThen that."), ("spaced", "First this. Then that. \n")):
        turn = refine(
            [row, small.example(2)], {}, decided=[{"id": row.id, "decision": "edit", "text": text}], name=name, accept={"likeness": None}
        )  # fmt: skip
        assert turn.reasons == ([] if name == "parted" else ["unchanged"])
        assert turn.examples[0].response == (text if name == "parted" else row.response)


def test_signals_of_another_model_are_not_acted_on(tiny, tmp_path):
    inputs = prepare(tmp_path / "turn", tiny, ROWS, {})
    tables.write(inputs["examples"], ROWS[:3], Example)
    with pytest.raises(ValueError, match=r"diagnosis\.json is stale: it was made from other examples"):
        work(inputs, tmp_path / "turn", {})


@pytest.mark.parametrize(
    ("taken", "sentence"),
    [(1, ""), (0, "0 of 10 proposals were taken; most failed by: fails its tests (6), unchanged (4).")],
)
def test_where_less_than_a_tenth_is_taken_it_is_said_why(taken, sentence):
    reasons = ["fails its tests"] * 6 + ["unchanged"] * 4
    lines = [
        Lineage(f"p{n}", ["e"], "simplify", "tuned", "", n < taken, "" if n < taken else reason, "", "")
        for n, reason in enumerate(reasons)
    ]
    record = summary.refinement_record(ROWS, ROWS, [], lines, 0, 0)
    assert record["few"] == sentence
    assert (f"few: {sentence}" in summary.in_words("r1", record)) == bool(sentence)


# --- review decisions -----------------------------------------------------------------------------------------------------------


def test_an_example_that_a_person_accepts_stays_whatever_is_proposed(refine):
    turn = refine(ROWS, {0: ["hard"]}, decided=[{"id": ROWS[0].id, "decision": "accept"}])
    assert turn.examples == ROWS
    assert turn.reasons == ["kept by a person"]


def test_an_example_that_a_person_rejects_goes_and_one_that_is_edited_changes(refine):
    better = "```python\ndef f(xs):\n    return [x + 1 for x in xs if x > 2]\n```"
    wrong = "```python\ndef f(xs):\n    return xs\n```"
    turn = refine(ROWS, {2: ["hard"]}, decided=[
        {"id": ROWS[0].id, "decision": "reject"}, {"id": ROWS[1].id, "decision": "edit", "text": better},
        {"id": ROWS[2].id, "decision": "edit", "text": wrong}, {"id": "of another round", "decision": "reject"},
    ])  # fmt: skip
    assert [example.response for example in turn.examples[:2]] == [better, ROWS[2].response]
    assert turn.examples[1:] == ROWS[2:]
    assert turn.record["decisions"] == {
        "edited": 1,
        "edits refused": 1,
        "rejected": 1,
        "flagged": 0,
        "about nothing here": 1,
    }
    assert [(line.operator, line.generator, line.reason) for line in turn.lineage] == [
        ("reject", "ann", "her word"), ("edit", "ann", "her word"), ("edit", "ann", "fails its tests"),
    ]  # fmt: skip


def test_what_a_person_writes_in_place_of_an_answer_judged_bad_is_a_good_one(refine):
    rows = [small.example(n, prompt="Who?", response=f"Nobody {n}.", desirable=bool(n)) for n in range(2)]
    edits = [{"id": row.id, "decision": "edit", "text": f"Ada {n}."} for n, row in enumerate(rows)]
    turn = refine(rows, {}, decided=edits, accept={"likeness": None})
    assert [(example.response, example.desirable) for example in turn.examples] == [("Ada 0.", True), ("Ada 1.", True)]
    assert [example.id for example in turn.examples] == [identify(e.messages, desirable=True) for e in turn.examples]


def test_an_example_that_a_person_flags_is_improved_once_and_not_dropped(refine):
    flag = {"id": ROWS[0].id, "decision": "flag"}
    turn = refine(ROWS, {}, decided=[flag, {"id": "of another round", "decision": "flag"}])
    chosen = refine(ROWS, {0: ["low"]}, name="chosen")
    assert turn.examples == chosen.examples != ROWS
    assert turn.record["chosen"] == {"improve": 1}
    assert (turn.record["decisions"]["flagged"], turn.record["decisions"]["about nothing here"]) == (1, 1)
    both = refine(ROWS, {0: ["low"]}, decided=[flag], name="both")
    assert both.examples == chosen.examples
    withdrawn = refine(ROWS, {}, decided=[flag, {"id": ROWS[0].id, "decision": "withdraw"}], name="withdrawn")
    assert withdrawn.examples == ROWS


def test_flags_are_told_where_new_tasks_are_made_and_nothing_is_rewritten():
    record = summary.refinement_record(ROWS, ROWS, ["add"], [], 2, 0)
    assert "2 flagged examples stay as they are" in summary.in_words("r1", record)
    rewritten = summary.refinement_record(ROWS, ROWS, ["improve"], [], 2, 0)
    assert "flagged" not in summary.in_words("r1", rewritten)


def test_a_decision_on_a_proposal_is_heeded_on_the_next_run(refine):
    first = refine(ROWS, {0: ["hard"]}, name="first")
    (line,) = first.lineage
    refused = refine(ROWS, {0: ["hard"]}, decided=[{"id": line.id, "decision": "reject"}], name="refused")
    assert (refused.lineage[0].reason, refused.lineage[0].detail) == ("rejected", "ann: her word")
    assert refused.examples[0].id != line.id
    mine = "```python\ndef f(xs):\n    return [x for x in xs if x not in (1, 2)]\n```"
    decision = {"id": line.id, "decision": "edit", "text": mine}
    edited = refine(ROWS, {0: ["hard"]}, decided=[decision], name="edited")
    assert edited.examples[0].response == mine
    assert edited.lineage[0].generator == "idioms, ann"
    assert edited.lineage[0].id == edited.examples[0].id != line.id
    assert edited.lineage[0].reviewed == line.reviewed == line.id, "a second decision is on the same id"
    assert edited.record["decisions"]["about nothing here"] == 0


def test_what_a_person_writes_in_place_of_an_answer_that_makes_no_proposal_is_heeded(refine):
    row = small.example(2, prompt="Who?", response="Nobody.")
    (line,) = refine([row], {0: ["hard"]}, name="first").lineage
    assert line.reason == "no rule applies"
    decision = {"id": line.id, "decision": "edit", "text": "Say it shorter."}
    edited = refine([row], {0: ["hard"]}, decided=[decision], name="edited")
    assert edited.examples[0].response == "Say it shorter."
    assert edited.lineage[0].reviewed == line.id
    assert edited.record["decisions"]["about nothing here"] == 0


def test_times_of_decisions_change_nothing(refine):
    folders = [
        refine(ROWS, {}, decided=[{"id": ROWS[0].id, "decision": "reject", "time": time}], name=time).folder
        for time in ("then", "now")
    ]
    for name in ("new_examples", "new_lineage", "new_refinement"):
        assert len({(folder / name).read_bytes() for folder in folders}) == 1


def test_kept_rows_are_equal_in_every_field(refine):
    rows = [*ROWS[:3], small.example(9, response="yes", weights=[1.0, 0.5, 0.0], license="MIT")]
    turn = refine(rows, {0: ["hard"]})
    assert [asdict(example) for example in turn.examples[1:]] == [asdict(row) for row in rows[1:]]


def test_a_call_and_a_judged_answer_are_not_exchanged_for_a_text(refine):
    call = Message("assistant", "", [ToolCall("look_up", "{}")])
    rows = [
        small.example(1, messages=[Message("user", "Who?"), call], tools="[]"),
        small.example(2, prompt="Who?", response="Nobody.", rejected="You."),
        small.example(3, prompt="When?", response="Now.", desirable=True),
    ]
    turn = refine(rows, {number: ["hard"] for number in range(3)})
    assert turn.examples == rows
    assert turn.reasons == ["tool call", "judged answer", "judged answer"]
    edited = refine(rows[:1], {}, name="edited", decided=[{"id": rows[0].id, "decision": "edit", "text": "I look."}])
    assert (edited.examples, edited.reasons) == (rows[:1], ["tool call"])
