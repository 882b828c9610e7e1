"""Stage `tune` trains on a round's examples, and writes a model in standard formats and losses that repeat."""

import json
import math
import shutil
from dataclasses import replace

import pytest
import torch

from tasks.core.records import Document, Example, Message
from tasks.engine import encode, first_batch
from tasks.engine.inference import scoring
from tasks.engine.training import checkpointing
from tasks.io import pinned, tables
from tasks.io.weights import checkpoints
from tasks.methods.adapters.mola import method as mola
from tasks.stages.tune import stage
from tasks.stages.tune.config import StageConfig
from tests import tiny as small
from tests.stages.trainings import digests, killed_at
from tests.stages.tune.conftest import METHODS, TUNE, examples
from tests.support import ScratchRun


@pytest.mark.parametrize("adapter", ["lora", "none"])
def test_training_lowers_the_validation_loss_and_says_so(tune, adapter):
    output, run = tune(adapter=adapter)
    course = json.loads((output / "training.json").read_text())
    (start, before), *_, (tokens, after) = course["measured"]["validation"]
    assert start == 0
    assert tokens == course["tokens"] <= TUNE["max_tokens"]
    assert after < before - 0.5
    logged = {"validation_loss_before": pytest.approx(before), "validation_loss": pytest.approx(after)}
    assert run.metrics[-1] == (None, logged)
    assert f"{before:.4f} → {after:.4f}" in run.said[-1]


def test_the_first_batch_is_kept_token_by_token_with_its_mask(tune, inputs):
    output, _ = tune()
    course = json.loads((output / "training.json").read_text())
    batch = course["first_batch"]
    assert batch["weighs"] == ""
    assert batch["tokens"] == course["loss"][0][1]
    assert 0 < batch["trained"] < batch["tokens"]
    examples = {example.id: example for example in tables.read(inputs["examples"], Example)}
    assert sum(len(sequence["tokens"]) for sequence in batch["sequences"]) == min(batch["tokens"], first_batch.MOST)
    for sequence in batch["sequences"][:-1]:  # the last may be cut
        learned = "".join(
            text for text, weight in zip(sequence["tokens"], sequence["weights"], strict=True) if weight > 0
        )
        assert examples[sequence["id"]].response.strip() in learned
        assert examples[sequence["id"]].prompt[-1].content not in learned


def test_telemetry_reaches_the_run_and_no_output(tune):
    watched, run = tune("watched", validate_every=1)
    alone, other = tune("alone", validate_every=0)
    assert digests(watched) == digests(alone)
    steps = [step for step, values in run.metrics if "train/loss" in values]
    validated = [step for step, values in run.metrics if "valid/loss" in values]
    assert steps == list(range(1, len(steps) + 1))
    assert validated == [0, *steps]
    assert [step for step, values in other.metrics if "valid/loss" in values] == [0, *range(2, len(steps) + 1, 2)]
    assert run.said[0].startswith(f"trained: {len(steps)} steps in ")


@pytest.mark.parametrize("adapter", ["lora", "none"])
def test_the_model_that_was_measured_is_the_one_that_was_written(tune, inputs, adapter):
    output, _ = tune(adapter=adapter)
    model, tokenizer = checkpoints.load(output, inputs["base"])
    rows = list(encode.examples(tables.read(inputs["valid"], Example), tokenizer, 128))
    expected = json.loads((output / "training.json").read_text())["measured"]["validation"][-1][1]
    assert scoring.mean(scoring.losses(model, rows)) == pytest.approx(expected, abs=1e-4)


def test_trainings_tell_whether_they_were_validated_on_the_same_tokens(tune, inputs):
    longer = small.example(4, prompt="Is 4 a number?", response="yes, indeed" + " it is" * 10, split="valid")
    tables.write(inputs["valid"], [*examples(4, split="valid"), longer], Example)
    outputs = [tune(str(pack), pack_tokens=pack, max_tokens=100)[0] for pack in (128, 130, 100)]
    first, second, shorter = (json.loads((output / "training.json").read_text())["validated_on"] for output in outputs)
    assert first == second != shorter


