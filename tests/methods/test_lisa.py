"""LISA trains the ends of a model always, and between them a few layers that change."""

import json
import random
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from scipy.stats import chi2
from transformers import LlamaConfig, LlamaForCausalLM

from tasks.core.training import Moment
from tasks.core.weights.surgery import decoder_layers, layer_number, plain
from tasks.engine.forward import use_packed_attention
from tasks.engine.training import checkpointing, compose
from tasks.engine.training import train as engine
from tasks.methods.selectors.lisa.method import draw
from tests import tiny as small
from tests.engine.training.test_train import FULL, LORA, PLAN, SEQUENCES, Killed, change, digest, train
from tests.methods import contract
from tests.methods.contract import part

ROOT = Path(__file__).resolve().parents[2]
SMALL = {"layers": 1, "period": 2}
DEPTH = 4
STEPS = 20
FEW = SEQUENCES[:12]
SHORT = change(PLAN, epochs=3)  # 5 steps


def trainable(model, params):
    """P_embed + P_head + P_norm + γ P_layer, with tied embeddings counted once."""
    layers = model.model.layers
    outside = {model.model.embed_tokens.weight, model.lm_head.weight, *model.model.norm.parameters()}
    return sum(p.numel() for p in outside) + params.layers * sum(p.numel() for p in layers[0].parameters())


def deep(tied=False):
    """A LLaMA of four layers of random weights."""
    torch.manual_seed(0)
    sizes = {"vocab_size": 259, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": DEPTH}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1}
    return LlamaForCausalLM(LlamaConfig(**sizes, **heads, tie_word_embeddings=tied))


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """The same on disk."""
    folder = tmp_path_factory.mktemp("deep")
    deep().save_pretrained(folder)
    return folder


def lisa(adapter=None, **config):
    """A composition with LISA in it."""
    parts = contract.composition(**({"adapters": adapter} if adapter else {}))
    return replace(parts, selector=part("selectors", "lisa", **config))


def course(model, parts, count, seed=0):
    """Train `count` steps, and yield after each backward pass and after each step what stands then."""
    attached, optimizer = contract.composed(model, parts)
    inner, state = plain(attached.model).train(), {}
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda _: 1.0)
    nothing = contract.probe()
    for step in range(count):
        before = {name: p.detach().clone() for name, p in attached.model.named_parameters()}
        moment = Moment(step, count, seed, attached.model, optimizer, scheduler, nothing, nothing, state)
        for _, hooked in compose.hooks(parts):
            hooked.method.on_step(moment, hooked.config)
        inner(**contract.batch(step))["loss"].backward()
        graded = {name for name, p in attached.model.named_parameters() if p.grad is not None}
        optimizer.step()
        optimizer.zero_grad(set_to_none=False)  # a stale gradient is the method's to remove
        moved = {name for name, p in attached.model.named_parameters() if not torch.equal(p, before[name])}
        yield attached.model, optimizer, graded, moved


def bytes_of(optimizer):
    """Memory of the state that is as large as what it is of; the counts of steps aside."""
    return sum(t.nbytes for p, held in optimizer.state.items() for t in held.values() if t.shape == p.shape)


def layers_of(names):
    return sorted({int(name.split("layers.")[1].split(".")[0]) for name in names if "layers." in name})


@pytest.mark.parametrize("state", ["drop", "keep"])
def test_all_layers_at_once_are_full_fine_tuning(saved, tmp_path, state):
    """Over 2K + 1 steps of the engine, whose data order the draws must leave alone."""
    full, steps = train(saved, tmp_path / "full", FULL, SHORT, FEW)
    assert len(steps) == 5
    parts = replace(FULL, selector=part("selectors", "lisa", layers=DEPTH, period=2, state=state))
    ours, _ = train(saved, tmp_path / "lisa", parts, SHORT, FEW)
    assert digest(ours, tmp_path / "a") == digest(full, tmp_path / "b")


def test_no_layer_at_all_moves_only_the_ends():
    for _, _, graded, moved in course(deep(), lisa(layers=0), 3):
        assert graded == moved == {"model.embed_tokens.weight", "model.norm.weight", "lm_head.weight"}


@pytest.mark.parametrize("adapter", [None, "lora"])
@pytest.mark.parametrize("layers", [1, 2])
def test_so_many_layers_have_gradients_and_are_redrawn_every_period(adapter, layers):
    parts = lisa(adapter, layers=layers, period=3)
    seen = [layers_of(graded) for _, _, graded, _ in course(deep(), parts, 12)]
    assert {len(found) for found in seen} == {layers}
    periods = [seen[at : at + 3] for at in range(0, 12, 3)]
    assert all(found == period[0] for period in periods for found in period)
    assert [period[0] for period in periods] == [draw(range(DEPTH), layers, 0, number) for number in range(4)]
    assert len({tuple(period[0]) for period in periods}) > 1, "nothing was redrawn"


