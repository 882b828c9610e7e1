"""Pairs of programs on the page: differences are marked, every kind is shown, and nothing of them runs."""

import re
from dataclasses import replace

import pytest

from tasks.core.records import FaultPair, Refusal
from tasks.methods.objectives.fait import marks
from tasks.stages.report.data.fault_pairs import Faults, Piece, choose_pairs, kind, pieces, sides
from tests.stages.report import reading
from tests.stages.report.material import HOSTILE, results, run_stage
from tests.stages.report.reading import own_scripts_alone


def pair(number=0, right="x = max(a)\ny = 1\n", wrong="x = min(a)\ny = 1\n", **fields):
    differences = marks.compare(wrong, right)
    pair_of_programs = FaultPair(
        f"{number:04d}", f"t{number}", right, wrong, "mutation", "variable", True, "assertion", 0.9, 1, 0.25,
        list(differences.good_lines), [list(span) for span in differences.good_chars],
        list(differences.bad_lines), [list(span) for span in differences.bad_chars], list(differences.anchors),
    )  # fmt: skip
    return replace(pair_of_programs, **fields)


def test_a_program_is_cut_where_its_marks_change():
    programs = sides(pair())
    assert programs["right"] == [
        Piece("x = m", "line"), Piece("ax", "char"), Piece("(a)\n", "line"), Piece("y = 1\n", ""),
    ]  # fmt: skip
    assert "".join(piece.text for piece in programs["wrong"]) == "x = min(a)\ny = 1\n"


def test_what_was_taken_away_shows_at_the_place_after_it():
    programs = sides(pair(right="range(len(xs))", wrong="range(len(xs) - 1)"))
    assert programs["right"] == [Piece("range(len(xs)", "line"), Piece(")", "anchor")]
    assert Piece(" - 1", "char") in programs["wrong"]


@pytest.mark.parametrize("text", ["", "a"])
def test_an_anchor_at_the_end_of_a_text_is_no_piece_of_it(text):
    assert pieces(text, (), (), (len(text),)) == ([Piece("a", "")] if text else [])


def test_a_secret_is_one_piece_and_is_not_shown_whatever_marks_cross_it():
    secret = "ghp_" + "aB3" * 12
    program = f'x = 1; token = "{secret}"; y = 2'
    start = program.index(secret)
    cut = pieces(program, (), [(start - 3, start + 5), (start + 9, len(program))], (start + 20,))
    assert "".join(piece.text for piece in cut) == program.replace(secret, "[github-token]")
    assert [piece.mark for piece in cut if piece.text == "[github-token]"] == ["char"]
    assert pieces(secret, (), (), ()) == [Piece("[github-token]", "")]


def test_some_of_every_kind_are_chosen():
    many = [pair(number) for number in range(20)]
    few = [pair(30, origin="guard"), pair(40, source="given", origin="a.jsonl: line 1", verified=False)]
    chosen = choose_pairs([*many, *few], 5)
    assert {kind(pair) for pair in chosen} == {"mutation: variable", "mutation: guard", "given"}
    assert len(chosen) == 5


def test_shares_and_counts():
    faults = Faults(
        [pair(), pair(1, verified=False, marked=0.75, commented=0.5)], [Refusal("mutation", "t", "passed", "", "")] * 3
    )
    assert (faults.verified, faults.marked, faults.commented) == (0.5, 0.5, 0.25)
    assert faults.reasons == {"passed": 3}
    assert Faults([], []).verified == 0


def test_the_page_shows_pairs_and_why_others_are_none(tmp_path):
    hostile = pair(1, wrong=f"x = 1  # {HOSTILE}\n")
    refused = [Refusal("mutation guard", "a.py:f", "passed", "", "")]
    folder, _ = run_stage(
        tmp_path, {"base": results(), "r0": results(1.9)}, faults=([pair(commented=0.2), hostile], refused)
    )
    page = (folder / "index.html").read_text()
    section = page[page.index('id="faults"') : page.index('id="data"')]
    assert "r0: 2 pairs" in section
    assert "100 % are verified" in section
    assert "25.0 % of the tokens" in section
    assert "10.0 % of these in comments or docstrings" in section
    assert re.search(r"passed</th><td class=\"n\">1<", section)
    assert '<span class="piece char">ax</span>' in section
    assert own_scripts_alone(reading.page(folder))
    assert "onerror=alert(2)>" not in page


def test_ten_pairs_are_on_the_page_and_each_kind_of_mark_has_its_colour(tmp_path):
    shorter = {"right": "range(len(xs))\ny = 1\n", "wrong": "range(len(xs) - 1)\ny = 1\n"}
    many = [pair(number, **shorter if number % 2 else {}) for number in range(14)]
    folder, _ = run_stage(tmp_path, {"base": results(), "r0": results(1.9)}, faults=(many, []))
    page = (folder / "index.html").read_text()
    section = page[page.index('id="faults"') : page.index('id="data"')]
    assert len(re.findall(r'<span class="number">\d+</span>', section)) == 10
    for mark in ("char", "line", "anchor"):
        assert f'class="piece {mark}"' in section
        assert re.search(rf"\.piece\.{mark}\b[^}}]*(background|border)[^}}]*:", page), mark


@pytest.mark.parametrize("faults", [None, ([], [])])
def test_without_faults_the_page_says_nothing_of_them(tmp_path, faults):
    folder, _ = run_stage(tmp_path, {"base": results(), "r0": results(1.9)}, faults=faults)
    assert "faults" not in (folder / "index.html").read_text().partition('<script type="application/json"')[0]