def test_the_course_holds_every_step(tune):
    output, run = tune(accumulation=2)
    course = json.loads((output / "training.json").read_text())
    steps = [(step, values["train/loss"]) for step, values in run.metrics if "train/loss" in values]
    assert [step for step, _ in steps] == list(range(1, len(steps) + 1))
    assert [(step, loss) for step, _, loss in course["loss"]] == [(s, pytest.approx(v, abs=1e-6)) for s, v in steps]
    assert course["loss"][-1][1] == course["tokens"]
    for name in ("learning_rate", "gradient_norm"):
        logged = [values[f"train/{name}"] for _, values in run.metrics if f"train/{name}" in values]
        assert [tokens for tokens, _ in course[name]] == [tokens for _, tokens, _ in course["loss"]]
        assert [value for _, value in course[name]] == pytest.approx(logged, rel=1e-5)
    assert course["composition"] == {
        "base": "none",
        "expander": "none",
        "adapter": "lora",
        "selector": "all",
        "optimizer": "adamw",
        "objective": "cross_entropy",
    }
    assert 0 < course["trainable"] < course["parameters"]


def test_a_sparsifier_is_named_where_there_is_one_and_trains_an_ordinary_adapter(tune, inputs):
    attention = {"rank": 4, "targets": ["q_proj", "k_proj", "v_proj", "o_proj"]}
    sections = METHODS | {"lora": attention, "lemo": {"block": 4, "first": 0}}
    output, _ = tune(sparsifier="lemo", methods=sections)
    course, card = (json.loads((output / name).read_text()) for name in ("training.json", "ratchet.json"))
    assert course["composition"]["sparsifier"] == card["method"]["sparsifier"] == "lemo"
    model, _ = checkpoints.load(output, inputs["base"])
    assert sum(p.numel() for p in model.parameters()) == course["parameters"] - course["trainable"]
    assert course["measured"]["validation"][-1][1] < course["measured"]["validation"][0][1]


def test_what_an_adapter_shows_of_itself_is_kept_with_the_course(tune, inputs):
    output, _ = tune(adapter="mola", methods=METHODS | {"mola": {"rank": 2, "experts": [2, 2, 3, 3]}})
    redundancy = json.loads((output / "training.json").read_text())["adapter"]["redundancy"]
    model, _ = checkpoints.load(output, inputs["base"])
    assert redundancy == pytest.approx(
        {str(number): apart for number, apart in mola.redundancy(model).items()}, abs=1e-6
    )
    assert redundancy.keys() == {"0", "1"}
    assert "adapter" not in json.loads((tune("lora")[0] / "training.json").read_text())


def test_twice_the_same_settings_are_the_same_bytes_and_another_seed_is_other_weights(tune):
    first, again, other = tune("first")[0], tune("again")[0], tune("other", seed=1)[0]
    assert digests(first) == digests(again)
    assert checkpoints.weights_digest(first) != checkpoints.weights_digest(other)


def test_an_interrupted_run_ends_in_the_same_bytes(tune, tmp_path):
    straight, _ = tune("straight")

    with killed_at(5):
        tune("killed")
    assert not (tmp_path / "killed" / "model").exists()
    resumed, run = tune("killed")
    assert next(step for step, _ in run.metrics if step is not None) == 5
    assert digests(resumed) == digests(straight)


def test_an_adapter_is_in_pefts_own_format_and_a_whole_model_in_transformers(tune):
    adapter, full_model = tune("adapter")[0], tune("whole", adapter="none")[0]
    assert {"adapter_config.json", "adapter_model.safetensors"} < set(digests(adapter))
    targets = json.loads((adapter / "adapter_config.json").read_text())["target_modules"]
    assert targets == sorted(targets)  # a set would be written in another order by every process
    assert "README.md" not in digests(adapter)
    assert {"config.json", "model.safetensors", "tokenizer.json"} < set(digests(full_model))
    assert small.load(full_model).config.use_cache


