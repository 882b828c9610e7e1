"""The history of promotions: lines that are lost are put back or missed, looks are not given back, and a rollback stands."""

import subprocess

import pytest

from flows.registry import history, promotion
from tests.flows.registry.test_promotion import Nights, ratchet, registered


@pytest.fixture
def nights(tmp_path, store):
    return Nights(tmp_path)


def test_an_edit_of_the_past_is_seen(nights):
    for number, domain in enumerate((1.9, 1.8)):
        nights.night(str(number), domain)
        promotion.promote()
    path = nights.folder / "data/promotions.jsonl"
    text = path.read_text()
    path.write_text(text.replace('"verdict":"promoted"', '"verdict":"refused"', 1))
    with pytest.raises(
        ValueError, match=r"promotions.jsonl:2 does not follow the line before it: an earlier line was edited"
    ):
        history.read()
    path.write_text(text + '{"kind": "decision"}\n')
    with pytest.raises(ValueError, match=r"promotions.jsonl:3: .*Field required"):
        history.read()


def test_what_a_person_writes_and_how_an_editor_ends_the_file_leave_it_whole(nights):
    nights.night("one", 1.9)
    promotion.promote()
    path = nights.folder / "data/promotions.jsonl"
    for reason in ("worse:\u2028see chat", "\x85 \u2029 \x0b"):
        path.write_bytes(path.read_bytes().removesuffix(b"\n"))
        promotion.rollback(0, reason)
        promotion.rollback(1, "")
    assert [line.reason for line in history.read().lines[1::2]] == ["worse:\u2028see chat", "\x85 \u2029 \x0b"]


def test_a_line_that_does_not_follow_is_not_written(nights):
    nights.night("one", 1.9)
    promotion.promote()
    before = (nights.folder / "data/promotions.jsonl").read_text()
    with pytest.raises(ValueError, match="changed while a line was being added"):
        history.append(history.Rollback(time=history.now(), version=0, left=1, reason="", after="another"))
    assert (nights.folder / "data/promotions.jsonl").read_text() == before


def lose(folder, count):
    """Take the last lines of the history away, as `git stash` would."""
    path = folder / "data/promotions.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-count]))


def test_decisions_that_git_took_away_are_put_back_before_anything_is_judged(nights, capsys):
    for number, domain in enumerate((1.9, 1.8, 1.8)):
        nights.night(str(number), domain, seed=number + 1)
        promotion.promote()
    before = nights.lines()
    lose(nights.folder, 3)
    nights.night("next", 1.7)
    found = promotion.promote()
    assert nights.lines()[:3] == before
    assert (found.version, found.champion, found.look) == (4, 2, 2)
    assert "(version 3); it is restored" in capsys.readouterr().out


def test_lines_that_cannot_be_put_back_are_missed_by_name_and_nothing_is_judged(nights):
    for number, domain in enumerate((1.9, 1.8)):
        nights.night(str(number), domain)
        promotion.promote()
    promotion.rollback(1, "")
    promotion.rollback(2, "")
    nights.night("three", 1.7)
    promotion.promote()
    lose(nights.folder, 3)  # two rollbacks with it, of which the store holds the last one
    lines = nights.lines()
    nights.night("four", 1.6)
    with pytest.raises(ValueError, match=r"\(version 3\), which .* lines were lost. `git stash list`"):
        promotion.promote()
    with pytest.raises(ValueError, match="lines were lost"):
        promotion.rollback(1, "")
    assert nights.lines() == lines
    assert nights.champion == "three"


def test_a_rollback_that_git_took_away_is_put_back_and_stands(nights, capsys):
    for number, domain in enumerate((1.9, 1.8)):
        nights.night(str(number), domain)
        promotion.promote()
    promotion.rollback(1, "answers in French")
    lose(nights.folder, 1)
    assert "lacks the rollback of" in ratchet(capsys, "status")[0]
    promotion.promote()
    assert nights.lines()[-1]["reason"] == "answers in French"
    assert nights.champion == "0"


@pytest.mark.parametrize("damage", ["", "half a line"])
def test_a_store_without_its_decisions_is_named_and_nothing_of_it_is_overwritten(nights, damage):
    nights.night("one", 1.9)
    promotion.promote()
    kept = nights.folder / "models/versions/1/decision.json"
    kept.write_text(damage) if damage else kept.unlink()
    (nights.folder / "data/promotions.jsonl").unlink()
    nights.night("two", 1.8)
    with pytest.raises(ValueError, match=r"models/versions/1/decision.json is missing or damaged"):
        promotion.promote()
    assert nights.champion == "one"


def test_a_rollback_gives_no_look_back_and_the_machine_does_not_undo_it(nights):
    nights.night("one", 1.9)
    promotion.promote()
    for seed in (2, 3):
        nights.night(f"no better {seed}", 1.9, seed=seed)
        promotion.promote()
    nights.night("two", 1.8)
    assert promotion.promote().look == 3
    promotion.rollback(1, "answers in French")
    # The same bytes on another gate set: a person took it back, and only a person puts it there again.
    nights.measure("r0", 1.8, 3.0, seed=5)
    nights.register()
    again = promotion.promote()
    assert (again.version, again.look, history.read().champion) == (4, 3, 1)
    nights.night("three", 1.7)
    found = promotion.promote()
    assert (found.verdict, found.champion, found.look) == ("promoted", 1, 4)


def test_a_candidate_that_lost_to_one_champion_is_judged_against_the_one_that_is_put_back(nights):
    for number, domain in enumerate((1.9, 1.7)):
        nights.night(str(number), domain)
        promotion.promote()
    nights.night("between", 1.8)
    assert promotion.promote().verdict == "refused"
    promotion.rollback(1, "")
    found = promotion.promote()
    assert (found.verdict, found.champion, found.version) == ("promoted", 1, 3)


def test_the_first_promotion_can_be_taken_back_too(nights, store, capsys):
    nights.night("one", 1.9)
    promotion.promote()
    said, worked = ratchet(capsys, "rollback", "--to", "0")
    assert worked
    assert "No version is in place" in said
    said, _ = ratchet(capsys, "promote")
    assert "promoted, but the base model is in place now" in said
    assert not (nights.folder / "models/champion").is_symlink()
    assert "champion" not in registered(store)[1]
    assert history.read().looks == 1


def test_lines_that_git_does_not_hold_are_named(nights, capsys):
    subprocess.run(["git", "init", "--quiet"], cwd=nights.folder, check=True)
    nights.night("one", 1.9)
    promotion.promote()
    assert "Git does not hold it yet: git add data/promotions.jsonl" in ratchet(capsys, "status")[0]
    subprocess.run(["git", "add", "data/promotions.jsonl"], cwd=nights.folder, check=True)
    who = ["-c", "user.name=n", "-c", "user.email=n@example.org"]
    subprocess.run(["git", *who, "commit", "--quiet", "-m", "m"], cwd=nights.folder, check=True)
    assert "Git does not hold" not in ratchet(capsys, "status")[0]