@pytest.mark.parametrize("tied", [True, False])
def test_what_trains_is_counted_by_the_formula_at_every_step(tied):
    params = part("selectors", "lisa", layers=2, period=1).config
    for model, *_ in course(deep(tied), lisa(layers=2, period=1), 5):
        found = sum(p.numel() for p in model.parameters() if p.requires_grad)
        assert found == trainable(deep(tied), params)


def test_the_engine_tells_what_trains_at_once_beside_all_that_may(tmp_path):
    parts = lisa(layers=1, period=2)
    outcome = engine.train(deep().train(), engine.TrainData(FEW), parts, SHORT, small.FP32, tmp_path)
    assert outcome.active == trainable(deep(), parts.selector.config)
    assert outcome.trainable == sum(p.numel() for p in deep().parameters()) > outcome.active


def test_each_layer_is_drawn_as_often_as_the_others():
    """γ / L each, by χ² at 0.1 %; the counts of γ distinct layers vary by n p (1 - p) and sum to nγ."""
    layers, count, draws = 8, 3, 4000
    found = Counter(number for period in range(draws) for number in draw(range(layers), count, 0, period))
    share = count / layers
    distance = sum((found[n] - draws * share) ** 2 for n in range(layers)) / (draws * share * (1 - share))
    assert distance * (layers - 1) / layers < chi2.ppf(0.999, layers - 1)
    assert all(len(set(draw(range(layers), count, 0, period))) == count for period in range(100))


def test_a_draw_is_a_function_of_seed_and_period_in_every_process():
    expected = [draw(range(16), 4, 7, period) for period in range(8)]
    before, numbers = random.getstate(), torch.get_rng_state()
    assert [draw(range(16), 4, 7, period) for period in range(8)] == expected
    assert random.getstate() == before
    assert torch.equal(torch.get_rng_state(), numbers)
    assert [draw(range(16), 4, 8, period) for period in range(8)] != expected
    code = "from tasks.methods.selectors.lisa.method import draw; print([draw(range(16), 4, 7, n) for n in range(8)])"
    environment = {"PYTHONPATH": str(ROOT), "PYTHONHASHSEED": "5"}
    other = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert json.loads(other.stdout) == expected


