"""Tests are as strong as the mistakes they notice, and no constant function passes strong ones."""

import json
from dataclasses import replace

import pytest

from tasks.core.compute import Compute
from tasks.core.records import STRONG_PASS, Example, Result, Tests
from tasks.io import sandbox, tables
from tasks.stages.evaluate import inputs, problem_sets, stage, strength, strength_cache
from tasks.stages.evaluate.config import EvaluateConfig, StageConfig, StrengthConfig
from tests import tiny as small
from tests.support import NOTHING_DECIDED

EVEN = "def even(n):\n    if n < 0:\n        n = -n\n    return n % 2 == 0\n"
JOIN = "def join(parts, sep):\n    return sep.join(part for part in parts if part)\n"
CONFIG = StrengthConfig(mutants=12)


def problem(name, code, tests, kind="doctest", **fields):
    return small.example(
        name, response=f"```python\n{code}```", task="function", tests=Tests(kind, tests, code[4 : code.index("(")]), **fields
    )  # fmt: skip


WEAK = problem(1, EVEN, ">>> even(2)\nTrue\n>>> even(-4)\nTrue\n")
STRONG = problem(2, EVEN, ">>> even(2)\nTrue\n>>> even(3)\nFalse\n>>> even(-3)\nFalse\n>>> even(0)\nTrue\n")
SCRIPT = problem(3, JOIN, "def check(f):\n    assert f(['a', '', 'b'], '-') == 'a-b'\ncheck(join)\n", "script")


def measured_by_sandbox(problems, config=CONFIG):
    return list(strength.measure(problems, config, sandbox.run))


def test_a_constant_that_passes_and_the_mistakes_that_are_noticed_are_reported():
    weak, strong, script = measured_by_sandbox([WEAK, STRONG, SCRIPT])
    assert (weak.constant, strong.constant, script.constant) == ("return True", "", "return 'a-b'")
    assert weak.share < strong.share
    assert (weak.is_weak(0.01), strong.is_weak(0.5)) == (True, False)
    assert script.killed > 0
    assert all(found.passes and 3 < found.mutants <= 12 for found in (weak, strong, script))


def test_the_share_is_that_of_mutants_that_fail_whatever_way(monkeypatch):
    kinds = iter(["passed", "assertion", "passed", "exception", "timeout", "assertion"])  # solution, constant, mutants
    mutants = [("comparison", f"def even(n): return {n}") for n in range(4)]
    monkeypatch.setattr(strength.mutations, "mutants", lambda *_: iter(mutants))
    (found,) = strength.measure([STRONG], CONFIG, lambda cases: (sandbox.Verdict(next(kinds), 1, "") for _ in cases))
    assert (found.mutants, found.killed, found.share, found.constant) == (4, 3, 0.75, "")


def test_where_the_solution_itself_fails_nothing_is_noticed():
    (found,) = measured_by_sandbox([problem(4, EVEN, ">>> even(2)\nFalse\n")])
    assert (found.passes, found.share, found.is_weak(0.1)) == (False, 0.0, True)


@pytest.mark.parametrize(
    ("kind", "code", "constant"),
    [
        ("doctest", ">>> x = f(1)\n>>> x\n[1]\n", "[1]"),
        ("doctest", ">>> f(1)\n<object>\n", None),
        ("doctest", ">>> f(0)\nTraceback (most recent call last):\nValueError\n", None),
        ("script", "assert f(1) == (1, 2)\nassert f(2) == 3", "(1, 2)"),
        ("script", "assert not f(1)", "False"),
        ("script", "assert f(1)", "True"),
        ("script", "assert f(1) == g(1)", None),
        ("script", "assert 3 == f(1)", "3"),
        ("script", "assert True, 'begin'\nassert f(1) == 'a'", "'a'"),  # as HumanEval's tests begin
        ("script", "def check(candidate):\n    assert abs(candidate(3.5) - 0.5) < 1e-6\ncheck(f)", "0.5"),
        ("script", "class T(TestCase):\n    def test(self):\n        self.assertEqual(f(1), [3])", "[3]"),
        ("script", "self.assertFalse(f(1))", "False"),
        ("doctest", ">>> print(f(1))\nmany words\n", "'many words'"),
        ("doctest", ">>> f(1)  # doctest: +NORMALIZE_WHITESPACE\n[1,\n 2]\n", "[1, 2]"),
        ("doctest", ">>> f(1)\nmany words\n", None),
    ],
)
def test_the_constant_is_what_the_first_expectation_asks_for(kind, code, constant):
    expected = [] if constant is None else [f"def f(*args, **kwargs):\n    return {constant}\n"]
    assert strength._constants(Tests(kind, code, "f")) == expected


