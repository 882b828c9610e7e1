"""The choice of a tool by vote, and one prompt for both adapters: what is served is what was trained."""

import gzip
import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks import tool_world
from tasks.core.answers.tool_choice import written
from tasks.engine import encode
from tasks.engine.inference import decoding, generation
from tasks.io.sources.record import Row
from tasks.methods.routers import Asked, Specialists
from tasks.methods.routers.dualtune.config import DualtuneConfig
from tasks.methods.routers.dualtune.method import elected, route
from tasks.stages.fetch.random_init import byte_tokenizer
from tasks.stages.ingest.config import File
from tasks.stages.ingest.reading.examples import Checked, examples_from_records
from tests.engine.chat_templates import FAMILIES, tokenizer
from tests.methods.deep import llama
from tests.stages.ingest.reading.rows.test_trajectories import OPTIONS, trajectory

ROOT = Path(__file__).resolve().parents[2]
MEMBERS = ("answer", "call:half", "call:half_up", "select")
TOKENIZERS = {"bytes": lambda: byte_tokenizer(tools=True)} | {
    name: (lambda name=name: tokenizer(FAMILIES[name], name=name)) for name in ("qwen2.5", "llama3.1")
}


def views():
    source = File.model_validate(OPTIONS)
    row = Row("line 1", trajectory())
    return [item.record for item in examples_from_records([("file x", row)], source, "d", Checked())]


@pytest.mark.parametrize(
    ("names", "task"),
    [
        (["half"] * 6 + ["half_up"] * 4, "call:half"),
        (["half_up", "half", "half", "half_up"], "call:half_up"),
        (["halve"] * 9 + ["half"], "call:half"),
        (["half_u"] * 9 + ["half_up"], "call:half_up"),
        ([None, None, "half"], "answer"),
        (["halve"], "answer"),
    ],
)
def test_the_name_that_most_choices_have_wins_and_unknown_ones_do_not_count(names, task):
    assert elected([written(name) for name in names], MEMBERS) == task


def test_choices_that_cannot_be_read_do_not_count():
    assert elected(['<tool_call>{"name', '<tool_call>{"name', written("half")], MEMBERS) == "call:half"
    assert elected(["It rains.", "It rains.", written("half")], MEMBERS) == "call:half", "none has to be written"
    assert elected(['<tool_call>{"name'], MEMBERS) == "answer"


def test_the_trajectories_of_profile_tools_are_those_that_its_generator_makes_and_all_are_read():
    folder = ROOT / "params/tools-data"
    rows = [json.loads(line) for line in gzip.decompress((folder / "trajectories.jsonl.gz").read_bytes()).splitlines()]
    assert rows == list(tool_world.trajectories(folder / "tools.py"))
    records = [("file x", Row(f"line {number}", row)) for number, row in enumerate(rows, 1)]
    read = [item.record for item in examples_from_records(records, File.model_validate(OPTIONS), "d", Checked())]
    assert {row.task for row in read} == {"answer", "select", *(f"call:{name}" for name in tool_world.ARGUMENTS)}
    assert len({row.group for row in read}) > 380, "hardly a question is asked twice"


def asked(tasks, texts, calls):
    def write(member, places, **how):
        calls.append((member, list(places), how))
        return [texts[place] for place in places]

    return Asked(tasks, lambda: np.zeros((len(tasks), 1), np.float32), write)


def of(*names):
    return Specialists(names, np.zeros((len(names), 1), np.float32), np.ones((len(names), 1), np.float32))


def test_prompts_go_to_the_chosen_tools_adapter_and_a_choice_to_the_one_that_chooses():
    calls, texts = [], [[written("half")], [written("half_up")], [written(None)], [written("half_up")]]
    config = DualtuneConfig(votes=1, max_new_tokens=20)
    prompts = asked(["", "select", "call:half", "answer"], texts, calls)
    assert route(prompts, of(*MEMBERS), config) == ["call:half", "select", "answer", "call:half_up"]
    assert calls == [("select", [0, 2, 3], {"samples": 1, "temperature": 1.0, "max_new_tokens": 20})]
    assert route(asked([""], [[written(None)]], []), of("call:half", "select"), config) == [None], "the base answers"


def test_a_bank_without_a_selection_adapter_is_refused():
    with pytest.raises(
        ValueError, match="dualtune asks the adapter `select` for a tool, and the bank has colour, count"
    ):
        route(asked([""], [[]], []), of("colour", "count"), DualtuneConfig())


@pytest.mark.parametrize("family", TOKENIZERS)
def test_ids_that_are_served_are_ids_that_were_trained(family, monkeypatch):
    words, fed = TOKENIZERS[family](), []

    def decode(model, ids, *_, **__):
        fed.extend(ids)
        return [(number, [0]) for number in range(len(ids))]

    monkeypatch.setattr(decoding, "decode", decode)
    rows = views()
    model = llama(0, vocabulary=len(words))
    model.config.max_position_embeddings = 4096
    generation.write(
        model, [row.prompt for row in rows], words, max_new_tokens=1, batch_size=4, tools=[row.tools for row in rows]
    )
    for row, served in zip(rows, fed, strict=True):
        trained = encode.example(row, words)
        start = next(place for place, weight in enumerate(trained.weights) if weight)
        assert trained.ids[:start] == list(served)
        assert all(trained.weights[start:])
        label = words.decode(trained.ids[start:])
        if row.task == "select":
            assert label.startswith(row.response)
            assert words.decode(trained.ids[start + len(words(row.response)["input_ids"]) :]) in label
            assert '"n"' not in label
        elif row.task.startswith("call:"):
            assert row.messages[-1].tool_calls[0].arguments in label
    assert fed[0] == fed[1], "the choice and the call have one prompt"


def test_the_bytes_of_a_call_are_those_of_its_name_and_arguments():
    words = byte_tokenizer(tools=True)
    calls = [row for row in views() if row.task.startswith("call:")]
    assert calls
    for row in calls:
        (call,) = row.messages[-1].tool_calls
        assert row.response == ""
        assert encode.example(row, words).size == len(call.name) + len(call.arguments)