def test_nothing_written_names_a_path_of_this_machine(tune, tmp_path, inputs):
    for name, adapter in (("adapter", "lora"), ("whole", "none")):
        folder, run = tune(name, adapter=adapter)
        for file in folder.glob("*.json"):
            assert str(tmp_path) not in file.read_text(), file.name
            assert str(inputs["base"]) not in file.read_text(), file.name
        assert str(tmp_path) not in " ".join(map(str, run.notes.values()))


def test_the_card_names_the_parent_by_its_weights(tune, tiny):
    card = checkpoints.read_card(tune()[0])
    assert card["parent"] == checkpoints.weights_digest(tiny)
    assert card["settings"]["tune"]["pack_tokens"] == 128
    assert card["settings"]["methods"]["lora"]["rank"] == 4


def test_an_adapter_does_not_load_onto_another_base(tune, tmp_path):
    output, _ = tune()
    other = small.fetch(tmp_path, {"from": "config", "seed": 9})["base"]
    with pytest.raises(ValueError, match="was trained on weights"):
        checkpoints.load(output, other)


def test_examples_that_no_pack_can_hold_are_left_out_and_counted(tune, inputs):
    tables.write(inputs["examples"], [*examples(20), small.example(99, response="x" * 200)], Example)
    _, run = tune()
    assert (
        "tune first: 1 of 21 examples are longer than a pack, hold a control token, or train nothing, and were left out"
        in run.said
    )


@pytest.mark.parametrize("rows", [[], [small.example(response="x" * 200)]])
def test_nothing_to_train_on_is_refused_with_the_settings_that_would_do(tune, inputs, rows):
    tables.write(inputs["examples"], rows, Example)
    with pytest.raises(
        ValueError, match=r"no example of at most tune\.pack_tokens=128 tokens\. With tune\.max_tokens: 0 "
    ):
        tune()


def test_without_tokens_the_pretrained_model_passes_through_bit_for_bit(tune, inputs, tmp_path):
    pretrained = shutil.copytree(inputs["base"], tmp_path / "pretrained")
    for name in ("training.json", "expansion.json"):
        (pretrained / name).write_text("{}")
    for name in ("examples", "valid"):
        tables.write(inputs[name], [], Example)
    inputs["base"] = pretrained
    output, run = tune(max_tokens=0)
    expected = digests(pretrained)
    del expected["training.json"]  # nothing was trained here
    assert digests(output) == expected
    assert all((output / name).samefile(pretrained / name) for name in expected), "no second copy on disk"
    assert run.metrics == []
    assert checkpoints.load(output)[0].num_parameters() == checkpoints.load(pretrained)[0].num_parameters()


def test_character_weights_reach_the_loss(tune, inputs):
    plain, _ = tune("plain", max_tokens=1)
    rows = [
        small.example(n, prompt=row.prompt[0].content, response=row.response, weights=[2.0] * len(row.response))
        for n, row in enumerate(examples(20))
    ]
    tables.write(inputs["examples"], rows, Example)
    weighed, _ = tune("weighed", max_tokens=1)

    def first(folder):
        return json.loads((folder / "training.json").read_text())["loss"][0][2]

    # The end of turn keeps its weight of 1.
    assert 1.7 * first(plain) < first(weighed) < 2 * first(plain)


def test_without_validation_the_course_is_still_json(tune):
    output, run = tune(valid_tokens=0)
    course = json.loads((output / "training.json").read_text(), parse_constant=pytest.fail)
    assert course["loss"]
    assert course["measured"] == {}
    assert "nothing to validate on" in run.said[-1]


def test_bf16_trains(tune):
    output, run = tune(precision="bf16")
    assert run.notes["precision"] == "bf16"
    assert torch.isfinite(
        torch.tensor(json.loads((output / "training.json").read_text())["measured"]["validation"])
    ).all()


