"""The engine trains as the textbook does, resumes to the same bytes, and weighs each token as it was told."""

import hashlib
import math
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional as F

from tasks.core.sequences import Encoded
from tasks.core.training import Training
from tasks.engine.packing import schedule
from tasks.engine.training import checkpointing, trainer
from tasks.engine.training import train as engine
from tasks.engine.training.compose import Part
from tasks.methods.optimizers import Optimizer, OptimizerSpec
from tasks.methods.selectors import Selector, SelectorSpec
from tests import tiny as small
from tests.methods.contract import composition, part

PLAN = Training(
    pack_tokens=48,
    accumulation=2,
    max_tokens=100_000,
    epochs=2,
    warmup=0.2,
    schedule="cosine",
    clip=1.0,
    save_every=2,
    workers=0,
    seed=0,
)
SEQUENCES = small.sequences(24, seed=4)


class Killed(Exception):
    """The process went away at this step."""


ADAMW = part("optimizers", "adamw", learning_rate=1e-2, weight_decay=0.1)
FULL = replace(composition(), optimizer=ADAMW)
LORA = replace(FULL, adapter=part("adapters", "lora", rank=4, dropout=0.1))


def change(plan, **config):
    """The same plan but for these settings."""
    return plan.model_copy(update=config)


def train(base, work, parts=FULL, plan=PLAN, sequences=SEQUENCES, compute=small.FP32, kill_at=None, on_resume=print):
    """What training the model in `base` ends in, or Killed."""
    steps = []

    def on_step(metrics):
        steps.append((metrics.step, metrics.steps, metrics.loss, metrics.learning_rate))
        if metrics.step == kill_at:
            raise Killed

    data = engine.TrainData(sequences)
    outcome = engine.train(
        small.load(base).train(), data, parts, plan, compute, work, on_resume=on_resume, on_step=on_step
    )
    return outcome, steps


def straight_and_resumed(base, folder, parts):
    """What a training ends in, and what one of the same parts ends in that was killed and went on with the rest of its steps."""
    plan, few = change(PLAN, epochs=3), SEQUENCES[:12]
    straight, steps = train(base, folder / "straight", parts, plan, few)
    with pytest.raises(Killed):
        train(base, folder / "killed", parts, plan, few, kill_at=4)
    resumed, rest = train(base, folder / "killed", parts, plan, few)
    assert rest == steps[2:]
    return straight, resumed


def digest(outcome, folder):
    """The SHA-256 of the weights as safetensors."""
    outcome.model.save_pretrained(folder)
    return hashlib.sha256(b"".join(f.read_bytes() for f in sorted(folder.glob("*.safetensors")))).hexdigest()


def reference(base, plan, learning_rate=1e-2, weight_decay=0.1):
    """The loss of every step of a plain, unpacked loop over the same packs, and the model it ends in."""
    model = small.load(base).train()
    matrices = [p for p in model.parameters() if p.ndim >= 2]
    vectors = [p for p in model.parameters() if p.ndim < 2]
    optimizer = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": weight_decay}, {"params": vectors, "weight_decay": 0.0}],
        lr=learning_rate,
    )
    packs = schedule(SEQUENCES, plan.pack_tokens, plan.max_tokens, plan.epochs, plan.seed)
    portions = [packs[at : at + plan.accumulation] for at in range(0, len(packs), plan.accumulation)]
    warmup = math.ceil(plan.warmup * len(portions))
    losses = []
    for step, portion in enumerate(portions):
        sequences = [sequence for pack in portion for sequence in pack.sequences]
        nll = []
        for sequence in sequences:
            logits = model(input_ids=torch.tensor([sequence.ids])).logits[0]
            each = F.cross_entropy(logits[:-1], torch.tensor(sequence.ids[1:]), reduction="none")
            nll.append((each * torch.tensor(sequence.weights[1:])).sum())
        loss = sum(nll) / sum(sequence.num_trained for sequence in sequences)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), plan.clip)
        progress = (step - warmup) / (len(portions) - warmup)
        share = step / warmup if step < warmup else 0.5 * (1 + math.cos(math.pi * progress))
        for group in optimizer.param_groups:
            group["lr"] = learning_rate * share
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses, model


