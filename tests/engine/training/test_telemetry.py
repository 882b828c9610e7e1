"""Every step is reported as it was, validation during training leaves no trace in it, and MFU is claimed only where it is known."""

import hashlib
import math
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from tasks.core.compute import Compute
from tasks.core.training import Training
from tasks.core.weights import surgery
from tasks.engine.packing import Pack
from tasks.engine.training import flops, validation
from tasks.engine.training import train as engine
from tasks.engine.training.batches import lay_out
from tasks.engine.training.telemetry import StepMetrics, Telemetry
from tests import tiny as small
from tests.engine.training.test_train import FULL, LORA, PLAN, SEQUENCES, Killed, change
from tests.support import ScratchRun

HELD_OUT = small.sequences(6, seed=5)
SETS = {"validation": HELD_OUT}


def train(base, work, parts=LORA, config=PLAN, sets=SETS, kill_at=None, sequences=SEQUENCES):
    """The result of a training, its step metrics, and the losses on the validation sets by step."""
    steps, validations = [], {}

    def on_step(metrics):
        steps.append(metrics)
        if metrics.step == kill_at:
            raise Killed

    def on_validation(step, losses):
        assert step not in validations, "measured twice"
        validations[step] = losses

    model, data = small.load(base).train(), engine.TrainData(sequences, sets)
    try:
        result = engine.train(
            model, data, parts, config, small.FP32, work, on_step=on_step, on_validation=on_validation
        )
    except Killed:
        result = None
    return result, steps, validations


def digest(result):
    """The SHA-256 of the weights that trained."""
    tensors = [tensor.detach().numpy().tobytes() for tensor in result.attached.trainable.values()]
    return hashlib.sha256(b"".join(tensors)).hexdigest()


def repeatable(metrics):
    """What of a step's metrics is the same in every run."""
    return {name: value for name, value in vars(metrics).items() if name != "seconds"}


def test_a_step_is_reported_with_its_tokens_its_epoch_and_its_loss(tiny, tmp_path):
    result, steps, _ = train(tiny, tmp_path, config=change(PLAN, accumulation=3))
    batches = lay_out(SEQUENCES, ("",), (), change(PLAN, accumulation=3))
    assert [(m.step, m.steps) for m in steps] == [(step, batches.steps) for step in range(1, batches.steps + 1)]
    assert [(m.step, m.loss) for m in steps] == [(step, loss) for step, _, loss in result.losses]
    for metrics in steps:
        sequences = [s for pack in batches.of_step(metrics.step) for s in pack.sequences]
        assert metrics.tokens == sum(map(len, sequences))
        assert metrics.trained_tokens == sum(s.num_trained for s in sequences) < metrics.tokens
        assert metrics.seconds > 0
    assert sum(m.tokens for m in steps) == result.tokens
    assert steps[-1].epoch == PLAN.epochs
    assert [m.epoch for m in steps] == sorted({m.epoch for m in steps})


def test_an_epoch_is_what_it_sees_of_the_sequences_and_not_all_that_there_are(tiny, tmp_path):
    rarely = [replace(sequence, passes=0.25) for sequence in SEQUENCES[12:]]
    plan = change(PLAN, epochs=4, max_tokens=100_000)
    _, steps, _ = train(tiny, tmp_path, config=plan, sequences=[*SEQUENCES[:12], *rarely])
    assert steps[-1].epoch == pytest.approx(4, abs=0.25)


def test_the_gradient_norm_is_that_before_clipping(tiny, tmp_path):
    (_, clipped, _), (_, free, _) = (
        train(tiny, tmp_path / str(clip), FULL, change(PLAN, clip=clip, max_tokens=100)) for clip in (1e-3, 1e9)
    )
    assert clipped[0].gradient_norm == pytest.approx(free[0].gradient_norm)
    assert clipped[0].gradient_norm > 0.1


@pytest.mark.parametrize(("save_every", "validate_every"), [(2, 0), (2, 1), (0, 1), (0, 2)])
def test_validation_during_training_changes_no_weight(tiny, tmp_path, save_every, validate_every):
    """The adapter has dropout, so that a number drawn by a validation would show."""
    plain, plain_steps, _ = train(tiny, tmp_path / "plain", sets={}, config=change(PLAN, save_every=save_every))
    config = change(PLAN, save_every=save_every, validate_every=validate_every)
    result, steps, validations = train(tiny, tmp_path / "watched", config=config)
    assert digest(result) == digest(plain)
    assert result.losses == plain.losses
    assert list(map(repeatable, steps)) == list(map(repeatable, plain_steps))
    last = len(steps)
    cadences = [every for every in (save_every, validate_every) if every]
    assert sorted(validations) == sorted({*(s for every in cadences for s in range(every, last, every)), last})
    # What the result says is measured at checkpoints and at the end alone.
    kept = sorted({*range(save_every, last, save_every), last}) if save_every else [last]
    assert [loss for _, loss in result.measured["validation"]] == [validations[step]["validation"] for step in kept]