# --- inputs of ours -------------------------------------------------------------------------------------------------------


def test_inputs_of_ours_make_weak_tests_stronger_and_leave_the_others(tmp_path):
    config = StrengthConfig(mutants=12, inputs=12)
    before = measured_by_sandbox([WEAK, STRONG, SCRIPT])
    problems, after = strength_cache.measure([WEAK, STRONG, SCRIPT], config, tmp_path / "cache")
    assert (before[0].is_weak(0.5), after[0].is_weak(0.5), after[0].constant) == (True, False, "")
    assert after[0].share > before[0].share
    assert after[0].inputs == 12
    assert problems[0].tests.code.startswith(WEAK.tests.code.rstrip())
    assert problems[0].response == WEAK.response
    assert (problems[1], after[1]) == (STRONG, before[1])
    assert after[2].inputs > 0
    assert problems[2].tests.code.count("assert join(") == after[2].inputs
    assert strength_cache.measure([WEAK, STRONG, SCRIPT], config, tmp_path / "another") == (problems, after)


def test_a_solution_that_remembers_or_draws_gets_no_inputs():
    counting = "SEEN = []\ndef count(n):\n    SEEN.append(n)\n    return len(SEEN)\n"
    drawing = "import os\ndef draw(n):\n    return n + os.urandom(4)[0] * 1000\n"
    rows = [
        replace(
            problem(5, "def count(n):", ">>> count(1)\n1\n"),
            messages=[*WEAK.prompt, small.Message("assistant", counting)],
        ),
        replace(
            problem(6, "def draw(n):", ">>> draw(1) > 0\nTrue\n"),
            messages=[*WEAK.prompt, small.Message("assistant", drawing)],
        ),
        problem(7, EVEN, ">>> even(2)\nTrue\n"),
    ]
    assert [bool(added) for added in inputs.generate(rows, 5, sandbox.outputs)] == [False, False, True]


def test_an_input_is_new_literal_and_short():
    loud = "def twice(text):\n    if not text:\n        raise ValueError\n    print(text)\n    return 2 * text\n"
    (added,) = inputs.generate([problem(8, JOIN, ">>> join(['a', 'b'], '-')\n'a-b'\n")], 8, sandbox.outputs)
    assert len({call for call, _ in added}) == 8
    assert "join(['a', 'b'], '-')" not in {call for call, _ in added}
    assert all(inputs.is_literal(output) for _, output in added)
    assert list(inputs.generate([problem(9, loud, ">>> twice('a')\na\n'aa'\n")], 8, sandbox.outputs)) == [[]]


@pytest.mark.parametrize("value", [3, -1.5, True, "text", "", [1, [2]], (1, "a"), {"a": 1}, {1, 2}, None, b"x", [], 0])
def test_a_changed_argument_is_of_the_same_type(value):
    draw = inputs.random.Random(0)
    changed = [inputs._changed(value, draw) for _ in range(50)]
    assert {type(each) for each in changed} == {type(value)}
    if value not in (None, b"x", "", []):
        assert any(each != value for each in changed)


# --- what is kept ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def judged(monkeypatch):
    """Count the programs that the sandbox is given."""
    programs = []

    def run(cases, **_):
        for case in cases:
            programs.append(case.program)
            yield sandbox.Verdict(
                "passed" if case.program.startswith("def even(n):\n    if n < 0") else "assertion", 1, ""
            )

    monkeypatch.setattr(strength_cache.sandbox, "run", run)
    return programs


def measure_kept(folder, *problems, **config):
    return strength_cache.measure(problems, StrengthConfig(mutants=4, **config), folder)[1]


def test_tests_are_judged_once_and_again_if_their_content_or_the_judge_changes(judged, tmp_path, monkeypatch):
    first = measure_kept(tmp_path, WEAK, STRONG)
    assert len(judged) == 12  # two solutions, two constants, eight mutants
    assert measure_kept(tmp_path, STRONG, WEAK, least=0.9) == first[::-1]
    assert len(judged) == 12
    longer = replace(STRONG, tests=replace(STRONG.tests, code=STRONG.tests.code + ">>> even(8)\nTrue\n"))
    measure_kept(tmp_path, WEAK, longer)
    assert len(judged) == 18
    strength_cache.measure([WEAK], StrengthConfig(mutants=3), tmp_path)
    assert len(judged) == 23
    monkeypatch.setattr(strength_cache, "_judge", lambda: {"python": "another"})
    measure_kept(tmp_path, WEAK)
    assert len(judged) == 29


