"""An answer ends where its kind does: a program with its block, another with the turn, each before a stop text."""

from tasks.core.records import Example, Tests
from tasks.engine.inference import generation
from tasks.io import tables
from tests import tiny as small
from tests.stages.evaluate.test_evaluate import evaluate, inputs  # noqa: F401


def test_programs_alone_end_with_their_block_also_in_a_set_that_has_other_answers(evaluate, inputs, monkeypatch):  # noqa: F811
    tests = {"f": Tests("doctest", ">>> f()\n1\n", "f"), "x": Tests("answer", "{}", "x")}
    rows = [small.example(n, prompt=f"Write {n}.", tests=tests[name], split="test") for n, name in enumerate("fx")]
    tables.write(inputs["test"], rows, Example)
    asked, respond = {}, generation.respond

    def told(model, prompts, *arguments, **options):
        asked.update((prompt[-1].content, options["programs"]) for prompt in prompts)
        return respond(model, prompts, *arguments, **options)

    monkeypatch.setattr(generation, "respond", told)
    evaluate()
    assert asked == {"Write 0.": True, "Write 1.": False}


def test_what_ends_an_answer_is_told_and_can_be_set(evaluate):  # noqa: F811
    metrics, answers = evaluate()
    assert metrics["settings"]["ends_at"] == ["end of turn", "first closed code block of a program under test"]
    longest = max(answers.values(), key=len)
    metrics, shorter = evaluate(more={"stop": [longest[1:3]]})
    assert metrics["settings"]["ends_at"] == [
        "end of turn",
        "first closed code block of a program under test",
        longest[1:3],
    ]
    assert shorter == {item: text.partition(longest[1:3])[0] for item, text in answers.items()} != answers