@pytest.mark.parametrize("state", ["drop", "keep"])
@pytest.mark.parametrize("adapter", [None, "lora"])
def test_every_drawn_layer_moves_in_its_period_and_no_other(adapter, state):
    parts = lisa(adapter, layers=1, period=2, state=state)
    course_of = [layers_of(moved) for _, _, _, moved in course(deep(), parts, STEPS)]
    assert course_of == [draw(range(DEPTH), 1, 0, step // 2) for step in range(STEPS)]
    assert {number for found in course_of for number in found} == set(range(DEPTH)), "too few steps to see them all"


def test_dropped_state_is_that_of_what_trains_and_no_more():
    for model, optimizer, graded, _ in course(deep(), lisa(layers=1, period=1), 8):
        assert set(optimizer.state) == {p for name, p in model.named_parameters() if name in graded}


def test_dropped_state_starts_anew():
    """Adam's count of steps is that of a layer's present stay, while the ends have counted on."""
    stay, last = 0, None
    for step, (model, optimizer, *_) in enumerate(course(deep(), lisa(layers=1, period=1), 12)):
        drawn = draw(range(DEPTH), 1, 0, step)
        stay, last = (stay + 1 if drawn == last else 1), drawn
        assert {int(optimizer.state[p]["step"]) for p in decoder_layers(model)[drawn[0]].parameters()} == {stay}
        assert optimizer.state[model.model.norm.weight]["step"] == step + 1


def test_dropping_the_state_of_a_layer_is_not_restarting_at_each_draw_as_the_authors_runs_did():
    """A restart resets the ends too. Up to the first draw all is equal; then weights differ by as much as they have moved."""

    def trained(steps, restarted):
        model = deep()
        for step, (_, optimizer, *_) in enumerate(course(model, lisa(layers=1, period=2), steps), start=1):
            if restarted and step % 2 == 0:
                optimizer.state.clear()
        return dict(model.named_parameters())

    def apart(some, others):
        found = {name: (some[name] - others[name]).abs().max().item() for name in some}
        return max(found.values()), [name for name, difference in found.items() if difference]

    assert apart(trained(2, restarted=True), trained(2, restarted=False)) == (0.0, [])
    first, ends = apart(trained(3, restarted=True), trained(3, restarted=False))
    assert ends == ["model.embed_tokens.weight", "model.norm.weight", "lm_head.weight"]
    assert first > 1e-4
    dropped = trained(6, restarted=False)
    moved, _ = apart(dropped, dict(deep().named_parameters()))
    assert apart(trained(6, restarted=True), dropped)[0] == pytest.approx(0.0031, abs=1e-4)
    assert moved == pytest.approx(0.0028, abs=1e-4)


def test_kept_state_only_grows():
    sizes, state = [], {}
    for model, optimizer, *_ in course(deep(), lisa(layers=1, period=1, state="keep"), 12):
        now = {name: int(optimizer.state[p]["step"]) for name, p in model.named_parameters() if p in optimizer.state}
        assert all(now[name] >= count for name, count in state.items())
        sizes, state = [*sizes, len(now)], now
    assert sizes == sorted(sizes)
    assert sizes[-1] == len(list(deep().parameters())) > sizes[0]


def test_the_layers_of_gpt2_take_turns_too():
    for step, (_, _, _, moved) in enumerate(course(small.gpt2(), lisa(layers=1, period=1), 6)):
        inside = {name for name in moved if ".h." in name}
        assert {layer_number(name) for name in inside} == set(draw(range(2), 1, 0, step))
        assert moved - inside == {
            f"transformer.{name}" for name in ("wte.weight", "wpe.weight", "ln_f.weight", "ln_f.bias")
        }


def test_state_takes_what_trains_twice_over_and_what_left_gives_its_bytes_back():
    """Two numbers of AdamW for each that trains: with γ of L layers the outside and γ layers' worth, at the end of every period."""
    params = part("selectors", "lisa", layers=1, period=2).config
    full, ours = (
        [bytes_of(optimizer) for _, optimizer, *_ in course(deep(), parts, 6)] for parts in (FULL, lisa(layers=1))
    )
    assert full == [2 * 4 * sum(p.numel() for p in deep().parameters())] * 6
    assert ours == [2 * 4 * trainable(deep(), params)] * 6
    kept = [bytes_of(optimizer) for _, optimizer, *_ in course(deep(), lisa(layers=1, state="keep"), 6)]
    assert kept[1] == ours[1] < kept[2] < full[0], "the layer of the first period still has its own"


def test_the_packs_of_a_step_see_the_same_layers(saved, tmp_path):
    """The draw happens once for an optimizer step, never between the packs that it accumulates."""
    model, seen = small.load(saved).train(), []

    def note(*_):
        seen.append(layers_of({name for name, p in model.named_parameters() if p.requires_grad}))

    use_packed_attention(model)  # the first time it reads some rows
    model.model.register_forward_pre_hook(note)
    parts = replace(FULL, selector=part("selectors", "lisa", layers=1, period=1))
    engine.train(model, engine.TrainData(FEW), parts, SHORT, small.FP32, tmp_path)
    drawn = [draw(range(DEPTH), 1, SHORT.seed, step) for step in range(5)]
    assert seen == [layers for layers in drawn for _ in range(SHORT.accumulation)][:9]  # the last step is a short one
    assert len(set(map(tuple, drawn))) > 1


@pytest.mark.parametrize("period", [2, 3], ids=["at a draw", "between draws"])
@pytest.mark.parametrize(
    ("base", "state"), [(FULL, "drop"), (FULL, "keep"), (LORA, "drop")], ids=["full", "keep", "lora"]
)
def test_a_killed_run_ends_in_the_bytes_of_an_undisturbed_one(saved, tmp_path, base, state, period):
    """The optimizer is restored from the state of some of its parameters only."""
    parts = replace(base, selector=part("selectors", "lisa", layers=1, period=period, state=state))
    straight, steps = train(saved, tmp_path / "straight", parts, SHORT, FEW)
    with pytest.raises(Killed):
        train(saved, tmp_path / "killed", parts, SHORT, FEW, kill_at=3)
    resumed, rest = train(saved, tmp_path / "killed", parts, SHORT, FEW)
    assert rest == steps[2:]
    drawn = [draw(range(DEPTH), 1, SHORT.seed, step // period) for step in range(len(steps))]
    assert drawn[2:] != drawn[2:3] * len(rest), "nothing was redrawn"
    assert (drawn[1] != drawn[2]) == (period == 2)
    assert digest(resumed, tmp_path / "a") == digest(straight, tmp_path / "b")
    assert resumed.losses == straight.losses


def test_a_checkpoint_says_which_layers_trained(saved, tmp_path):
    parts = replace(FULL, selector=part("selectors", "lisa", layers=1, period=2))
    train(saved, tmp_path, parts, SHORT, FEW)
    states = json.loads((tmp_path / "checkpoint-4" / checkpointing.STATE).read_text())["methods"]
    assert states["selector"] == {"layers": draw(range(DEPTH), 1, SHORT.seed, 1)}


def test_more_layers_than_train_are_refused(tiny):
    with pytest.raises(ValueError, match=r"lisa\.layers is 3, and only 2 decoder layers"):
        contract.composed(small.load(tiny), lisa(layers=3))


def test_nothing_to_train_is_refused(tiny):
    with pytest.raises(ValueError, match=r"lisa\.layers is 0, and nothing trains outside"):
        contract.composed(small.load(tiny), lisa("lora", layers=0))


def test_layers_that_are_frozen_are_never_drawn():
    """As an expander leaves them: only its copies train."""
    model = deep()
    decoder_layers(model)[:2].requires_grad_(False)
    for _, _, graded, _ in course(model, lisa(layers=1, period=1), 8):
        assert layers_of(graded) in ([2], [3])


def test_several_processes_are_refused(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ValueError, match=r"lisa: what trains changes from step to step"):
        contract.composed(deep(), lisa())