@pytest.mark.parametrize(
    "damage", ["", "{", "[]", "null", '{"answer": {"killed": 4}}', "another question", "no number"]
)
def test_a_damaged_file_is_measured_anew_and_mended(judged, tmp_path, damage):
    first = measure_kept(tmp_path, WEAK, STRONG)
    one, other = sorted(tmp_path.glob("*.json"))
    if damage == "another question":
        one.write_bytes(other.read_bytes())
    elif damage == "no number":
        record = json.loads(one.read_text())
        one.write_text(json.dumps(record | {"answer": record["answer"] | {"killed": "many"}}))
    else:
        one.write_text(damage)
    judged.clear()
    assert measure_kept(tmp_path, WEAK, STRONG) == first
    assert len(judged) == 6
    assert measure_kept(tmp_path, WEAK, STRONG) == first
    assert len(judged) == 6


def test_what_was_judged_before_the_process_died_is_kept(tmp_path, monkeypatch):
    given = []

    def killed(cases, **_):
        for case in cases:
            if len(given) == 8:
                raise KeyboardInterrupt
            given.append(case)
            yield sandbox.Verdict("passed", 1, "")

    monkeypatch.setattr(strength_cache.sandbox, "run", killed)
    with pytest.raises(KeyboardInterrupt):
        measure_kept(tmp_path, WEAK, STRONG)
    assert len(list(tmp_path.glob("*.json"))) == 1
    given.clear()
    assert len(measure_kept(tmp_path, WEAK, STRONG)) == 2
    assert len(given) == 6


def test_a_solution_that_fails_is_not_kept(tmp_path, monkeypatch):
    verdicts = iter(["timeout"] * 6 + ["passed"] * 6)
    monkeypatch.setattr(
        strength_cache.sandbox, "run", lambda cases, **_: (sandbox.Verdict(next(verdicts), 1, "") for _ in cases)
    )
    assert [each.passes for _ in range(2) for each in measure_kept(tmp_path, STRONG)] == [False, True]


def test_inputs_of_ours_are_kept_too(tmp_path, monkeypatch):
    config = StrengthConfig(mutants=12, inputs=12)
    first = strength_cache.measure([WEAK, STRONG], config, tmp_path)
    judged = []
    monkeypatch.setattr(strength_cache.sandbox, "run", lambda cases, **_: judged.append(cases))
    monkeypatch.setattr(strength_cache.sandbox, "outputs", lambda cases, **_: judged.append(cases))
    assert strength_cache.measure([WEAK, STRONG], config, tmp_path) == first
    assert (judged, first[1][0].inputs) == ([], 12)


# --- the stage ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def measured(tiny, tmp_path, monkeypatch):
    """Evaluate a model that answers every problem with a constant, and return the metrics and first answers."""
    answers = {WEAK.id: "def even(n):\n    return True", STRONG.id: "def even(n):\n    return True", SCRIPT.id: JOIN}
    by_prompt = {}

    def respond(model, prompts, *_, **__):
        return [stage.Response(by_prompt[json.dumps([m.content for m in prompt])], True) for prompt in prompts]

    def of(gate=False, **config):
        rows = [
            replace(row, split="test", messages=[replace(row.messages[0], content=f"Task {row.id}"), row.messages[-1]])
            for row in (WEAK, STRONG, SCRIPT)
        ]
        by_prompt.update({json.dumps([m.content for m in row.prompt]): answers[row.id] for row in rows})
        tables.write(tmp_path / "test.parquet", rows, Example)
        tables.write(tmp_path / "documents.parquet", [], stage.Document)
        monkeypatch.setattr(stage.generation, "respond", respond)
        inputs = {
            "base": tiny,
            "model": tiny,
            "test": tmp_path / "test.parquet",
            "documents": tmp_path / "documents.parquet",
            "decisions": NOTHING_DECIDED,
        }
        outputs = {"metrics": tmp_path / "metrics.json", "results": tmp_path / "results.parquet"}
        if gate:
            tables.write(tmp_path / "gate.parquet", [replace(row, split="gate") for row in rows], Example)
            inputs |= {"gate": tmp_path / "gate.parquet", "gate_documents": tmp_path / "documents.parquet"}
            outputs["gate"] = tmp_path / "gate_results.parquet"
        sections = {
            "compute": {"precision": "fp32", "threads": 1},
            "evaluate": {"max_tokens": 400, "max_new_tokens": 6, **config},
            "methods": {"plain": {}},
        }
        stage.main(inputs, outputs, stage.StageConfig.model_validate(sections), small.ScratchRun(tmp_path, "r0"))
        passed = {row.item: row.value for row in tables.read(outputs["results"], Result) if row.measure == "pass@1"}
        return json.loads(outputs["metrics"].read_text()), passed

    return of