@pytest.mark.parametrize("accumulation", [1, 2, 3])
def test_the_loss_curve_is_that_of_an_unpacked_loop(tiny, tmp_path, accumulation):
    plan = change(PLAN, accumulation=accumulation)
    expected, model = reference(tiny, plan)
    outcome, steps = train(tiny, tmp_path, plan=plan)
    assert [loss for _, _, loss, _ in steps] == pytest.approx(expected, abs=1e-3)
    assert expected[-1] < expected[0] - 0.1, "nothing was learnt, so equal curves would prove little"
    for found, wanted in zip(outcome.model.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(found, wanted, rtol=0, atol=1e-3)


def test_the_course_counts_the_tokens_seen(tiny, tmp_path):
    plan = change(PLAN, accumulation=3, epochs=1)
    outcome, steps = train(tiny, tmp_path, plan=plan)
    packs = schedule(SEQUENCES, plan.pack_tokens, plan.max_tokens, 1, plan.seed)
    assert len(packs) % 3, "the last step should be a short one"
    seen = [sum(map(len, packs[: 3 * (step + 1)])) for step in range(math.ceil(len(packs) / 3))]
    assert [(step, tokens) for step, tokens, _ in outcome.losses] == list(enumerate(seen, 1))
    assert outcome.tokens == seen[-1] == sum(map(len, SEQUENCES))
    assert [(step, total) for step, total, _, _ in steps] == [(step, len(seen)) for step in range(1, len(seen) + 1)]


@pytest.mark.filterwarnings("ignore:This DataLoader will create")  # on a single core
def test_workers_change_no_byte(tiny, tmp_path):
    none, two = (train(tiny, tmp_path / f"{n}", LORA, change(PLAN, workers=n, epochs=1))[0] for n in (0, 2))
    assert digest(none, tmp_path / "a") == digest(two, tmp_path / "b")


def test_a_torn_checkpoint_is_removed_and_the_last_whole_one_continued(tiny, tmp_path):
    straight, _ = train(tiny, tmp_path / "straight")
    with pytest.raises(Killed):
        train(tiny, tmp_path / "killed", kill_at=5)
    torn = tmp_path / "killed" / "checkpoint-999"
    torn.mkdir()
    (torn / "model.safetensors").write_bytes(b"half")
    resumed_from = []
    resumed, rest = train(tiny, tmp_path / "killed", on_resume=resumed_from.append)
    assert resumed_from == [4]
    assert rest[0][0] == 5
    assert not torn.exists()
    assert digest(resumed, tmp_path / "a") == digest(straight, tmp_path / "b")


def test_only_the_mark_makes_a_checkpoint_whole(tiny, tmp_path):
    with pytest.raises(Killed):
        train(tiny, tmp_path, kill_at=5)
    assert (tmp_path / "checkpoint-4" / checkpointing.COMPLETE).is_file()
    for mark in tmp_path.glob(f"checkpoint-*/{checkpointing.COMPLETE}"):
        mark.unlink()
    _, steps = train(tiny, tmp_path)
    assert steps[0][0] == 1


def test_a_finished_run_is_not_trained_again(tiny, tmp_path):
    first, _ = train(tiny, tmp_path / "work")
    second, steps = train(tiny, tmp_path / "work")
    assert steps == []
    assert digest(first, tmp_path / "a") == digest(second, tmp_path / "b")
    assert second.losses == first.losses


@pytest.mark.parametrize("parts", [FULL, LORA], ids=["full", "lora"])
def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(tiny, tmp_path, parts):
    plan = change(PLAN, epochs=1)
    runs = [train(tiny, tmp_path / f"w{n}", parts, change(plan, seed=s))[0] for n, s in enumerate((0, 0, 1))]
    first, again, other = (digest(run, tmp_path / f"d{n}") for n, run in enumerate(runs))
    assert first == again
    assert first != other


def test_weights_of_two_double_the_loss(tiny, tmp_path):
    doubled = [Encoded(s.id, s.ids, [2 * weight for weight in s.weights]) for s in SEQUENCES]
    (_, ones), (_, twos) = (
        train(tiny, tmp_path / name, sequences=rows) for name, rows in (("ones", SEQUENCES), ("twos", doubled))
    )
    assert twos[0][2] == pytest.approx(2 * ones[0][2], rel=1e-5)


def test_a_weight_scales_the_gradient_of_its_own_token(tiny, tmp_path):
    """One step of plain gradient descent moves the weights by the weighted sum of the tokens' gradients."""
    ids = [3, 1, 4, 1, 5]
    moved = {}
    for name, weights in {"both": [0.5, 3.0], "first": [1.0, 1e-9], "second": [1e-9, 1.0]}.items():
        model = small.load(tiny)
        before = model.model.norm.weight.detach().clone()
        parts = replace(FULL, optimizer=descent())
        data = engine.TrainData([Encoded("x", ids, [0.0, 0.0, *weights, 0.0])])
        plan = change(PLAN, accumulation=1, epochs=1, warmup=0.0, clip=1e9, schedule="constant_with_warmup")
        trained = engine.train(model.train(), data, parts, plan, small.FP32, tmp_path / name).model
        moved[name] = trained.model.norm.weight.detach() - before
    torch.testing.assert_close(moved["both"], 0.5 * moved["first"] + 3.0 * moved["second"], rtol=1e-3, atol=1e-6)
    assert not torch.allclose(moved["first"], moved["second"], rtol=0.1)


def test_a_floor_leaves_out_the_steps_below_it_and_no_others(tiny, tmp_path):
    """Against a loop that gives the optimizer no gradient then: the count of Adam's steps stands still too."""
    plan = change(PLAN, accumulation=1, epochs=1, warmup=0.0, schedule="constant_with_warmup")
    _, steps = train(tiny, tmp_path / "all", plan=plan)
    floor = sorted(loss for _, _, loss, _ in steps)[len(steps) // 2]
    outcome, steps = train(tiny, tmp_path / "floor", plan=change(plan, floor=floor))
    losses = [loss for _, _, loss, _ in steps]
    made = sum(loss >= floor for loss in losses)
    assert 0 < made < len(losses)
    assert [loss for _, _, loss, _ in steps] == [loss for _, _, loss in outcome.losses], "its loss is told all the same"
    checkpoint = max((tmp_path / "floor").glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    state = torch.load(checkpoint / "optimizer.pt", weights_only=True)["state"]
    before = sum(loss >= floor for loss in losses[: int(checkpoint.name.split("-")[1])])
    assert {int(of_parameter["step"]) for of_parameter in state.values()} == {before}


@pytest.mark.parametrize(
    ("changes", "parts", "message"),
    [
        ({"accumulation": 2}, FULL, "several make a step. Set accumulation: 1"),
        ({"accumulation": 1}, replace(FULL, optimizer=part("optimizers", "mezo")), "optimizer 'mezo' makes none"),
    ],
)
def test_a_floor_that_cannot_be_held_is_refused(tiny, tmp_path, changes, parts, message):
    with pytest.raises(ValueError, match=message):
        train(tiny, tmp_path, parts, change(PLAN, floor=0.01, **changes))


def descent():
    """Plain gradient descent, which keeps the size of a gradient where Adam forgets it."""

    def make(groups, config, seed):
        return torch.optim.SGD([p for group in groups for p in group.parameters], lr=0.1)

    return Part("descent", OptimizerSpec(config=Training), Optimizer(make=make), Training())


def test_two_unequal_packs_accumulated_are_one_step_on_both(tiny, tmp_path):
    rows = [small.sequences(1, seed=1, longest=40)[0], *small.sequences(1, seed=2, longest=8)]
    size = max(map(len, rows))
    assert sum(map(len, rows)) > size, "they would share a pack"
    two = change(PLAN, accumulation=2, pack_tokens=size, epochs=1, warmup=0.0)
    one = change(two, accumulation=1, pack_tokens=64)
    (apart, apart_steps), (together, steps) = (
        train(tiny, tmp_path / name, plan=plan, sequences=rows) for name, plan in (("two", two), ("one", one))
    )
    assert len(apart_steps) == len(steps) == 1
    assert apart_steps[0][2] == pytest.approx(steps[0][2], rel=1e-5)
    for found, wanted in zip(apart.model.parameters(), together.model.parameters(), strict=True):
        torch.testing.assert_close(found, wanted, rtol=0, atol=1e-4)


@pytest.mark.parametrize("parts", [FULL, LORA], ids=["full", "lora"])
def test_bf16_trains_near_fp32_and_keeps_fp32_weights(tiny, tmp_path, parts):
    # Without dropout, or the two would draw different masks.
    parts = replace(parts, adapter=part("adapters", "lora", rank=4)) if parts is LORA else parts
    (_, full), (outcome, half) = (
        train(tiny, tmp_path / str(compute.precision), parts, compute=compute) for compute in (small.FP32, small.BF16)
    )
    assert [s[2] for s in half] == pytest.approx([s[2] for s in full], abs=0.1)
    assert [s[2] for s in half] != [s[2] for s in full]
    assert {p.dtype for p in outcome.model.parameters()} == {torch.float32}


def test_a_composition_that_trains_nothing_is_refused_by_name(tiny, tmp_path):
    def choose(model, config, probe, seed):
        model.requires_grad_(False)

    frozen = Part("frozen", SelectorSpec(config=Training), Selector(choose=choose), Training())
    with pytest.raises(ValueError, match="adapter 'none' with selector 'frozen' leaves every weight frozen"):
        train(tiny, tmp_path, replace(FULL, selector=frozen))


def test_a_checkpoint_holds_what_trains_and_no_more(tiny, tmp_path):
    outcome, _ = train(tiny, tmp_path, LORA)
    newest = checkpointing.newest_complete(tmp_path)
    held = load_file(newest / checkpointing.WEIGHTS)
    assert held.keys() == {name for name, p in outcome.model.named_parameters() if "lora_" in name}
    assert not list(newest.glob("training_args.bin"))


def test_a_checkpoint_of_other_layers_is_refused_by_the_first_of_them(tiny, tmp_path):
    with pytest.raises(Killed):
        train(tiny, tmp_path, LORA, kill_at=5)
    weights = checkpointing.newest_complete(tmp_path) / checkpointing.WEIGHTS
    held = load_file(weights)
    name = min(held)
    save_file({f"other.{name}": held.pop(name), **held}, weights)
    with pytest.raises(ValueError, match=r"holds other weights than train now \(.*Remove .* to begin anew"):
        train(tiny, tmp_path, LORA)


def test_a_checkpoint_of_other_settings_is_refused_by_the_settings_that_changed(tiny, tmp_path):
    with pytest.raises(Killed):
        train(tiny, tmp_path, kill_at=5)
    slower = replace(FULL, optimizer=part("optimizers", "adamw", learning_rate=1e-3, weight_decay=0.5))
    told = r": adamw\.learning_rate is 0\.001, and was 0\.01; adamw\.weight_decay is 0\.5, and was 0\.1\. Restore them"
    with pytest.raises(ValueError, match=told):
        train(tiny, tmp_path, slower, on_resume=lambda _: pytest.fail("it does not go on"))
    another = replace(FULL, selector=part("selectors", "neuroada", k=2))
    with pytest.raises(ValueError, match=r": selector is 'neuroada', and was 'all'\. Restore them"):
        train(tiny, tmp_path, another)
    _, rest = train(tiny, tmp_path, plan=change(PLAN, save_every=3))
    assert rest[0][0] == 5, "how often it is saved changes nothing"


def test_a_process_that_sees_two_gpus_trains_on_one(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    compute = small.FP32.model_copy(update={"device": "cuda"})
    arguments = trainer.training_arguments(PLAN, compute, steps=1, work=tmp_path, gradient_free=False)
    assert arguments.n_gpu == 1