def test_a_killed_training_goes_on_with_the_steps_that_are_missing(tiny, tmp_path):
    config = change(PLAN, validate_every=1)
    straight, steps, validations = train(tiny, tmp_path / "straight", config=config)
    _, before, _ = train(tiny, tmp_path / "killed", config=config, kill_at=5)
    resumed, after, rest = train(tiny, tmp_path / "killed", config=config)
    assert [m.step for m in before] == [1, 2, 3, 4, 5]
    assert [repeatable(m) for m in before[:4] + after] == list(map(repeatable, steps))
    assert rest == {step: losses for step, losses in validations.items() if step > 4}
    assert digest(resumed) == digest(straight)


def test_a_validation_draws_nothing_and_leaves_every_module_in_its_mode(tiny):
    model = small.load(tiny).train()
    model.model.norm.eval()
    modes, state = {name: m.training for name, m in model.named_modules()}, torch.get_rng_state()
    losses = validation.losses(model, SETS | {"nothing": []}, small.FP32)
    assert losses.keys() == {"validation"}
    assert torch.equal(torch.get_rng_state(), state)
    assert {name: m.training for name, m in model.named_modules()} == modes


def test_by_itself_validation_takes_less_than_a_twentieth(tiny):
    def interval(tokens, **overrides):
        config = Training(pack_tokens=48, max_tokens=10**6, epochs=20, **overrides)
        batches = lay_out(SEQUENCES, ("",), (), config)
        held_out = {"validation": [small.sequences(1, longest=3)[0]] * (tokens // 3)} if tokens else {"validation": []}
        return validation.interval(config, batches, held_out), batches

    every, batches = interval(300)
    passes = batches.steps // every
    assert passes > 1
    assert passes * 300 * validation.COST <= 0.05 * batches.tokens_after[-1]
    assert interval(3_000)[0] == 0, "a single pass would cost more"
    assert interval(3_000, validate_every=7)[0] == 7
    assert interval(300, validate_every=0)[0] == interval(0)[0] == interval(0, validate_every=7)[0] == 0


def test_how_often_is_validated_stands_in_no_output():
    assert "validate_every" not in Training(validate_every=3).model_dump(mode="json")


STEP = StepMetrics(
    step=1, steps=3, loss=2.5, learning_rate=1e-3, gradient_norm=0.5, epoch=0.25, tokens=300, trained_tokens=100,
    seconds=2.0, mfu=0.41,
)  # fmt: skip


def test_the_run_hears_each_metric_at_its_step(tmp_path):
    run = ScratchRun(tmp_path)
    telemetry = Telemetry(run, {"validation": 3.0})
    telemetry.on_step(STEP)
    telemetry.on_validation(1, {"validation": 2.75})
    assert run.metrics[0] == (0, {"valid/loss": 3.0})
    step, logged = run.metrics[1]
    assert (step, logged.pop("system/peak_memory_mb") > 10, logged.pop("system/eta_seconds") > 0) == (1, True, True)
    assert logged == {
        "train/loss": 2.5,
        "train/learning_rate": 1e-3,
        "train/gradient_norm": 0.5,
        "train/epoch": 0.25,
        "train/tokens_per_second": 150.0,
        "train/trained_tokens_per_second": 50.0,
        "system/mfu": 0.41,
    }
    assert run.metrics[2] == (1, {"valid/loss": 2.75})
    assert telemetry.summary().startswith("1 steps in 2.0 s, 150 tokens/s (50 trained), peak memory ")


def test_what_is_unknown_is_left_out_and_sets_have_their_names(tmp_path):
    run = ScratchRun(tmp_path)
    telemetry = Telemetry(run, {})
    telemetry.on_step(StepMetrics(**vars(STEP) | {"step": 2, "gradient_norm": None, "mfu": None}))
    telemetry.on_validation(2, {"domain": 1.0, "general": 2.0})
    telemetry.on_step(StepMetrics(**vars(STEP) | {"step": 3}))
    assert {"train/gradient_norm", "system/mfu"}.isdisjoint(run.metrics[0][1])
    assert run.metrics[1] == (2, {"valid/domain_loss": 1.0, "valid/general_loss": 2.0})
    (shown,) = run.statuses  # of the first step, when the next one has ended
    assert shown.startswith("loss 2.5000 · learning rate 1.00e-03 · epoch 0.25 · 150 tokens/s · ")
    assert shown.endswith(" MB · valid/domain_loss 1.0000 · valid/general_loss 2.0000")
    assert Telemetry(run, {}).summary() == ""


@pytest.mark.parametrize(
    ("name", "tflops"),
    [
        ("NVIDIA H100 80GB HBM3", 989),
        ("NVIDIA H100 PCIe", 756),
        ("NVIDIA A100-SXM4-80GB", 312),
        ("NVIDIA L4", 121),
        ("NVIDIA L40", None),
        ("NVIDIA H100 80GB HBM3 MIG 1g.10gb", None),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", None),
        ("Tesla T4", None),
    ],
)
def test_a_peak_is_known_by_the_words_of_a_name(name, tflops):
    assert flops.peak(name) == (tflops * 1e12 if tflops else None)


def test_flops_are_six_a_weight_where_all_trains_and_four_where_it_is_frozen(tiny):
    model = small.load(tiny)
    config, layers = model.config, model.model.layers
    weights = sum(p.numel() for p in layers.parameters() if p.ndim == 2)
    head = model.get_output_embeddings().weight.numel()
    (sequence,) = small.sequences(1, longest=20)
    tokens, trained = len(sequence), sequence.num_trained
    # Of scores and of values 2·D FLOPs a pair of tokens and head, for half of the pairs; backward costs twice as much again.
    attention = 3 * 2 * 2 * config.hidden_size * len(layers) * tokens**2 / 2
    pack = [Pack((sequence,))]
    assert flops.count(model).of(pack) == 6 * weights * tokens + 6 * head * trained + attention
    model.requires_grad_(False)
    assert flops.count(model).of(pack) == 4 * weights * tokens + 4 * head * trained + attention


FAMILIES = {
    "qwen3_moe": {"head_dim": 8, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16},
    "gpt_oss": {"head_dim": 8, "num_local_experts": 4, "num_experts_per_tok": 1, "sliding_window": 8},
    "gemma4_text": {
        "head_dim": 8, "global_head_dim": 16, "sliding_window": 8, "hidden_size_per_layer_input": 0, "num_kv_shared_layers": 0,
        "layer_types": ["sliding_attention", "full_attention"], "enable_moe_block": True, "num_experts": 4, "top_k_experts": 2,
        "moe_intermediate_size": 16,
    },
    "lfm2": {"layer_types": ["conv", "full_attention"]},
    "hunyuan_v1_moe": {"head_dim": 8, "num_experts": 4, "moe_topk": [3, 1]},
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "experts", "per_pair"),
    [
        ("qwen3_moe", 2 * 3 * 32 * 16, {math.inf: 2 * 12 * 4 * 8}),
        ("gpt_oss", 1 * 3 * 32 * 64, {8: 12 * 4 * 8, math.inf: 12 * 4 * 8}),
        ("gemma4_text", 2 * 3 * 32 * 16, {8: 12 * 4 * 8, math.inf: 12 * 4 * 16}),
        ("lfm2", 0, {math.inf: 12 * 32}),
        ("hunyuan_v1_moe", 2 * 3 * 32 * 64, {math.inf: 2 * 12 * 4 * 8}),
    ],
)
def test_flops_are_those_of_the_experts_and_pairs_of_each_layer(name, experts, per_pair):
    model = small.family(name, **FAMILIES[name])
    linear = sum(out * into for out, into in surgery.sizes(model, surgery.ALL_LINEAR).values())
    trained = sum(p.numel() for p in surgery.decoder_layers(model).parameters() if p.ndim == 2)
    counted = flops.count(model)
    assert counted.per_token == 4 * linear + 2 * trained + 6 * 2 * experts
    assert counted.per_pair == per_pair


def test_the_pairs_of_a_window_are_those_that_see_each_other(tiny):
    (sequence,) = small.sequences(1, longest=20)
    pairs = flops.TrainingFlops(0, 0, {4: 1}).of([Pack((sequence,))])
    seen = sum(min(place, 4) for place in range(len(sequence)))
    assert len(sequence) > 4
    assert pairs == pytest.approx(seen, abs=len(sequence))


def test_the_share_of_the_peak_is_that_of_all_gpus_and_unknown_elsewhere(tiny, monkeypatch):
    model = small.load(tiny)
    pack = [Pack(tuple(small.sequences(3)))]
    assert flops.Utilisation(model, small.BF16).of(pack, 1.0) is None
    monkeypatch.setattr(flops.torch.cuda, "get_device_name", lambda: "NVIDIA A100-SXM4-80GB")
    monkeypatch.setenv("WORLD_SIZE", "2")
    on_gpus = SimpleNamespace(**vars(Compute(precision="bf16")) | {"device": "cuda"})
    assert flops.Utilisation(model, on_gpus).of(pack, 2.0) == pytest.approx(
        flops.count(model).of(pack) / (2.0 * 2 * 312e12)
    )
    utilisation = flops.Utilisation(model, on_gpus)
    model.requires_grad_(False)  # as a selector lets layers rest in a step
    assert utilisation.of(pack, 2.0) == flops.Utilisation(model, on_gpus).of(pack, 2.0)
    in_fp32 = SimpleNamespace(**vars(on_gpus) | {"precision": "fp32"})
    assert flops.Utilisation(model, in_fp32).of(pack, 2.0) is None
    without_layers = small.family("rwkv", attention_hidden_size=32)
    assert flops.Utilisation(without_layers, on_gpus).of(pack, 2.0) is None
