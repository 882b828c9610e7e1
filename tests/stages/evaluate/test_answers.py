"""Answers that a check grades: the same scores in any batch, each generated once, and what did not end is named."""

import json
import re
import shutil
from collections import Counter
from dataclasses import replace

import pytest
import torch

from tasks.core import statistics
from tasks.core.answers import registry
from tasks.core.answers.base import Row
from tasks.core.records import Document, Example, Result
from tasks.engine import chat_template
from tasks.engine.inference import local_model, served
from tasks.io import tables
from tasks.io.weights import checkpoints
from tasks.stages.evaluate import measured_model, stage
from tasks.stages.evaluate.config import StageConfig
from tests import chat_server
from tests import tiny as small
from tests.model_server import serving_weights
from tests.support import NOTHING_DECIDED, ScratchRun

SHORT = {"max_new_tokens": 6, "batch_size": 2, "max_tokens": 200}
LISTED = "\nA) to walk\nB) a house of stone\nC) red"


def checked(number, check, prompt, response="yes", **fields):
    """A held-out example with a check."""
    row = small.example(number, prompt=prompt, response=response, split="test", **fields)
    return replace(row, tests=registry.tests(registry.parse(check), Row(prompt, response)))


@pytest.fixture(scope="module")
def model(tiny, tmp_path_factory):
    """The folder of a model whose answers depend on the question."""
    folder = tmp_path_factory.mktemp("decided")
    network, tokenizer = small.decided(tiny)
    network.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def evaluate(model, tmp_path):
    """Run the stage on these examples and return its metrics, its results, and its run."""

    def of(rows, outputs=(), **settings):
        tables.write(tmp_path / "test.parquet", rows, Example)
        tables.write(tmp_path / "documents.parquet", [], Document)
        inputs = {"base": model, "model": model} | {
            name: tmp_path / f"{name}.parquet" for name in ("test", "documents")
        }
        inputs |= {"gate": inputs["test"], "gate_documents": inputs["documents"], "decisions": NOTHING_DECIDED}
        files = {"metrics": tmp_path / "metrics.json", "results": tmp_path / "results.parquet", **dict(outputs)}
        sections = {
            "compute": {"precision": "fp32", "threads": 1},
            "evaluate": SHORT | settings,
            "methods": {"plain": {}},
        }
        run = ScratchRun(tmp_path, "r0")
        stage.main(inputs, files, StageConfig.model_validate(sections), run)
        return json.loads(files["metrics"].read_text()), tables.read(files["results"], Result), run

    return of


@pytest.fixture
def generated(monkeypatch):
    """The number of prompts of each batch that was generated."""
    sizes = []
    respond = stage.generation.respond

    def counted(model, prompts, *arguments, **options):
        sizes.append(len(prompts))
        return respond(model, prompts, *arguments, **options)

    monkeypatch.setattr(stage.generation, "respond", counted)
    return sizes


def number_of(text):
    """The number of the question that a request asks."""
    return int(re.search(r"Question (\d)", text)[1])


@pytest.fixture
def serving(model, monkeypatch):
    """A server that writes an answer to each question by its number, whatever the weights would write, and judges."""
    monkeypatch.setattr(served, "MAX_GAP", float("inf"))
    tokenizer = checkpoints.load_tokenizer(model)

    def of(answer, judge=None):
        def reply(request):
            if "messages" in request:
                return judge(request["messages"][-1]["content"])
            return answer(number_of(tokenizer.decode(request["prompt"])))

        return chat_server.serving(reply)

    return of


def questions(count=9, check="exact", start=0):
    """Questions of different lengths."""
    return [
        checked(n, check, f"Say {n}{' and go on' * (n % 4)}.", domain=f"part {n % 2}")
        for n in range(start, start + count)
    ]


def own_answers(rows, results, right):
    """The same examples, of which those in `right` expect what the model answers."""
    outputs = {row.item: row.output for row in results if row.measure == "exact accuracy"}
    return [
        checked(n, "exact", row.prompt[0].content, outputs[row.id], domain=row.domain) if n in right else row
        for n, row in enumerate(rows)
    ]


