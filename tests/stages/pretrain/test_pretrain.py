"""Stage `pretrain` trains on the domain, validates on both corpora, and writes a full model."""

import json
import shutil
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file

from tasks.core.records import Document
from tasks.core.weights import surgery
from tasks.engine import encode
from tasks.engine.inference import scoring
from tasks.engine.training import checkpointing, job
from tasks.engine.training.callbacks import MethodHooks
from tasks.io import tables
from tasks.io.weights import checkpoints
from tests import tiny as small
from tests.stages.pretrain.conftest import BASELINES, METHODS, PRETRAIN
from tests.stages.trainings import digests, killed_at


def course(folder):
    return json.loads((folder / "training.json").read_text())


def notes(work):
    """Return the state of the methods in the last checkpoint."""
    newest = max(work.glob("checkpoint-*"), key=lambda path: int(path.name.rsplit("-", 1)[1]))
    return json.loads((newest / checkpointing.STATE).read_text())["methods"]


@pytest.mark.parametrize("name", BASELINES)
def test_the_loss_on_both_corpora_is_measured_at_every_checkpoint(baseline, name):
    output, run = baseline(name)
    training = course(output)
    steps = {step: tokens for step, tokens, _ in training["loss"]}
    last = max(steps)
    assert last > 6
    expected = [0, *(steps[step] for step in sorted({*range(3, last, 3), last}))]
    assert training["measured"].keys() == {"domain", "general"}
    for corpus, points in training["measured"].items():
        assert [tokens for tokens, _ in points] == expected
        (_, before), *_, (tokens, after) = points
        assert f"pretrain: {corpus} loss {before:.4f} → {after:.4f} nats/token after {tokens:,} tokens" in run.said
    (_, before), *_, (_, after) = training["measured"]["domain"]
    assert after < before - 0.3
    assert training["composition"]["expander"] == BASELINES[name].get("expander", "none")


@pytest.mark.parametrize("name", BASELINES)
def test_the_model_is_whole_and_the_one_that_was_measured(baseline, inputs, name):
    output, _ = baseline(name)
    assert not checkpoints.is_adapter(output)
    model, tokenizer = checkpoints.load(output)
    base = small.load(inputs["base"])
    grown = len(surgery.decoder_layers(model)) - len(surgery.decoder_layers(base))
    assert grown == (1 if "expander" in BASELINES[name] else 0)
    assert model.config.use_cache
    for corpus, points in course(output)["measured"].items():
        rows = [row for row in tables.read(inputs["valid"], Document) if row.domain == corpus]
        sequences = encode.take(encode.documents(rows, tokenizer, 128), PRETRAIN["valid_tokens"])
        assert scoring.mean(scoring.losses(model, sequences)) == pytest.approx(points[-1][1], abs=1e-4)


def test_what_an_adapter_says_of_itself_is_asked_before_it_is_merged(baseline, inputs):
    output, _ = baseline("pat")
    width = small.load(output).config.hidden_size
    assert course(output)["adapter"]["width"] == width < small.load(inputs["base"]).config.hidden_size


def test_a_grown_model_says_what_it_grew(baseline, inputs):
    output, _ = baseline("adept")
    facts = json.loads((output / "expansion.json").read_text())
    (copy,), (original,) = facts["copies"], facts["originals"]
    assert copy == original + 1
    assert facts["importance"][original] == min(facts["importance"])
    assert len(facts["importance"]) == small.load(inputs["base"]).config.num_hidden_layers
    held, base = load_file(output / "model.safetensors"), load_file(inputs["base"] / "model.safetensors")
    for name, tensor in base.items():  # frozen layers are the base's, at their new places
        if ".layers." in name:
            number = surgery.layer_number(name)
            name = name.replace(f"layers.{number}.", f"layers.{number + (number > original)}.")
        assert torch.equal(held[name], tensor), name
    assert "expansion.json" not in digests(baseline("full")[0])


def test_what_is_trained_is_the_card_of_each_baseline(baseline, inputs):
    model = small.load(inputs["base"])
    layer = sum(parameter.numel() for parameter in surgery.decoder_layers(model)[0].parameters())
    courses = {name: course(baseline(name)[0]) for name in BASELINES}
    assert courses["full"]["trainable"] == courses["full"]["parameters"] == model.num_parameters()
    assert courses["adept"]["trainable"] == courses["llama_pro"]["trainable"] == layer
    assert courses["adept"]["parameters"] == model.num_parameters() + layer
    assert courses["lora"]["trainable"] == sum(
        4 * (linear.in_features + linear.out_features) for linear in surgery.linears(model, "all-linear").values()
    )


def test_the_units_of_a_copy_learn_at_rates_of_their_own(baseline, pretrain, tmp_path):
    apart, _ = baseline("adept")
    state = notes(apart.parent / "work")["expander"]
    assert set(state["learning_rates"].values()) == {0.01}
    assert min(state["multipliers"].values()) == 0.0
    assert max(state["multipliers"].values()) == pytest.approx(2.0, abs=0.5)
    assert len(set(state["multipliers"].values())) > 3
    alike, _ = pretrain("alike", METHODS | {"adept": {"layers": 1, "interval": 0}}, expander="adept")
    assert "multipliers" not in notes(tmp_path / "alike" / "work")["expander"]
    assert checkpoints.weights_digest(alike) != checkpoints.weights_digest(apart)


def test_adept_at_one_rate_on_the_same_layers_is_llama_pro(pretrain, inputs):
    """The one is a control of the other: what is left between them is which layers, and at what rates."""
    depth = small.load(inputs["base"]).config.num_hidden_layers
    every = METHODS | {"adept": {"layers": depth, "interval": 0}, "llama_pro": {"layers": depth}}
    adept, pro = (pretrain(name, every, expander=name)[0] for name in ("adept", "llama_pro"))
    held, other = (load_file(folder / "model.safetensors") for folder in (adept, pro))
    assert held.keys() == other.keys()
    for name, tensor in held.items():
        torch.testing.assert_close(tensor, other[name], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["adept with replay", "lora"])
