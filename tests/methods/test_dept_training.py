"""DePT in training: kills and resumes, what a step costs, and what is refused."""

from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file
from torch.utils.flop_counter import FlopCounterMode

from tasks.core.sequences import Encoded
from tasks.core.training import Start, Training
from tasks.engine.forward import token_losses, use_packed_attention
from tasks.engine.inference import generation, scoring
from tasks.engine.packing import Pack, collate
from tasks.engine.training import store
from tasks.engine.training import train as engine
from tasks.io.weights import checkpoints
from tasks.methods.adapters.dept.config import DeptConfig
from tasks.methods.adapters.dept.method import attach
from tests import tiny as small
from tests.methods.contract import composition, part
from tests.methods.test_dept import PARAMS, PROMPTS, trainable

PLAN = Training(pack_tokens=48, accumulation=2, max_tokens=100_000, epochs=2, save_every=2)


class Killed(Exception):
    """The process went away."""


def train(base, work, kill_at=None):
    parts = replace(
        composition(), adapter=part("adapters", "dept", prompt_rate=20.0), optimizer=part("optimizers", "adamw")
    )

    def on_step(metrics):
        if metrics.step == kill_at:
            raise Killed

    data = engine.TrainData(small.sequences(24, seed=4))
    return engine.train(small.load(base).train(), data, parts, PLAN, small.FP32, work, on_step=on_step), parts


def test_a_killed_run_ends_in_the_bytes_of_an_undisturbed_one_and_is_loaded_as_it_was(tiny, tmp_path):
    straight, parts = train(tiny, tmp_path / "straight")
    with pytest.raises(Killed):
        train(tiny, tmp_path / "killed", kill_at=5)
    resumed, _ = train(tiny, tmp_path / "killed")
    assert resumed.losses == straight.losses
    for name, outcome in {"straight": straight, "resumed": resumed}.items():
        store.save(outcome.attached, parts, None, tmp_path / name / "saved")
    first, second = (tmp_path / name / "saved" / "adapter.safetensors" for name in ("straight", "resumed"))
    assert first.read_bytes() == second.read_bytes()
    assert set(load_file(first)) == {"model.dept.prompt", "model.dept.A", "model.dept.B"}

    loaded, tokenizer = checkpoints.load(first.parent, tiny)
    sequences = small.sequences(5)
    scored = list(scoring.losses(loaded, sequences))
    assert scored == list(scoring.losses(straight.model.eval(), sequences))
    assert scored != list(scoring.losses(small.load(tiny).eval(), sequences))
    assert len(generation.write(loaded, PROMPTS, tokenizer, max_new_tokens=3, batch_size=2)) == 3
    assert not any(p.requires_grad for p in loaded.parameters())


def test_a_step_costs_less_than_one_of_prompt_tuning_of_the_same_size():
    # Of width 48 and with s = 128, (m, r) = (45, 15) has as many numbers as a prompt of 100 tokens.
    sizes = {"dept": DeptConfig(num_tokens=45, rank=15, max_tokens=128), "plain": DeptConfig(num_tokens=100, rank=0)}
    assert {name: trainable(small.qwen2(), params) for name, params in sizes.items()} == {"dept": 4800, "plain": 4800}
    flops = {}
    for name, params in sizes.items():
        model = attach(small.qwen2(), params, Start())
        model.set_attn_implementation("eager")  # products that the counter knows
        with FlopCounterMode(display=False) as counter:
            model.get_decoder()(input_ids=torch.arange(128)[None], use_cache=False).last_hidden_state.sum().backward()
        flops[name] = counter.get_total_flops()
    assert flops["dept"] / flops["plain"] < (128 + 45) / (128 + 100)


@pytest.mark.parametrize(
    ("params", "added"),
    [(DeptConfig(num_tokens=40, rank=16, max_tokens=128), 40), (DeptConfig(num_tokens=100, rank=0), 100)],
)
def test_every_sequence_costs_its_tokens_and_the_prompts_positions(params, added):
    """s + m positions against s + l: what a step's time follows, counted in every layer, for one sequence and for a pack of three."""
    model, seen = attach(small.qwen2(), params, Start()), []
    for layer in model.model.layers:
        layer.mlp.register_forward_pre_hook(lambda _, given: seen.append(given[0].shape[:-1].numel()))
    model.get_decoder()(input_ids=torch.arange(128)[None], use_cache=False)
    assert seen == [128 + added] * 2
    use_packed_attention(model)
    seen.clear()
    pack = Pack(tuple(small.sequences(3)))
    token_losses(model, collate([pack]))
    assert seen == [len(pack) + 3 * added] * 2


# What is refused


def test_a_sequence_that_A_has_no_rows_for_is_refused(tiny):
    config = DeptConfig(num_tokens=2, rank=2, max_tokens=6)
    model = attach(small.load(tiny), config, Start())
    ids = torch.arange(1, 8)[None]  # 0 is the pad
    model(ids[:, :6])
    with pytest.raises(ValueError, match=r"has 7 tokens, and methods\.dept\.max_tokens is 6"):
        model(ids)
    with pytest.raises(ValueError, match="has 7 tokens"):
        model.generate(input_ids=ids[:, :5], max_new_tokens=3, eos_token_id=None, do_sample=False, pad_token_id=0)
    use_packed_attention(model)
    rows = [Encoded(str(n), list(range(n)), [1.0] * n) for n in (6, 5, 6)]
    token_losses(model, collate([Pack(tuple(rows))]))
    with pytest.raises(ValueError, match="has 7 tokens"):
        token_losses(model, collate([Pack((*rows, Encoded("x", list(range(7)), [1.0] * 7)))]))
    attach(small.load(tiny), DeptConfig(num_tokens=2, rank=0, max_tokens=6), Start())(ids)


def test_a_cache_that_has_no_room_for_the_prompt_is_refused(tiny):
    model = attach(small.load(tiny), PARAMS, Start())
    with pytest.raises(ValueError, match="without a static cache"):
        model.generate(
            input_ids=torch.arange(1, 6)[None],
            max_new_tokens=3,
            cache_implementation="static",
            pad_token_id=0,
            eos_token_id=None,
        )


@pytest.mark.parametrize(("rank", "tokens", "most"), [(5000, 8192, 64), (33, 32, 32)])
def test_a_rank_that_the_offsets_cannot_have_is_refused(tiny, rank, tokens, most):
    with pytest.raises(ValueError, match=rf"rank {rank} is above the offsets.*× 64: take at most {most}\."):
        attach(small.load(tiny), DeptConfig(num_tokens=4, rank=rank, max_tokens=tokens), Start())


def test_nothing_to_train_is_refused():
    with pytest.raises(ValueError, match="num_tokens and rank are both 0"):
        DeptConfig(num_tokens=0, rank=0)


@pytest.mark.parametrize(
    "wrong", [{"rank": -1}, {"num_tokens": -1}, {"max_tokens": 0}, {"alpha": 0}, {"align": "right"}]
)
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        DeptConfig(**wrong)