def test_pass_at_1_is_told_by_strength_and_each_problem_has_its_record(measured):
    metrics, passed = measured(strength={"mutants": 12, "least": 0.5})
    assert passed == {WEAK.id: 1.0, STRONG.id: 0.0, SCRIPT.id: 1.0}
    assert metrics["pass@1"]["weak tests"]["value"] == 1.0
    assert metrics["pass@1"]["strong tests"]["value"] == 0.0
    assert metrics["pass@1"]["all"]["value"] == pytest.approx(2 / 3)
    record = metrics["strength"]["items"][WEAK.id]
    assert (record["constant"], record["weak"], record["inputs"]) == ("return True", True, 0)
    assert (metrics["strength"]["weak"], metrics["strength"]["constants"]) == (2, 2)


def test_weak_tests_are_refused_or_strengthened_if_it_is_set_so(measured):
    metrics, passed = measured(strength={"mutants": 12, "weak": "refuse"})
    assert passed == {STRONG.id: 0.0}
    assert "weak tests" not in metrics["pass@1"]
    assert metrics["strength"]["weak"] == 2
    metrics, passed = measured(strength={"mutants": 12, "inputs": 12})
    assert passed == {WEAK.id: 0.0, STRONG.id: 0.0, SCRIPT.id: 1.0}  # a constant fails the inputs of ours
    assert metrics["strength"]["items"][WEAK.id]["inputs"] == 12
    assert metrics["strength"]["strengthened"] == 2


def test_without_the_setting_nothing_is_measured_and_nothing_is_written(measured):
    metrics, passed = measured()
    assert "strength" not in json.dumps(metrics)
    assert passed == {WEAK.id: 1.0, STRONG.id: 0.0, SCRIPT.id: 1.0}


def test_the_gate_set_has_a_measure_of_strong_tests_and_its_strength_is_reported(measured, tmp_path):
    metrics, _ = measured(gate=True, gate_items=3, strength={"mutants": 12, "inputs": 12})
    rows = {(row.measure, row.item): row.value for row in tables.read(tmp_path / "gate_results.parquet", Result)}
    passed = {item: value for (measure, item), value in rows.items() if measure == "pass@1"}
    assert passed == {WEAK.id: 1.0, STRONG.id: 0.0, SCRIPT.id: 1.0}  # by their own tests: none of ours are added
    assert {key: value for key, value in rows.items() if key[0] == STRONG_PASS} == {(STRONG_PASS, STRONG.id): 0.0}
    assert (metrics["gate_set"]["strength"]["weak"], metrics["gate_set"]["strength"]["strengthened"]) == (2, 0)


def test_inputs_of_ours_which_the_gate_set_never_gets_are_no_other_way_to_measure_it(tmp_path):
    def facts(**config):
        evaluate = EvaluateConfig(strength=StrengthConfig(**config))
        return stage._gate_facts(
            StageConfig(compute=Compute(), evaluate=evaluate, methods={}), tmp_path / "gate.parquet"
        )

    assert facts(inputs=3) == facts()
    assert facts(mutants=3) != facts()


def test_weak_tests_of_the_gate_set_are_refused_if_it_is_set_so(measured, tmp_path):
    metrics, _ = measured(gate=True, gate_items=3, strength={"mutants": 12, "weak": "refuse"})
    rows = [row for row in tables.read(tmp_path / "gate_results.parquet", Result) if "pass@1" in row.measure]
    assert [(row.measure, row.item) for row in rows] == [("pass@1", STRONG.id), (STRONG_PASS, STRONG.id)]
    assert metrics["gate_set"]["strength"]["weak"] == 2


def test_human_evals_own_tests_are_measured_too():
    rows = list(problem_sets.human_eval())[:3]
    found = measured_by_sandbox(rows, StrengthConfig(mutants=4))
    assert all(each.passes and 0 < each.killed <= each.mutants <= 4 for each in found)
    assert not any(each.constant for each in found)