def test_an_interrupted_run_ends_in_the_same_bytes(baseline, pretrain, tmp_path, name):
    straight, _ = baseline(name)
    with killed_at(5):
        pretrain("killed", **BASELINES[name])
    assert not (tmp_path / "killed" / "model").exists()
    before = notes(tmp_path / "killed" / "work")
    resumed, run = pretrain("killed", **BASELINES[name])
    assert next(step for step, _ in run.metrics if step is not None) == 4
    assert digests(resumed) == digests(straight)
    if "expander" in BASELINES[name]:
        assert before["expander"]["multipliers"], "it went away after the rates were set"
        assert notes(tmp_path / "killed" / "work") == notes(straight.parent / "work")


def test_a_resume_keeps_what_trains_and_at_what_rates(pretrain, tmp_path, monkeypatch):
    """After the kill no further look at the units is due, so every rate must come from the checkpoint."""
    sections = METHODS | {"adept": {"layers": 1, "interval": 3}}
    seen = []

    def note(self, args, state, control, hooked=MethodHooks.on_step_begin, **rest):
        hooked(self, args, state, control, **rest)
        moment = self.moment("expander", state.global_step)
        rates = {group["name"]: (group["lr"], group["initial_lr"]) for group in moment.optimizer.param_groups}
        seen.append((state.global_step, rates, list(moment.scheduler.base_lrs)))

    monkeypatch.setattr(MethodHooks, "on_step_begin", note)
    pretrain("straight", sections, expander="adept", save_every=4)
    straight = {step: rest for step, *rest in seen}
    seen.clear()
    with killed_at(5):
        pretrain("killed", sections, expander="adept", save_every=4)
    seen.clear()
    pretrain("killed", sections, expander="adept", save_every=4)
    resumed = {step: rest for step, *rest in seen}
    assert min(resumed) == 4, "between the looks at steps 3 and 6"
    assert resumed == {step: rest for step, rest in straight.items() if step >= 4}
    assert len(set(resumed[4][1])) > 3


def spied(monkeypatch):
    """Return the sequences and the probe that the engine received."""
    given = SimpleNamespace()
    execute = job.execute

    def spy(model, tokenizer, data, **more):
        given.sequences, given.probe = data.train, data.probe
        return execute(model, tokenizer, data, **more)

    monkeypatch.setattr(job, "execute", spy)
    return given


@pytest.mark.parametrize("replay", [0.0, 0.3])
def test_the_general_corpus_trains_by_its_share_and_the_probe_not_at_all(pretrain, monkeypatch, replay):
    given = spied(monkeypatch)
    pretrain(replay=replay, expander="adept")
    tokens = {name: sum(len(s) for s in given.sequences if s.task == name) for name in ("domain", "general")}
    total = min(PRETRAIN["max_tokens"], tokens["domain"] / (1 - replay))
    assert abs(tokens["general"] - replay * total) <= 128
    assert (tokens["general"] > 0) == (replay > 0)
    assert {sequence.task for sequence in given.probe} == {"general"}
    assert 200 <= sum(map(len, given.probe)) < 200 + 128
    assert not {sequence.id for sequence in given.probe} & {sequence.id for sequence in given.sequences}


def test_what_is_looked_at_is_of_no_set_that_is_measured(pretrain, inputs, monkeypatch):
    given = spied(monkeypatch)
    pretrain()
    assert not {s.id for s in given.probe} & {row.id for row in tables.read(inputs["valid"], Document)}


@pytest.mark.parametrize("config", [{}, {"expander": "adept"}])
def test_without_tokens_the_base_passes_through_bit_for_bit(pretrain, inputs, config):
    output, run = pretrain(max_tokens=0, **config)
    assert digests(output) == digests(inputs["base"])
    assert all((output / name).samefile(inputs["base"] / name) for name in digests(output)), "no second copy on disk"
    assert run.metrics == []


def test_where_the_disk_cannot_link_the_base_is_copied(pretrain, inputs, monkeypatch):
    def refuse(source, target):
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(checkpoints.os, "link", refuse)
    output, _ = pretrain(max_tokens=0)
    assert digests(output) == digests(inputs["base"])
    assert not any((output / name).samefile(inputs["base"] / name) for name in digests(output))


def test_a_whole_model_has_the_files_by_which_its_base_reads_images(pretrain, inputs, tmp_path):
    inputs["base"] = shutil.copytree(inputs["base"], tmp_path / "sees")
    (inputs["base"] / "preprocessor_config.json").write_text("{}")
    folder, _ = pretrain()
    assert (folder / "preprocessor_config.json").read_text() == "{}"


def test_the_card_names_the_parent_and_all_settings(baseline, tiny):
    card = checkpoints.read_card(baseline("adept with replay")[0])
    assert card["parent"] == checkpoints.weights_digest(tiny)
    assert card["settings"]["pretrain"]["replay"] == 0.3
    assert card["settings"]["methods"]["adept"]["layers"] == 1
    assert card["method"]["expander"] == "adept"


def test_twice_the_same_settings_are_the_same_bytes_and_another_seed_is_other_weights(baseline, pretrain):
    first, again, other = (
        baseline("adept with replay"),
        *(pretrain(f"{n}", expander="adept", replay=0.3, seed=n) for n in (0, 1)),
    )
    assert digests(first[0]) == digests(again[0])
    assert checkpoints.weights_digest(first[0]) != checkpoints.weights_digest(other[0])
