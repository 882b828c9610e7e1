"""A person has the last word on a promotion where settings ask for one, and the history names that person."""

from types import SimpleNamespace

import pytest

from flows.commands.promote import promote as command
from flows.registry import history, promotion
from flows.registry.history import Approval
from tests.flows.registry.test_promotion import nights, ratchet  # noqa: F401  # a fixture is used by its name

ANN = Approval(approved=True, by="Ann")
BOB = Approval(approved=False, by="Bob", reason="answers too short")


@pytest.fixture
def asking(nights):  # noqa: F811
    """A workspace that wants a person's word, with a candidate that the gate would promote."""
    nights.set(gate={"approval": "ask"})
    nights.night("one", 1.9)
    return nights


def test_without_a_word_nothing_is_recorded_and_no_look_is_spent(asking):
    with pytest.raises(ValueError, match=r"`gate\.approval: ask` needs a person's approval\. `ratchet approve` gives"):
        promotion.promote()
    assert asking.lines() == []
    assert not (asking.folder / "models/versions").exists()


def test_an_approved_candidate_is_promoted_and_the_history_names_who(asking):
    decision = promotion.promote(lambda _: ANN)
    assert (decision.verdict, decision.approval) == ("promoted", ANN)
    assert asking.champion == "one"
    (line,) = asking.lines()
    assert line["approval"] == {"approved": True, "by": "Ann", "reason": ""}
    assert promotion.promote().approval == ANN, "what was answered is not asked again"


def test_a_refused_candidate_is_refused_for_good_with_the_reason(asking):
    decision = promotion.promote(lambda _: BOB)
    assert decision.verdict == "refused"
    assert decision.reason.startswith("Bob refused it (answers too short), though the gate would promote it: ")
    assert history.read().champion == history.REFERENCE
    assert promotion.promote(lambda _: ANN).verdict == "refused", "the second person is not asked"
    assert history.read().looks == 1


def test_an_answer_on_a_terminal_that_comes_too_late_is_reported(asking, monkeypatch, capsys):
    def confirm(*_, **__):
        promotion.settle(promotion.judge().line, ANN)
        return False

    monkeypatch.setattr("sys.stdin", SimpleNamespace(isatty=lambda: True))
    monkeypatch.setattr("typer.confirm", confirm)
    command()
    assert "(refused) was not used, since it was decided on" in capsys.readouterr().out
    assert asking.champion == "one"


def test_an_answer_that_does_not_come_is_a_refusal(asking):
    decision = promotion.promote(lambda _: Approval(approved=False, by="", reason="no answer within 24 h"))
    assert decision.reason.startswith("nobody approved it (no answer within 24 h), though")


def test_a_candidate_that_the_gate_refuses_is_asked_about_by_nobody(asking):
    asking.night("worse", 1.9, general=3.5)
    decision = promotion.promote(lambda _: pytest.fail("nobody is asked"))
    assert (decision.verdict, decision.approval) == ("refused", None)


@pytest.mark.parametrize("change", ["another candidate", "other results", "another margin"])
def test_an_answer_about_what_is_there_no_more_is_not_taken(asking, change):
    decision, is_open = promotion.judge()
    assert is_open
    if change == "another margin":
        asking.set(gate={"approval": "ask", "margins": {"general": 0.01}})
    else:
        asking.night("two" if change == "another candidate" else "one", 1.8)
    with pytest.raises(
        ValueError, match="the candidate, its results, the champion or the gate's settings have changed since"
    ):
        promotion.settle(decision, ANN)
    assert asking.lines() == []


@pytest.mark.parametrize("first", [ANN, BOB])
def test_a_candidate_that_was_decided_meanwhile_keeps_that_decision_whatever_another_answers(asking, first):
    one, two = promotion.judge().line, promotion.judge().line
    decided = promotion.settle(two, first)
    assert promotion.settle(one, BOB if first == ANN else ANN).approval == first
    assert [line["verdict"] for line in asking.lines()] == [decided.verdict]


def test_a_person_who_takes_a_day_is_heard(asking):
    decision, _ = promotion.judge()
    asking.set(gate={"approval": "ask", "approval_hours": 48})
    assert (
        promotion.settle(decision.model_copy(update={"time": "2026-03-01T00:00:00Z", "commit": "a1"}), ANN).verdict
        == "promoted"
    )


def test_who_was_refused_by_a_person_stays_so_on_a_gate_set_that_has_grown(asking):
    promotion.promote(lambda _: BOB)
    asking.night("one", 1.9, answers=(True,) * 9)
    assert promotion.promote(lambda _: pytest.fail("nobody is asked again")).verdict == "refused"
    asking.night("two", 1.9)
    promotion.promote(lambda _: Approval(approved=False, by="", reason="no answer within 24 h"))
    asking.night("two", 1.9, answers=(True,) * 9)
    assert promotion.promote(lambda _: ANN).verdict == "promoted", "nobody had refused it"


def test_a_refused_candidate_that_was_promoted_after_all_keeps_its_promotion(asking):
    refused = promotion.promote(lambda _: BOB)
    promoted = refused.model_copy(
        update={"verdict": "promoted", "reason": "", "approval": ANN, "gate": "grown", "after": history.read().tail}
    )
    history.append(promoted)  # as releases wrote it that asked anew on another gate set
    past = history.read()
    assert past.champion == promoted.version
    assert past.decided(promoted.candidate, "grown again", promoted.rules) == promoted


def test_what_was_decided_before_stays_decided_when_the_setting_changes(nights):  # noqa: F811
    nights.night("one", 1.9, general=3.5)
    first = promotion.promote()
    nights.set(gate={"approval": "ask", "approval_hours": 2})
    assert promotion.promote() == first
    assert history.read().looks == 1


def test_the_command_line_gives_the_word(asking, capsys):
    told, worked = ratchet(capsys, "promote")
    assert not worked
    assert "`ratchet approve` gives it" in told
    told, worked = ratchet(capsys, "approve", "--by", "Ann")
    assert worked
    assert "version 1 (r0): promoted" in told
    assert asking.champion == "one"
    told, worked = ratchet(capsys, "approve", "--refuse", "--by", "Bob")
    assert worked
    assert "this candidate was decided before" in told


def test_an_answer_needs_a_name(asking, capsys, monkeypatch):
    monkeypatch.setattr("tasks.io.system.git.user_name", lambda: "")
    told, worked = ratchet(capsys, "approve")
    assert not worked
    assert "give --by NAME, or set git's user.name" in told


def test_the_person_at_a_terminal_is_asked(asking, capsys, monkeypatch):
    from flows.commands import promote

    monkeypatch.setattr(promote.sys.stdin, "isatty", lambda: True)
    monkeypatch.setattr(
        promote._terminal, "confirm", lambda question, default: "Put it in the place of the model" in question
    )
    told, worked = ratchet(capsys, "promote")
    assert worked
    assert "promoted" in told
    assert history.read().decisions[0].approval.by
