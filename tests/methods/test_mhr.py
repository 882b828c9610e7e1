"""MHR mixes skills by task and head; the checks of its card and the small experiment of held-out tasks.

Weights, outputs and gradients are held against numbers of the authors' code (`data/mhr.json`), a whole model against peft's Poly.
"""

from dataclasses import replace

import peft
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from flows.commands.delta import delta
from tasks.core.records import Message
from tasks.core.training import Start
from tasks.core.weights import surgery
from tasks.core.weights.row import Passage, Row, task_key
from tasks.engine.forward import token_losses, use_packed_attention
from tasks.engine.inference import generation
from tasks.engine.packing import Pack, collate
from tasks.engine.training import compose, store
from tasks.io.weights import checkpoints
from tasks.methods.adapters.mhr.config import MhrConfig
from tasks.methods.adapters.mhr.method import METHOD, MhrLinear, adapted, adopt, facts
from tests import tiny as small
from tests.methods import contract
from tests.methods.official import frozen, same, wave

SMALL = {"skills": 3, "heads": 4, "rank": 2}
NAMES = ("code", "sums", "words")
KEYS = torch.tensor([task_key(name) for name in NAMES])


def trainable(model, config):
    """The sum over all adapted layers of S r (in + out) + T h S, with one task."""
    layers = surgery.linears(model, config.targets).values()
    return sum(config.skills * config.rank * sum(layer.weight.shape) + config.heads * config.skills for layer in layers)


def layer(**settings):
    """The layer that the authors' code was run for, and the passage of its rows."""
    base, passage = nn.Linear(16, 8, bias=False).double(), Passage()
    made = MhrLinear(base, MhrConfig(**SMALL | settings), KEYS, passage).double()
    base.weight.requires_grad_(False)
    with torch.no_grad():
        base.weight.copy_(wave(8, 16))
        made.A_QEIR.copy_(wave(4, 3, 4, 2, phase=1.0))
        made.B_QERO.copy_(wave(4, 3, 2, 2, phase=2.0))
        made.Z_KQE.copy_(3 * wave(3, 4, 3, phase=4.0))
    return made, passage


def keys(*names):
    return torch.tensor([task_key(name) for name in names])


def test_weights_outputs_and_gradients_are_the_official_ones():
    made, passage = layer()
    passage.row = Row(keys("code", "words", "sums", "words"))
    expected = frozen("mhr")
    same(made.mixtures()[[0, 2, 1, 2]].flatten(1), expected["weights"])
    y = made(wave(4, 5, 16, phase=3.0))
    same(y, expected["output"], rtol=1e-8, atol=1e-8)
    (y * wave(4, 5, 8, phase=5.0)).sum().backward()
    same(made.A_QEIR.grad.flatten(), expected["gradient_A"])
    same(made.B_QERO.grad.flatten(), expected["gradient_B"])
    same(made.Z_KQE.grad.flatten(1), expected["gradient_Z"])


def looped(made, x, weights):
    """The layer's equation, head by head and skill by skill, for one mixture."""
    a = torch.cat([sum(weights[q, e] * made.A_QEIR[q, e] for e in range(3)) for q in range(4)])
    b = torch.cat([sum(weights[q, e] * made.B_QERO[q, e] for e in range(3)) for q in range(4)], dim=1)
    return made.base(x) + made.scale * x @ a @ b


def test_sequences_of_one_row_have_their_own_mixtures():
    made, passage = layer()
    x, edges = wave(1, 9, 16, phase=3.0), [0, 2, 3, 7, 9]
    order = ["words", "code", "unheard of", "words"]
    passage.row = Row(keys(*order), torch.tensor(edges))
    w = made.mixtures()
    expected = [
        looped(made, x[0, start:end], w[NAMES.index(name)] if name in NAMES else w[:3].mean(dim=0))
        for name, start, end in zip(order, edges, edges[1:], strict=False)
    ]
    torch.testing.assert_close(made(x)[0], torch.cat(expected))


def test_a_row_may_hold_more_tasks_than_there_are_skills():
    made, passage = layer(skills=3)
    many = keys(*NAMES, "unheard of")
    assert len(many) > made.A_QEIR.shape[1]
    x = wave(1, 4, 16)
    passage.row = Row(many, torch.arange(5))
    apart = []
    together = made(x)
    for number in range(4):
        passage.row = Row(many[number : number + 1])
        apart.append(made(x[:, number : number + 1]))
    torch.testing.assert_close(together, torch.cat(apart, dim=1))