def test_a_device_that_is_not_there_is_refused(inputs, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    config = StageConfig.model_validate({"compute": {"device": "cuda"}, "tune": TUNE, "methods": METHODS})
    with pytest.raises(ValueError, match=r"compute\.device: 'cuda' is not on this machine. There is: cpu"):
        stage.main(inputs, {"model": tmp_path / "m"}, config, ScratchRun(tmp_path, "r0"))


def test_finished_work_is_found_by_an_equal_run(tune, tmp_path):
    first, _ = tune("same")
    shutil.move(first, tmp_path / "kept")
    second, run = tune("same")
    assert [step for step, _ in run.metrics if step is not None] == []
    assert digests(second) == digests(tmp_path / "kept")
    assert any((tmp_path / "same" / "work").glob(f"*/{checkpointing.COMPLETE}"))


def conversations(count):
    turns = [Message("user", "One?"), Message("assistant", "1"), Message("user", "Two?"), Message("assistant", "2")]
    return [small.example(n, messages=turns) for n in range(count)]


@pytest.mark.parametrize(("settings", "answers"), [({}, 2), ({"train_on": "all"}, 2), ({"train_on": "last"}, 1)])
def test_all_answers_of_a_conversation_train_unless_the_last_alone_is_set(inputs, tune, monkeypatch, settings, answers):
    tables.write(inputs["examples"], conversations(3), Example)
    kept = []
    monkeypatch.setattr(stage.job, "execute", lambda model, tokenizer, data, **_: kept.extend(data.train) or {})
    tune(**settings)
    assert [sequence.num_trained for sequence in kept] == [2 * answers] * 3  # a digit and the end of turn


def test_data_of_one_answer_train_alike_whatever_is_set(tune):
    (first, _), (second, _) = tune("all", train_on="all"), tune("last", train_on="last")
    weights = [(folder / "adapter_model.safetensors").read_bytes() for folder in (first, second)]
    assert weights[0] == weights[1]


@pytest.mark.parametrize("objective", ["dpo", "orpo", "simpo", "kto"])
def test_preference_pairs_train_and_repeat(inputs, tune, objective):
    tables.write(inputs["examples"], examples(8, rejected="no"), Example)
    tables.write(inputs["valid"], examples(4, rejected="no", split="valid"), Example)
    methods = METHODS | {objective: {}}
    (first, run), (second, _) = (tune(name, methods, objective=objective) for name in ("one", "two"))
    weights = [(folder / "adapter_model.safetensors").read_bytes() for folder in (first, second)]
    assert weights[0] == weights[1]
    losses = [loss for *_, loss in json.loads((first / "training.json").read_text())["loss"]]
    assert losses[-1] < losses[0]
    assert (run.cache / "reference").is_dir() == (objective in ("dpo", "kto"))
    margins = [values["valid/rewards/margins"] for _, values in run.metrics if "valid/rewards/margins" in values]
    assert margins[-1] > margins[0], "measured before the first step and after the last"


def test_an_undesirable_answer_is_not_learnt_from(inputs, tune):
    tables.write(inputs["examples"], [*examples(3), *examples(2, desirable=False)], Example)
    _, run = tune()
    assert run.said[0].startswith("tune first: 2 of 5 examples")


def test_a_mixture_is_told_beside_the_losses(inputs, tune):
    tables.write(
        inputs["examples"], [*examples(6), *(replace(row, id=f"{row.id}b", domain="b") for row in examples(2))], Example
    )
    folder, run = tune(mixture={"domains": {"b": {"weight": 3}}}, max_tokens=100_000)
    mixture = json.loads((folder / "training.json").read_text())["mixture"]
    assert [(name, part["sequences"], part["passes"]) for name, part in mixture.items()] == [
        ("b", 2, 3.0),
        ("tests", 6, 1.0),
    ]
    assert sum(part["share"] for part in mixture.values()) == pytest.approx(1)
    assert "tune first: b: 3.00 times an epoch, 50% of its tokens" in run.said
    plain, _ = tune("plain")
    assert "mixture" not in json.loads((plain / "training.json").read_text())


def test_a_second_training_starts_from_the_first_ones_adapter(tune, inputs):
    first, _ = tune("first")
    with pytest.raises(ValueError, match="write `digest: ") as caught:
        tune("unpinned", start={"path": str(first)})
    digest = str(caught.value).split("`digest: ")[1].split("`")[0]
    second, _ = tune("second", start={"path": str(first), "digest": digest})
    losses = [json.loads((folder / "training.json").read_text())["loss"] for folder in (first, second)]
    assert losses[1][0][2] < losses[0][0][2] - 0.5, "the first step begins where the first training ended"


@pytest.mark.parametrize("objective", ["dpo", "kto"])
def test_the_reference_of_preferences_is_the_adapter_that_the_training_starts_from(tune, inputs, objective):
    first, _ = tune("first")
    pairs = examples(20, rejected="no, never")
    for name, split in (("examples", pairs), ("valid", pairs[:4])):
        tables.write(inputs[name], split, Example)
    plan = {"objective": objective, "save_every": 0, "max_tokens": 300, "methods": METHODS | {objective: {}}}
    output, _ = tune("second", **plan)
    (output / "training.json").rename(output.parent / "from_base.json")
    shutil.rmtree(output)
    output, run = tune("second", **plan, start={"path": str(first), "digest": pinned.digest(first)})
    losses = [
        json.loads(path.read_text())["loss"] for path in (output.parent / "from_base.json", output / "training.json")
    ]
    assert losses[1][0] == losses[0][0], (
        "before a step no answer has become likelier, and figures of the base are not taken"
    )
    rewards = [values["valid/rewards/chosen"] for step, values in run.metrics if "valid/rewards/chosen" in values]
    assert rewards[0] == pytest.approx(0, abs=1e-6)
    assert abs(rewards[-1]) > 1e-3


def test_the_reference_of_preferences_is_of_the_adapter_that_trains(tune, inputs):
    pairs = examples(20, rejected="no, never")
    for name, split in (("examples", pairs), ("valid", pairs[:4])):
        tables.write(inputs[name], split, Example)
    for adapter in ("lora", "fourierft"):  # the second one's fresh modules compute something
        plan = {
            "objective": "dpo",
            "save_every": 0,
            "max_tokens": 300,
            "methods": METHODS | {"dpo": {}, "fourierft": {}},
        }
        output, _ = tune("same", **plan, adapter=adapter)
        _, _, first = json.loads((output / "training.json").read_text())["loss"][0]
        assert first == pytest.approx(math.log(2), abs=1e-5), adapter
        shutil.rmtree(output)


def test_methods_look_at_the_corpus_that_the_probe_names(tune, inputs, tmp_path, monkeypatch):
    texts = {"general": "the sun rises in the east", "domain": "a node sends a message"}
    rows = [
        Document(f"{n}", text, kind, f"{n}", "train", "here", "MIT") for n, (kind, text) in enumerate(texts.items())
    ]
    inputs["documents"] = tmp_path / "documents.parquet"
    tables.write(inputs["documents"], rows, Document)
    seen = []
    execute = stage.job.execute
    monkeypatch.setattr(
        stage.job, "execute", lambda *args, **rest: seen.append(args[2].probe) or execute(*args, **rest)
    )
    for name in ("general", "domain", "examples"):
        tune(name, probe={"corpus": name, "tokens": 5}, max_tokens=200)
    tune("none", max_tokens=200)
    general, domain, from_examples, none = ([sequence.id for sequence in probe] for probe in seen)
    assert (general, domain, none) == (["0"], ["1"], [])
    assert from_examples == [examples(1)[0].id]
    tables.write(inputs["documents"], rows[:1], Document)
    with pytest.raises(ValueError, match=r"holds no domain text for the probe.*ingest\.corpora\.domain"):
        tune("empty", probe={"corpus": "domain", "tokens": 5})