def test_accuracy_has_an_exact_interval_and_every_item_its_answer(evaluate):
    rows = questions()
    _, results, _ = evaluate(rows)
    outputs = {row.item: row.output for row in results if row.measure == "exact accuracy"}
    assert len(set(outputs.values())) > 4, "all alike would hide a mix-up"
    right = [n for n, row in enumerate(rows) if outputs[row.id].strip()][:4]
    metrics, results, run = evaluate(own_answers(rows, results, right))
    figures = metrics["answers"]["exact accuracy"]
    assert figures["all"] == statistics.proportion(4, 9).record()
    assert {name: part["n"] for name, part in figures["domains"].items()} == {"part 0": 5, "part 1": 4}
    assert figures["outcomes"]["passed"] == 4
    passed = [row for row in results if row.measure == "exact accuracy" and row.value]
    assert {row.item for row in passed} == {rows[n].id for n in right}
    assert all(row.parsed == row.expected == " ".join(row.output.split()) for row in passed)
    assert run.metrics[-1][1]["exact_accuracy"] == pytest.approx(4 / 9)
    assert "pass@1" not in metrics  # nothing has tests, and nobody asked for it


def test_greedy_scores_do_not_move_with_the_size_of_a_batch(evaluate):
    rows = questions(12) + [checked(n, "choice", f"What is it, {n}?{LISTED}", "B") for n in range(20, 26)]
    seen = []
    for batch_size in (1, 2, 5, 32):
        metrics, results, _ = evaluate(rows, batch_size=batch_size)
        seen.append((metrics["answers"], [(row.measure, row.item, row.output) for row in results if not row.is_loss]))
    assert all(each == seen[0] for each in seen)
    assert len({output for _, _, output in seen[0][1]}) > 8


def test_answers_that_were_generated_are_not_generated_again(evaluate, generated):
    rows = questions(24)
    first = evaluate(rows)
    assert sum(generated) == 24
    generated.clear()
    assert evaluate(rows)[:2] == first[:2]
    recheck = [checked(n, "number", row.prompt[0].content, "7") for n, row in enumerate(rows)]
    evaluate(recheck)
    assert generated == []  # another check, the same answers


def test_data_that_come_later_cost_few_old_answers_and_change_no_byte(evaluate, generated, tmp_path):
    rows = questions(80)
    evaluate(rows, answer_items=100)
    generated.clear()
    more = [*rows, checked(99, "exact", "Say 99 and go on.")]
    _, with_kept, _ = evaluate(more, answer_items=100)
    assert 1 <= sum(generated) <= 40
    shutil.rmtree(tmp_path / "cache")
    _, anew, _ = evaluate(more, answer_items=100)
    assert with_kept == anew


def test_another_model_or_setting_is_another_answer(evaluate, generated, model, tmp_path):
    rows = questions(6)
    evaluate(rows)
    for settings in ({"max_new_tokens": 5}, {"stop": ["xyz"]}):
        generated.clear()
        evaluate(rows, **settings)
        assert sum(generated) == 6, settings
    config = StageConfig.model_validate(
        {"compute": {"precision": "fp32", "threads": 1}, "evaluate": SHORT, "methods": {"plain": {}}}
    )
    other = tmp_path / "other"
    network, tokenizer = checkpoints.load(model)
    torch.nn.init.normal_(network.get_output_embeddings().weight)
    network.save_pretrained(other)
    tokenizer.save_pretrained(other)
    names = [local_model.identity(folder, model, config.compute) for folder in (model, other)]
    assert names[0] != names[1]
    threads = config.model_copy(update={"compute": config.compute.model_copy(update={"threads": 2})})
    assert local_model.identity(model, model, threads.compute) != names[0]


def test_an_answer_that_never_ends_is_counted_as_truncated(evaluate):
    rows = questions(6)
    metrics, results, _ = evaluate(rows)
    cut = [row for row in results if row.outcome == "truncated"]
    assert metrics["answers"]["exact accuracy"]["outcomes"]["truncated"] == len(cut) > 0
    first = cut[0]
    stop = first.output[2:4]
    _, results, _ = evaluate(rows, stop=[stop])
    assert next(row.outcome for row in results if row.item == first.item and not row.is_loss) == "wrong"


def test_0_of_n_is_shown_as_what_it_is(evaluate):
    metrics, _, _ = evaluate(questions(8))
    assert metrics["answers"]["exact accuracy"]["all"] == statistics.proportion(0, 8).record()
    none, _, _ = evaluate(questions(8), answer_items=0)
    assert none["answers"] == {"exact accuracy": {"not_run": "evaluate.answer_items is 0"}}


@torch.no_grad()
def by_hand(model, row, options):
    """The log-likelihood of each option after the prompt, with the white space between them, one sequence at a time."""
    network, tokenizer = checkpoints.load(model)
    rendered = chat_template.render_prompt(row.prompt, tokenizer)
    prompt = tokenizer(rendered.rstrip(), add_special_tokens=False)["input_ids"]
    logs = []
    for option in options:
        ids = tokenizer(rendered[len(rendered.rstrip()) :] + option, add_special_tokens=False)["input_ids"]
        scores = network(input_ids=torch.tensor([prompt + ids])).logits[0, len(prompt) - 1 : -1].log_softmax(dim=1)
        logs.append(scores.gather(1, torch.tensor(ids)[:, None]).sum().item())
    return logs