def test_without_a_row_and_for_unknown_tasks_it_is_the_mean_of_the_mixtures():
    made, passage = layer()
    x = wave(2, 3, 16)
    silent = made(x)
    torch.testing.assert_close(silent[0], looped(made, x[0], made.mixtures()[:3].mean(dim=0)))
    passage.row = Row(keys("unheard of", "neither"))
    torch.testing.assert_close(made(x), silent)


def test_one_skill_and_one_head_are_lora():
    base, passage = nn.Linear(16, 8), Passage()
    made = MhrLinear(base, MhrConfig(skills=1, heads=1, rank=4, alpha=2.0), KEYS, passage)
    nn.init.normal_(made.B_QERO)
    x = torch.randn(2, 5, 16)
    lora = base(x) + 0.5 * (x @ made.A_QEIR[0, 0]) @ made.B_QERO[0, 0]
    torch.testing.assert_close(made(x), lora)


SEQUENCES = [replace(one, task=NAMES[number % 3]) for number, one in enumerate(small.sequences(6, seed=3))]


def trained(model, names=NAMES, saved=None, **settings):
    """A model whose skills and routing are not those of the start; its parts beside it."""
    chosen = replace(contract.composition(), adapter=contract.part("adapters", "mhr", **settings))
    probe = contract.looking([contract.batch(2)], tuple(names))
    torch.manual_seed(0)
    attached = compose.compose(model, chosen, probe, seed=0, saved=saved)
    if not saved:
        with torch.no_grad():
            for name, parameter in attached.trainable.items():
                parameter.add_(torch.randn_like(parameter) * (1.0 if "Z_" in name else 0.2))
    return attached, chosen


@torch.no_grad()
def losses(model, sequences):
    return token_losses(model.eval(), collate([Pack(tuple(sequences))]))


@pytest.mark.parametrize("kind", contract.MODELS)
@torch.no_grad()
def test_a_pack_of_many_tasks_equals_pefts_poly_row_by_row(tiny, kind):
    ours, _ = trained(contract.model(kind, tiny))
    config = peft.PolyConfig(r=2, n_tasks=3, n_skills=3, n_splits=4, target_modules="all-linear", task_type="CAUSAL_LM")
    theirs = peft.get_peft_model(contract.model(kind, tiny), config).eval()
    poly = {name.removeprefix("base_model.model."): module for name, module in theirs.named_modules()}
    for name, mine in adapted(ours.model).items():
        module = poly[name]
        module.poly_lora_A["default"].copy_(mine.A_QEIR)
        module.poly_lora_B["default"].copy_(mine.B_QERO)
        module.poly_router["default"].module_logits.copy_(mine.Z_KQE.flatten(1))
    expected = []
    for one in SEQUENCES:
        logits = theirs(input_ids=torch.tensor([one.ids]), task_ids=torch.tensor([NAMES.index(one.task)])).logits[0]
        nll = F.cross_entropy(logits[:-1], torch.tensor(one.ids[1:]), reduction="none")
        expected.append(nll[torch.tensor(one.weights[1:]) > 0])
    mine = losses(ours.model, SEQUENCES)
    torch.testing.assert_close(mine, torch.cat(expected), rtol=0, atol=2e-5)
    unlike = losses(ours.model, [replace(one, task="code") for one in SEQUENCES])
    assert not torch.allclose(mine, unlike, rtol=0, atol=1e-3), "tasks would make no difference"


@torch.no_grad()
def test_what_is_written_goes_by_the_prompts_task(tiny):
    model, tokenizer = small.decided(tiny)
    part = contract.part("adapters", "mhr")
    part.method.attach(model, part.config, Start(contract.looking([], NAMES)))
    for each in adapted(model).values():
        nn.init.normal_(each.B_QERO)
        nn.init.normal_(each.Z_KQE, std=3.0)
    prompts = [[Message("user", text)] for text in ("b", "Well?", "A long question of many words?")]
    options = {"max_new_tokens": 6, "batch_size": 3}
    together = generation.write(model, prompts, tokenizer, tasks=list(NAMES), **options)
    alone = [
        generation.write(model, [prompt], tokenizer, tasks=[name], **options)[0]
        for prompt, name in zip(prompts, NAMES, strict=True)
    ]
    assert together == alone
    assert together != generation.write(model, prompts, tokenizer, tasks=["words"] * 3, **options)


