"""General text is replayed beside examples: its share is one of trained tokens, and it keeps what the model knew."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.core.records import Document, FaultPair
from tasks.core.sequences import Encoded
from tasks.engine.packing import schedule
from tasks.engine.sequences import listed
from tasks.io import tables
from tasks.io.weights import checkpoints
from tasks.stages.tune import stage
from tasks.stages.tune.config import Mixture
from tasks.stages.tune.mixture import mix, with_replay
from tests.stages.tune.conftest import METHODS, TUNE

TEXT = "The quick brown fox jumps over the lazy dog, and the dog sleeps on. "


def documents(path, count, domain="general"):
    rows = [
        Document(f"{domain}-{number}", TEXT * 4, domain, str(number), "train", "here", "CC0-1.0")
        for number in range(count)
    ]
    tables.write(path, rows, Document)


def examples(count, prompt=8, answer=2):
    """Sequences of which a part is trained."""
    ids = [0] * (prompt + answer)
    return listed([Encoded(f"row-{n}", ids, [0.0] * prompt + [1.0] * answer, n, domain="rows") for n in range(count)])


def texts(count, size):
    return listed(
        [Encoded(f"text-{n}", [0] * size, [0.0] + [1.0] * (size - 1), n, domain="general") for n in range(count)]
    )


def trained(packs, domain):
    return sum(sequence.num_trained for pack in packs for sequence in pack.sequences if sequence.domain == domain)


@given(st.floats(0.05, 0.9), st.integers(1, 3))
def test_the_share_is_one_of_trained_tokens_in_each_epoch(share, epochs):
    mixed, part = with_replay(examples(200), texts(50, 9), share)
    packs = schedule(mixed, 40, 10**9, epochs, seed=0)
    of_texts, of_rows = trained(packs, "general"), trained(packs, "rows")
    assert of_rows == 400 * epochs
    assert abs(of_texts - share * (of_texts + of_rows)) <= 8 * epochs
    assert part.passes == pytest.approx(share / (1 - share))


def test_each_epoch_draws_other_texts():
    mixed, _ = with_replay(examples(40), texts(50, 9), 0.5)
    first, both = (schedule(mixed, 40, 10**9, epochs, seed=0) for epochs in (1, 2))
    drawn = [
        {sequence.id for pack in packs for sequence in pack.sequences if sequence.domain == "general"}
        for packs in (first, both[len(first) :])
    ]
    assert drawn[0] != drawn[1]
    assert all(9 <= len(ids) <= 11 for ids in drawn)


def test_a_mixture_of_the_examples_counts_as_an_epoch_sees_it():
    mixed, _ = mix(examples(40), Mixture.model_validate({"domains": {"rows": {"weight": 2}}}))
    both, part = with_replay(mixed, texts(50, 9), 0.5)
    packs = schedule(both, 40, 10**9, 1, seed=0)
    assert trained(packs, "rows") == 160
    assert abs(trained(packs, "general") - 160) <= 8
    assert part.share == pytest.approx(180 / (800 + 180))


def test_a_training_replays_what_it_says_and_general_text_is_kept_better(tune, inputs):
    documents(inputs["documents"], 20)
    plain, _ = tune("plain", epochs=6)
    output, run = tune("replayed", replay=0.5, epochs=6)
    course = json.loads((output / "training.json").read_text(encoding="utf-8"))
    assert course["mixture"]["general"]["passes"] > 0
    assert any("general text: " in line for line in run.said)
    assert checkpoints.read_card(output)["settings"]["tune"]["replay"] == 0.5
    assert "replay" not in checkpoints.read_card(plain)["settings"]["tune"]
    losses = [loss_of_text(folder, inputs["base"]) for folder in (plain, output)]
    assert losses[1] < losses[0] - 0.05


def test_no_pack_is_of_general_text_alone(tune, inputs, monkeypatch):
    documents(inputs["documents"], 20)
    seen = []
    monkeypatch.setattr(stage.job, "execute", lambda *arguments, **_: seen.append(arguments[2].train) or {})
    tune(replay=0.5)
    lengths = [len(sequence) for sequence in seen[0] if sequence.domain == "general"]
    assert max(lengths, default=0) == TUNE["pack_tokens"] // 8


def test_each_adapter_of_a_bank_replays(tune, inputs):
    documents(inputs["documents"], 20)
    output, _ = tune("bank", bank="task", replay=0.5, epochs=1)
    courses = [json.loads(path.read_text(encoding="utf-8")) for path in output.glob("*/training.json")]
    assert courses
    assert all(course["mixture"]["general"]["passes"] > 0 for course in courses)


def loss_of_text(folder, base):
    """Nats per token of the general text under a tuned model."""
    import torch

    model, tokenizer = checkpoints.load(folder, base, dtype="float32", device="cpu")
    ids = torch.tensor([tokenizer(TEXT, add_special_tokens=False)["input_ids"]])
    with torch.no_grad():
        return float(model(input_ids=ids, labels=ids).loss)


def test_without_general_text_it_is_refused_with_what_would_do(tune, inputs):
    documents(inputs["documents"], 3, domain="domain")
    with pytest.raises(
        ValueError, match=r"no general text, which tune\.replay=0\.3 draws from.*ingest\.corpora\.general"
    ):
        tune(replay=0.3)


def test_an_objective_of_whole_answers_is_refused(tune, inputs):
    documents(inputs["documents"], 3)
    tables.write(inputs["faults"], [], FaultPair)
    with pytest.raises(ValueError, match=r"tune\.replay: objective 'exact_match' learns from whole answers"):
        tune(replay=0.3, optimizer="mezo", objective="exact_match", methods=METHODS | {"mezo": {}, "exact_match": {}})