def test_options_are_compared_by_likelihood_and_by_likelihood_per_character(evaluate, model):
    options = ["to walk", "a house of stone", "red"]
    check = {"kind": "choice", "answer": "text"}
    rows = [checked(n, check, f"What is it, {n}?{LISTED}", options[n % 3]) for n in range(8)]
    metrics, results, _ = evaluate(rows)
    hits = {"choice acc": 0, "choice acc_norm": 0}
    for n, row in enumerate(rows):
        logs = by_hand(model, row, options)
        for measure, scores in (
            ("choice acc", logs),
            ("choice acc_norm", [log / len(text) for log, text in zip(logs, options, strict=True)]),
        ):
            chosen = max(range(3), key=scores.__getitem__)
            result = next(r for r in results if (r.measure, r.item) == (measure, row.id))
            assert (result.parsed, result.expected) == (options[chosen], options[n % 3])
            shown = [float(line.split()[0]) for line in result.output.splitlines()]
            assert shown == pytest.approx(scores, abs=1e-3)
            hits[measure] += chosen == n % 3
    assert {measure: metrics["answers"][measure]["all"]["value"] for measure in hits} == pytest.approx(
        {measure: count / 8 for measure, count in hits.items()}
    )
    assert hits["choice acc"] != 8


def test_the_likelihood_of_options_is_measured_on_this_machine_where_a_server_writes(evaluate, model):
    rows = [checked(n, "choice", f"What is it, {n}?{LISTED}", "B") for n in range(3)]
    _, expected, _ = evaluate(rows)
    with serving_weights(*checkpoints.load(model)) as server:
        _, results, _ = evaluate(rows, server={"url": server.url, "model": "m"})
        assert {request["max_tokens"] for request in server.asked} == {served.PROBE_TOKENS, SHORT["max_new_tokens"]}
        assert len(server.asked) == 3 + 3  # each question as a probe, and as a problem
    assert results == expected
    assert {row.measure for row in results} >= {"choice accuracy", "choice acc", "choice acc_norm"}


def test_the_gate_set_is_answered_on_this_machine_where_a_server_writes(evaluate, model, tmp_path):
    rows, out = questions(3), {"gate": tmp_path / "gate_results.parquet"}
    evaluate(rows, outputs=out, gate_items=3)
    expected = tables.read(out["gate"], Result)
    with serving_weights(*checkpoints.load(model)) as server:
        evaluate(rows, outputs=out, gate_items=3, server={"url": server.url, "model": "m"})
        assert len(server.asked) == 3 + 3, "the report's questions alone, as probes and as problems"
    assert tables.read(out["gate"], Result) == expected


def test_options_that_are_equally_likely_are_named_a_tie(evaluate, monkeypatch):
    scoring = measured_model.scoring
    monkeypatch.setattr(scoring, "losses", lambda model, rows, *_: [scoring.Loss(row.id, 1.0, 1) for row in rows])
    rows = [checked(n, "choice", f"What, {n}?\nA) x\nB) y", "A" if n else "B") for n in range(3)]
    metrics, _, _ = evaluate(rows)
    assert metrics["answers"]["choice acc"]["outcomes"] == {"tie": 3}
    assert metrics["answers"]["choice acc"]["all"]["value"] == pytest.approx(
        2 / 3
    )  # the first one counts, as in lm-eval