@pytest.mark.parametrize("task", NAMES)
def test_one_tasks_change_leaves_as_a_lora_that_peft_opens(tiny, tmp_path, task):
    routed = saved(tiny, tmp_path / "saved").model
    delta([str(tmp_path / "saved")], to=tmp_path / "lora", base=tiny, task=task)
    opened = peft.PeftModel.from_pretrained(small.load(tiny), str(tmp_path / "lora"))
    expected = losses(routed, [replace(one, task=task) for one in SEQUENCES])
    for model in (opened.get_base_model(), opened.merge_and_unload()):
        use_packed_attention(model)
        torch.testing.assert_close(losses(model, SEQUENCES), expected, rtol=0, atol=2e-5)
    assert not torch.allclose(expected, losses(routed, SEQUENCES), rtol=0, atol=1e-3), "tasks would make no difference"


def test_what_is_no_change_of_plain_weights_for_one_task_leaves_as_no_lora(tiny, tmp_path):
    saved(tiny, tmp_path / "saved")
    with pytest.raises(ValueError, match="no mixture of a task 'unheard of' among the 3 of this adapter"):
        delta([str(tmp_path / "saved")], to=tmp_path / "lora", base=tiny, task="unheard of")
    with pytest.raises(ValueError, match=r"has one change for all tasks, or none\. Adapters with one for each: mhr\."):
        delta([str(tiny)], to=tmp_path / "lora", base=tiny, task="code")
    checkpoints.write_card(tmp_path / "saved", method={"base": "nf4"})
    with pytest.raises(ValueError, match=r"saved was trained on base 'nf4' and cannot be written as a LoRA of plain"):
        delta([str(tmp_path / "saved")], to=tmp_path / "lora", base=tiny, task=NAMES[0])
    assert not (tmp_path / "lora").exists()


def saved(tiny, folder):
    attached, parts = trained(small.load(tiny))
    store.save(attached, parts, None, folder)
    return attached


def test_routing_alone_trains_in_its_phase_and_a_new_task_begins_anew(tiny, tmp_path):
    first = adapted(saved(tiny, tmp_path / "saved").model)
    attached, parts = trained(small.load(tiny), ("new", "sums"), tmp_path / "saved", adapt="z")
    optimizer = parts.optimizer.method.make(compose.groups(attached, parts), parts.optimizer.config, 0)
    assert {name.rpartition(".")[2] for name in attached.trainable} == {"Z_KQE"}
    assert sum(p.numel() for p in attached.trainable.values()) == len(first) * 2 * 4 * 3
    for name, layer_now in adapted(attached.model).items():
        assert torch.equal(layer_now.A_QEIR, first[name].A_QEIR)
        assert layer_now.tasks_K.tolist() == keys("new", "sums").tolist()
        assert torch.equal(layer_now.Z_KQE[1], first[name].Z_KQE[1])
        assert layer_now.Z_KQE[0].abs().max() <= 1e-3
    moved = contract.steps(attached, optimizer, parts)
    assert moved == set(attached.trainable)
    store.save(attached, parts, None, tmp_path / "again")
    loaded, _ = checkpoints.load(tmp_path / "again", tiny)
    new = [replace(one, task="new") for one in SEQUENCES]
    use_packed_attention(loaded)
    assert torch.equal(losses(loaded, new), losses(attached.model, new))


def test_the_mean_of_the_skills_trains_as_one_lora_in_its_phase(tiny, tmp_path):
    first = adapted(saved(tiny, tmp_path / "saved").model)
    attached, parts = trained(small.load(tiny), ("new",), tmp_path / "saved", adapt="mu")
    assert {name.rpartition(".")[2] for name in attached.trainable} == {"A_QEIR", "B_QERO"}
    for name, layer_now in adapted(attached.model).items():
        torch.testing.assert_close(layer_now.A_QEIR[:, 0], first[name].A_QEIR.mean(dim=1))
    layers = surgery.linears(small.load(tiny), "all-linear").values()
    assert sum(p.numel() for p in attached.trainable.values()) == sum(2 * sum(each.weight.shape) for each in layers)
    assert facts(attached.model) == {"routed": {}}
    changes = METHOD.of_task(attached.model, "any")
    assert changes.keys() == adapted(attached.model).keys()
    for name, layer_now in adapted(attached.model).items():
        x = torch.randn(3, layer_now.base.in_features)
        change = x @ changes[name].A_RI.T @ changes[name].B_OR.T
        torch.testing.assert_close(layer_now(x), layer_now.base(x) + change, rtol=1e-4, atol=1e-5)
    store.save(attached, parts, None, tmp_path / "again")
    loaded, _ = checkpoints.load(tmp_path / "again", tiny)
    use_packed_attention(loaded)
    assert torch.equal(losses(loaded, SEQUENCES), losses(attached.model, SEQUENCES))


