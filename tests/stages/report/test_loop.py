"""The turns of the loop on the page: signals, proposals accepted and refused, and the origins of the examples."""

import csv
import json
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from tasks.core.records import Lineage
from tasks.core.statistics import Estimate
from tasks.stages.report.data import loop
from tasks.stages.report.data.comparison import Row
from tasks.stages.report.render import loop_charts
from tests.stages.report import reading
from tests.stages.report.material import Round, line, results, run_stage, signals, trained
from tests.stages.report.reading import own_scripts_alone

ROOT = Path(__file__).resolve().parents[3]
MODELS = {"base": results(), "r0": results(domain=1.5), "r1": results(domain=1.4)}


def turn(outputs, prev="r0", **changes):
    """Return the turn as the stage reads it."""
    values = {
        "prev": prev,
        "signals": outputs.signals,
        "diagnosis": outputs.diagnosis,
        "refinement": outputs.refinement,
        "lineage": outputs.lineage,
        "before": {example.id: example for example in outputs.first},
        "after": {example.id: example for example in outputs.second},
        "explain": lambda row: [f"{row.example} is {name}" for name in row.flags],
    }
    return loop.Turn(**(values | changes))


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Return the folder of a report on a loop of two rounds, and the run with its messages."""
    folder, run = run_stage(tmp_path_factory.mktemp("loop"), MODELS, turn=Round())
    return folder, run


def page(folder):
    """The page without the libraries at its end."""
    return (folder / "index.html").read_text().partition('<script type="application/json"')[0]


def rows(folder, name):
    with (folder / f"plots/{name}.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_summary_tells_what_the_turn_came_to_and_which_round_is_best(written):
    folder, run = written
    text = " ".join((folder / "summary.txt").read_text().split())
    assert "Round r1, from r0: 4 → 5 examples; 2 of 3 proposals were taken (1 added, 1 simplified)." in text
    assert "Best round: r0, the lowest validation loss of 2 rounds" in text
    assert "Best round: r0" in run.said[-1]


def test_programs_read_the_same(written):
    record = json.loads((written[0] / "summary.json").read_text())["loop"]
    assert record["selection"]["round"] == "r0"
    assert record["mix"] == {"r0": {"as read": 4}, "r1": {"as read": 3, "simplified": 1, "added": 1}}
    assert record["turns"]["r1"]["refinement"]["refused"]["extend"] == {"a copy": 1}


def test_the_page_shows_a_pair_of_each_kind_with_the_reason_for_its_choice(written):
    text = page(written[0])
    assert text.count('<article aria-label="simplify') == 1
    assert text.count('<article aria-label="extend') == 2
    assert "hard to learn: 4 (over 3; the mean is 2.5) before the training" in text
    assert "refused: a copy" in text
    assert "extend: a copy" in text


def test_the_page_counts_what_was_found_and_what_was_not_looked_at(written):
    text = re.sub(r"<[^>]+>", " ", page(written[0]))
    assert "Signals of 3 of 4 examples" in text
    assert re.search(r"too hard\s+1\s+1", text)
    assert re.search(r"of low quality\s+1\s+0", text)
    assert re.search(r"not looked at\s+1", text)
    assert re.search(r"quality in its own judgement\s+7.000\s+1.000\s+none", text)


def test_nothing_of_an_example_runs_on_the_page(written):
    text = page(written[0])
    assert own_scripts_alone(reading.page(written[0]))
    assert "onerror=alert(2)>" not in text


def test_dvc_plots_every_example_with_its_set_and_the_mix_of_each_round(written):
    plotted = rows(written[0], "signals")
    assert [(row["example"], row["set"], row["chosen"], row["loss_after"]) for row in plotted] == [
        ("a", "hard", "hard", "3.0"),
        ("b", "low", "", "1.0"),
        ("c", "sparse", "sparse", "1.5"),
        ("d", "none", "", ""),
    ]
    assert sum(int(row["examples"]) for row in rows(written[0], "quality")) == 3
    assert {(row["round"], row["origin"]): row["examples"] for row in rows(written[0], "mix")}[
        "r1", "simplified"
    ] == "1"


@pytest.mark.parametrize(
    "plot", yaml.safe_load((ROOT / "dvc.yaml").read_text())["plots"], ids=lambda plot: next(iter(plot))
)
def test_what_dvc_draws_is_there(written, plot):
    ((name, drawn),) = plot.items()
    path, y = next(iter(drawn["y"].items())) if isinstance(drawn["y"], dict) else (name, drawn["y"])
    with (written[0] / path.removeprefix("data/report/")).open(newline="") as file:
        columns = next(csv.reader(file))
    template = (ROOT / f".dvc/plots/{drawn['template']}.json").read_text()
    fields = {*re.findall(r'"field": "(\w+)"', template), drawn["x"], y} - {"rev"}
    assert fields <= set(columns)
    # Given to DVC are a title and words for both axes, or what it makes of the columns' names.
    assert set(re.findall(r"<DVC_METRIC_(\w+)>", template)) == {"DATA", "TITLE", "X", "X_LABEL", "Y", "Y_LABEL"}


def test_a_loop_of_one_round_has_no_section_and_empty_tables(tmp_path):
    folder, _ = run_stage(tmp_path, {"base": results(), "r0": results()})
    assert 'id="loop"' not in page(folder)
    assert "loop" not in json.loads((folder / "summary.json").read_text())
    assert [rows(folder, name) for name in ("signals", "quality", "mix")] == [[], [], []]


@pytest.mark.parametrize(
    ("why", "words"),
    [
        ("nothing chosen", "no example lies beyond the limits"),
        ("converged", "nothing could be proposed"),
        ("refused", "every proposal was refused"),
    ],
)
def test_a_turn_that_changed_nothing_says_why_and_that_it_cost_nothing(tmp_path, why, words):
    outputs = Round()
    outputs.second, outputs.lineage = outputs.first, []
    outputs.refinement |= {"changed": False, "why": why}
    folder, _ = run_stage(tmp_path, MODELS, turn=outputs)
    text = " ".join((folder / "summary.txt").read_text().split())
    assert f"Nothing changed: {words}" in text
    assert "Later outputs are copies of those of r0, and cost nothing." in text
    assert words in page(folder)


def test_where_few_proposals_were_taken_the_page_says_why(tmp_path):
    outputs = Round()
    outputs.refinement |= {"few": "1 of 30 proposals were taken; most failed by: fails its tests (29)."}
    folder, _ = run_stage(tmp_path, MODELS, turn=outputs)
    assert "1 of 30 proposals were taken; most failed by: fails its tests (29)." in page(folder)


def test_what_nobody_judged_has_no_histogram(tmp_path):
    outputs = Round()
    outputs.signals = [replace(row, quality=None) for row in outputs.signals]
    folder, _ = run_stage(tmp_path, MODELS, turn=outputs)
    assert "Neighbourhoods" in page(folder)
    assert ">Quality</h4>" not in page(folder)


def test_where_nothing_has_signals_there_are_no_charts(tmp_path):
    outputs = Round()
    outputs.signals = [signals(name, None, None, None, excluded="too long") for name in "abcd"]
    outputs.diagnosis |= {"limits": {}, "looked_at": 0, "excluded": {"too long": 4}}
    folder, _ = run_stage(tmp_path, MODELS, turn=outputs)
    assert ">Data map</h4>" not in page(folder)
    assert "too long" in page(folder)


def test_what_an_example_is_called_lasts_over_rounds_and_a_new_rewrite_changes_it():
    first, second = Round(), Round()
    second.first = first.second
    second.second = [trained("a3"), *first.second[1:]]  # what was simplified is improved; what was added stays
    second.lineage = [Lineage("a3", ["a2"], "improve", "m", "", True, "", "", "")]
    two_turns = loop.Loop(("r0", first.first), {"r1": turn(first), "r2": turn(second, "r1")}, {})
    assert loop.count_origins(two_turns)["r2"] == {"as read": 3, "improved": 1, "added": 1}


def test_a_refused_proposal_names_no_example():
    outputs = Round()
    outputs.second = [*outputs.first]
    outputs.lineage = [line("b", "a", "simplify", refused="a copy")]
    assert loop.count_origins(loop.Loop(("r0", outputs.first), {"r1": turn(outputs)}, {})) == {
        "r0": {"as read": 4},
        "r1": {"as read": 4},
    }


def test_three_taken_proposals_and_a_refused_one_of_each_kind_are_shown():
    outputs = Round()
    outputs.lineage = [line(f"n{n}", "a", "simplify") for n in range(5)]
    outputs.lineage += [line(f"m{n}", "a", "simplify", refused="a copy") for n in range(5)]
    shown = loop.choose_proposals(turn(outputs))["simplify"]
    assert [proposal.line.id for proposal in shown] == ["n0", "n1", "n2", "m0"]
    assert shown[0].why == ["a is hard"]


@pytest.mark.parametrize(
    ("flags", "chosen", "name"),
    [([], [], "none"), (["hard", "low"], ["low"], "low"), (["hard", "low"], [], "hard"), ([], ["sparse"], "sparse")],
)
def test_an_example_has_the_colour_of_the_set_it_was_chosen_for(flags, chosen, name):
    assert loop.shown_set(signals("a", 1.0, 1.0, 1.0, flags=flags, chosen=chosen)) == name


def dots(chart):
    """Return the marks of a data map."""
    return next(layer["data"]["values"] for layer in chart.spec["layer"] if layer["mark"]["type"] == "point")


def test_every_example_that_has_the_signals_is_a_mark_in_the_charts():
    read_turn = turn(Round())
    for chart in (loop_charts.loss_map(read_turn), loop_charts.neighbour_map(read_turn)):
        assert sorted((dot["set"], dot["chosen"]) for dot in dots(chart)) == [
            ("alone", True),
            ("of low quality", False),
            ("too hard", True),
        ]


def test_the_limits_are_lines_and_have_their_word():
    limits = {
        name: {"mean": 0.5, "std": 0.1, "threshold": 0.5} for name in ("loss_before", "neighbour_similarity", "quality")
    }
    read_turn = turn(Round(), diagnosis={"limits": limits})
    for chart in (
        loop_charts.loss_map(read_turn),
        loop_charts.neighbour_map(read_turn),
        loop_charts.quality_chart(read_turn),
    ):
        marks = {layer["mark"]["type"]: layer["data"]["values"] for layer in chart.spec["layer"]}
        assert marks["rule"] == [{"at": 0.5}]
        assert marks["text"] == [{"at": 0.5, "word": "limit"}]


def test_a_loss_that_is_no_number_is_no_mark():
    read_turn = turn(Round(), signals=[signals("a", float("nan"), 1.0, 0.5), signals("b", 1.0, 1.0, 0.5)])
    assert len(dots(loop_charts.loss_map(read_turn))) == 1


def test_of_many_examples_those_in_sets_are_all_drawn():
    many = [signals(f"{n:05}", 1.0, 1.0, 0.5) for n in range(loop_charts.MOST + 50)]
    many += [signals(f"h{n}", 1.0, 1.0, 0.5, flags=["hard"]) for n in range(30)]
    drawn = dots(loop_charts.loss_map(turn(Round(), signals=many)))
    assert Counter(dot["set"] for dot in drawn) == {"the others": loop_charts.MOST, "too hard": 30}
    assert {dot["set"] for dot in drawn[-30:]} == {"too hard"}, "on top"


def test_the_histogram_counts_every_value_once():
    assert loop.quality_histogram([0.0, 0.49, 0.5, 9.99, 10.0]) == [2, 1, *[0] * 17, 2]


def test_equal_losses_of_all_are_drawn_too():
    same = [signals(str(n), 1.0, 1.0, 1.0) for n in range(3)]
    read_turn = turn(Round(), signals=same, diagnosis={"limits": {}})
    assert len(dots(loop_charts.loss_map(read_turn))) == 3


PASSED = {"base": 0, "r0": 12, "r1": 36}
"""Of 40 tasks, by model."""


def solving(**domain):
    return {
        name: results(domain.get(name, 2.0), passed=[i < number for i in range(40)]) for name, number in PASSED.items()
    }


def test_the_first_table_has_the_base_and_each_round_against_the_one_before(tmp_path):
    folder, _ = run_stage(tmp_path, solving(), turn=Round())
    lines = (folder / "summary.txt").read_text().splitlines()
    assert lines[0].split() == ["turn", "by", "turn", "items", "before", "after", "difference"]
    assert lines[1] == "pass@1, per cent"
    assert re.match(r"  base → r0 +40  0.0 \[.*  30.0 \[.*  \+30.0 \[\+", lines[2])
    assert re.match(r"  r0 → r1 +40  30.0 \[.*  90.0 \[.*  \+60.0 \[\+", lines[3])
    steps = json.loads((folder / "summary.json").read_text())["loop"]["steps"]
    assert [step["models"] for step in steps] == [["base", "r0"], ["r0", "r1"]]
    assert [step["difference"]["value"] for step in steps] == [0.3, 0.6]
    assert [(row["model"], row["value"]) for row in rows(folder, "rounds")] == [
        ("base", "0.0"),
        ("r0", "0.3"),
        ("r1", "0.9"),
    ]


def test_the_page_draws_every_round_with_its_interval_and_gain(tmp_path):
    folder, _ = run_stage(tmp_path, solving(), turn=Round())
    assert "pass@1 of the base and of each round" in page(folder)
    assert "All rounds trained on as many tokens" in page(folder)
    row = loop.Step(
        "base", "r0", Row("pass@1", "all", "share", 40, *(Estimate(x, x - 0.1, x + 0.1, 40) for x in (0.2, 0.5, 0.3)))
    )
    chart = loop_charts.round_chart([row, replace(row, before="r0", after="r1")])
    marks = {layer["mark"]["type"]: layer["data"]["values"] for layer in chart.spec["layer"]}
    assert [(dot["model"], dot["value"]) for dot in marks["point"]] == [("base", 0.2), ("r0", 0.5), ("r1", 0.5)]
    assert [(dot["low"], dot["high"]) for dot in marks["rule"]] == [(0.1, 0.30000000000000004), (0.4, 0.6), (0.4, 0.6)]
    assert "rect" not in marks
    band, *_ = loop_charts.round_chart([row, replace(row, before="r0", after="r1")], equally_long=True).spec["layer"]
    (drawn,) = band["data"]["values"]
    assert (band["mark"]["type"], drawn["model"], drawn["low"], drawn["high"]) == ("rect", "r0", 0.4, 0.6)
    assert [dot["change"] for dot in marks["text"]] == ["", *["+30.0\n[+20.0, +40.0]"] * 2]


def test_the_page_draws_accuracy_and_loss_of_the_rounds(tmp_path):
    folder, _ = run_stage(tmp_path, solving(r0=1.8, r1=1.7), turn=Round())
    assert "pass@1 of the base and of each round" in page(folder)
    assert "domain loss of the base and of each round" in page(folder)


def test_without_answers_the_first_table_has_the_loss(tmp_path):
    folder, _ = run_stage(tmp_path, MODELS, turn=Round())
    lines = (folder / "summary.txt").read_text().splitlines()
    assert lines[1] == "domain loss, nats per token"
    assert lines[3].split()[:3] == ["r0", "→", "r1"]


def test_a_round_that_was_not_measured_leaves_the_first_table_out(tmp_path):
    folder, _ = run_stage(tmp_path, {name: MODELS[name] for name in ("base", "r0")}, turn=Round())
    assert "turn by turn" not in (folder / "summary.txt").read_text()
    assert ">Turn by turn</h3>" not in page(folder)


@pytest.fixture
def new_tasks():
    """Return the output of a turn that added tasks by what the model failed."""
    outputs = Round()
    outputs.second, outputs.signals = [*outputs.first, trained("n1"), trained("n2")], []
    outputs.lineage = [Lineage(name, [], "add", "reasoning-gym", "", True, "", "failed", "x") for name in ("n1", "n2")]
    outputs.refinement |= {
        "examples": {"before": 4, "after": 6}, "proposals": {"made": 2, "accepted": 2}, "accepted": {"add": 2},
        "accepted_by_generator": {"reasoning-gym": 2}, "refused": {},
    }  # fmt: skip
    kinds = {
        "lcm": {"asked": 40, "failed": 0, "add": 0, "why": "never failed"},
        "gcd": {"asked": 40, "failed": 31, "add": 2, "why": ""},
    }
    outputs.diagnosis = {
        "curator": "failures",
        "limits": {},
        "sets": {},
        "examples": 4,
        "looked_at": 0,
        "excluded": {},
        "kinds": kinds,
    }
    return outputs


def test_a_turn_of_new_tasks_shows_what_failed_and_what_was_added(tmp_path, new_tasks):
    folder, _ = run_stage(tmp_path, MODELS, turn=new_tasks)
    text = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page(folder)))
    assert "gcd 40 31 2 lcm (never failed) 40 0 0" in text
    assert "asked fresh tasks of every kind" in text
    assert "Signals of" not in text
    assert "4 → 6 examples; 2 of 2 proposals were taken (2 new tasks)" in text
    assert {row["origin"]: row["examples"] for row in rows(folder, "mix") if row["round"] == "r1"} == {
        "as read": "4",
        "new tasks": "2",
    }


def test_a_turn_without_failures_says_so(tmp_path, new_tasks):
    new_tasks.second, new_tasks.lineage = new_tasks.first, []
    new_tasks.refinement |= {"changed": False, "why": "nothing chosen"}
    new_tasks.diagnosis["kinds"]["gcd"] = {"asked": 40, "failed": 0, "add": 0, "why": "never failed"}
    folder, _ = run_stage(tmp_path, MODELS, turn=new_tasks)
    assert "Nothing changed: the model failed none of the fresh tasks." in " ".join(
        (folder / "summary.txt").read_text().split()
    )


def test_a_turn_whose_verifiers_cannot_be_trusted_does_not_say_that_nothing_failed(tmp_path, new_tasks):
    new_tasks.second, new_tasks.lineage = new_tasks.first, []
    new_tasks.refinement |= {"changed": False, "why": "nothing chosen"}
    new_tasks.diagnosis["kinds"]["gcd"] = {
        "asked": 40,
        "failed": 0,
        "add": 0,
        "why": "its verifier takes wrong answers",
    }
    folder, _ = run_stage(tmp_path, MODELS, turn=new_tasks)
    text = " ".join((folder / "summary.txt").read_text().split())
    assert (
        "Nothing changed: no kind of tasks gets new ones (gcd: its verifier takes wrong answers; lcm: never failed)."
        in text
    )
    assert "failed none" not in text