@pytest.mark.parametrize(
    ("check", "reference", "measure", "answers"),
    [
        (
            {"kind": "regex", "pattern": r"is (\w+)"},
            "It is Blue.",
            "regex accuracy",
            [("So it is blue", 1, "passed"), ("it is red", 0, "wrong"), ("blue", 0, "no match")],
        ),
        (
            "contains",
            "Ulm",
            "contains accuracy",
            [("Born in ULM, 1879.", 1, "passed"), ("In Ulm", 1, "passed"), ("Born in Bern.", 0, "wrong")],
        ),
        (
            "tool_call",
            '{"name": "add", "arguments": {"n": 1}}',
            "tool_call accuracy",
            [
                ('<tool_call>{"name": "add", "arguments": {"n": 1}}</tool_call>', 1, "passed"),
                ('{"name": "add", "arguments": {"n": 2}}', 0, "wrong arguments"),
                ('{"name": "sub", "arguments": {"n": 1}}', 0, "wrong tool"),
                ("add(1)", 0, "no tool call"),
            ],
        ),
        (
            "rouge",
            "the cat sat here",
            "rouge score",  # two words of four in common, in this order
            [("the cat sat here", 1, "passed"), ("the cat ran away", 0.5, "overlap"), ("no", 0, "wrong")],
        ),
        (
            "chrf",
            "ac",
            "chrf score",  # one of two characters in common, and not their only pair
            [("ac", 1, "passed"), ("ab", 0.25, "overlap"), ("no", 0, "wrong")],
        ),
    ],
    ids=lambda value: value if isinstance(value, str) and value.endswith((" accuracy", " score")) else "",
)
def test_each_kind_of_check_grades_the_answers_that_a_server_writes(
    evaluate, serving, check, reference, measure, answers
):
    rows = [checked(n, check, f"Question {n}", reference) for n in range(len(answers))]
    with serving(lambda number: answers[number][0]) as server:
        metrics, results, run = evaluate(rows, server={"url": server.url, "model": "m"})
    graded = {row.item: (row.output, row.value, row.outcome) for row in results if row.measure == measure}
    assert graded == {row.id: answer for row, answer in zip(rows, answers, strict=True)}
    assert all(row.expected for row in results if row.measure == measure)
    figures, right = metrics["answers"][measure], sum(score for _, score, _ in answers)
    assert figures["outcomes"] == Counter(outcome for *_, outcome in answers)
    if measure.endswith("accuracy"):
        assert figures["all"] == statistics.proportion(right, len(answers)).record()
    assert figures["all"]["low"] < figures["all"]["value"] < figures["all"]["high"]
    assert figures["all"]["value"] == pytest.approx(right / len(answers), abs=1e-6)
    assert run.metrics[-1][1][measure.replace(" ", "_")] == figures["all"]["value"]


def judge_with_gaps(text):
    """The reply of a judge that prefers the sentence with the question's number, and any other to "No answer."."""
    number, first = number_of(text), text.split("[Answer A]\n")[1].split("\n\n[Answer B]")[0]
    if number in (2, 3, 4):
        return "Both are nice."
    if number == 6:
        return "TIE"
    is_first = first != "No answer." if number == 5 else first == f"It is {number}."
    return "A" if is_first else "B"


def test_a_judge_has_its_score_its_agreement_and_the_count_of_answers_without_a_verdict(evaluate, serving):
    rows = [checked(n, "judge", f"Question {n}", "No answer." if n == 5 else f"It is {n}.") for n in range(9)]
    with serving(lambda n: ("I do not kn", "length") if n in (4, 7) else "I do not know", judge_with_gaps) as server:
        address = {"url": server.url, "model": "m"}
        metrics, results, run = evaluate(rows, server=address, judge=address)
    scores, agreements = (
        {row.item: row for row in results if row.measure == measure} for measure in ("judge score", "judge agreement")
    )
    assert [scores[row.id].value for row in rows] == [0, 0, 0.5, 0.5, 0.5, 1, 0.5, 0, 0]
    assert [scores[row.id].outcome for row in rows] == [
        *["reference preferred"] * 2,
        *["no verdict"] * 3,  # of the last one too, which was cut off
        "passed",
        "tie",
        "truncated",
        "reference preferred",
    ]
    figures = metrics["answers"]
    assert figures["judge score"]["outcomes"] == Counter(row.outcome for row in scores.values())
    assert figures["judge score"]["all"]["value"] == pytest.approx(3 / 9, abs=1e-6)
    assert figures["judge agreement"]["outcomes"] == {"disagrees": 2, "no verdict": 3, "passed": 4}
    assert figures["judge agreement"]["all"] == statistics.proportion(4, 9).record()
    assert sum(row.value for row in agreements.values()) == 4
    logged = run.metrics[-1][1]
    assert (logged["judge_score"], logged["judge_agreement"]) == pytest.approx((3 / 9, 4 / 9), abs=1e-6)


def test_labels_have_macro_f1_and_a_confusion_matrix(evaluate):
    metrics, _, _ = evaluate([checked(n, "labels", f"Is {n} odd?", ("yes", "no")[n % 2]) for n in range(6)])
    figures = metrics["answers"]["labels macro-F1"]
    assert figures["all"]["value"] == 0
    assert {label: sum(row.values()) for label, row in figures["confusion"].items()} == {"no": 3, "yes": 3}
    assert metrics["answers"]["labels accuracy"]["all"] == statistics.proportion(0, 6).record()


def test_the_gate_set_is_answered_too_where_the_settings_say_so(evaluate, tmp_path):
    out = {"gate": tmp_path / "gate_results.parquet"}
    for items in (0, 4):
        evaluate(questions(9), outputs=out, gate_items=items)
        rows = [row for row in tables.read(out["gate"], Result) if row.measure == "exact accuracy"]
        assert len(rows) == items