def test_tasks_that_are_trained_on_keep_their_mixtures():
    config, probe = MhrConfig(**SMALL), contract.looking([], ("words", "code"))
    tensors = {"l.tasks_K": KEYS, "l.Z_KQE": wave(3, 4, 3), "l.A_QEIR": wave(4, 3, 4, 2)}
    adopted = adopt(tensors, config, Start(probe, tensors=tensors))
    assert adopted["l.tasks_K"].tolist() == keys("words", "code").tolist()
    assert torch.equal(adopted["l.Z_KQE"], tensors["l.Z_KQE"][[2, 0]])


@pytest.mark.parametrize("adapt", ["z", "mu"])
def test_a_phase_without_an_adapter_to_start_from_is_refused(tiny, adapt):
    with pytest.raises(ValueError, match=f"adapt: {adapt} adapts skills that were trained before. Name their adapter"):
        trained(small.load(tiny), adapt=adapt)


def test_heads_that_do_not_divide_a_layer_are_refused(tiny):
    with pytest.raises(ValueError, match=r"heads 7 does not divide model\.layers\.0\.\S+, which is .*Take a divisor"):
        trained(small.load(tiny), heads=7)


def test_routing_learns_at_its_own_rate_and_does_not_decay(tiny):
    attached, parts = trained(small.load(tiny))
    (routing,) = (group for group in compose.groups(attached, parts) if group.rate == 100.0)
    assert not routing.decay
    assert {id(p) for p in routing.parameters} == {id(each.Z_KQE) for each in adapted(attached.model).values()}


def test_routing_of_heads_serves_held_out_tasks_that_mix_hidden_modules_head_by_head():
    # The card's experiment, cut down: MHR's routing alone fits new tasks, whole-module mixtures cannot.
    torch.manual_seed(0)
    heads, modules, rank, width = 8, 4, 2, 32
    truth_A = torch.randn(heads, modules, width // heads, rank) / 8**0.5
    truth_B = torch.randn(heads, modules, rank, width // heads)

    def targets(count):
        picked = F.one_hot(torch.randint(modules, (count, heads)), modules).float()
        a = torch.einsum("kqe,qeir->kqir", picked, truth_A).flatten(1, 2)
        return a @ torch.einsum("kqe,qero->krqo", picked, truth_B).flatten(2)

    change_KIO, change_NIO = targets(24), targets(6)

    def fit(made, passage, changes, steps, learns):
        count = len(changes)
        optimizer = torch.optim.Adam([{"params": p, "lr": rate} for p, rate in learns])
        shots = torch.randn(count, 16, width)
        for _ in range(steps):
            x = torch.randn(count, 16, width) if count == 24 else shots
            passage.row = Row(torch.arange(count))
            loss = (made(x) - x @ changes).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        with torch.no_grad():
            x = torch.randn(count, 64, width)
            return float((made(x) - x @ changes).square().mean())

    def held_out(number):
        base, passage = nn.Linear(width, width, bias=False), Passage()
        nn.init.zeros_(base.weight)
        config = MhrConfig(skills=modules, heads=number, rank=rank, alpha=rank)
        made = MhrLinear(base.requires_grad_(False), config, torch.arange(24), passage)
        learns = [(made.A_QEIR, 2e-2), (made.B_QERO, 2e-2), (made.Z_KQE, 1e-1)]
        trained_loss = fit(made, passage, change_KIO, 400, learns)
        new = MhrLinear(base, config, torch.arange(6), passage)
        with torch.no_grad():
            new.A_QEIR.copy_(made.A_QEIR)
            new.B_QERO.copy_(made.B_QERO)
        return trained_loss, fit(new, passage, change_NIO, 200, [(new.Z_KQE, 1e-1)])

    (mhr_trained, mhr_new), (poly_trained, poly_new) = held_out(8), held_out(1)
    assert mhr_trained < 0.5 * poly_trained
    assert mhr_new < 0.7 * poly_new
