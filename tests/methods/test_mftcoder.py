"""MFTCoder's means give every task its share, and its weights follow the slopes of validation losses.

`data/mftcoder.json` has what the authors' `loss_utils.py` gave: release 0.5 the losses and CoBa's weights, and 0.4.2,
the last that had them, self-paced weights.
"""

import json
import random
from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from tasks.core.sequences import Encoded
from tasks.core.training import Moment, Probe, Training
from tasks.engine.forward import token_losses, use_packed_attention
from tasks.engine.inference import scoring
from tasks.engine.packing import Pack, collate
from tasks.engine.training import checkpointing
from tasks.engine.training import train as engine
from tasks.methods.objectives import Tokens
from tasks.methods.objectives.mftcoder.config import MftcoderConfig
from tasks.methods.objectives.mftcoder.method import coba, loss, on_step, self_paced, share, slope
from tests import tiny as small
from tests.methods import contract
from tests.methods.contract import composition, part
from tests.methods.official import frozen, same, wave

CASES = ["case1", "case2", "case3", "case4"]


class Killed(Exception):
    """The process went away at this step."""


def batch(owners, weights=None, num_tasks=3):
    """Token losses and what is known of them, for examples given as (task, trained tokens)."""
    lengths = torch.tensor([length for _, length in owners])
    tasks = torch.tensor([task for task, _ in owners])
    tokens = Tokens(
        weights=torch.ones(int(lengths.sum())),
        segments=torch.arange(len(owners)).repeat_interleave(lengths),
        tasks=tasks.repeat_interleave(lengths),
        task_tokens=torch.zeros(num_tasks, dtype=torch.long).index_add_(0, tasks, lengths),
        task_examples=tasks.bincount(minlength=num_tasks),
        numbers=torch.arange(len(owners)),
        state={} if weights is None else {"task_weights": torch.tensor(weights)},
    )
    nll = torch.rand(int(lengths.sum()), generator=torch.Generator().manual_seed(0), dtype=torch.float64) + 0.1
    return nll.requires_grad_(), tokens


def mean(nll, tokens, case):
    """What the engine makes of a step of one pack."""
    return loss(nll, tokens, MftcoderConfig(aggregation=case)) / tokens.task_tokens.sum()


def reference(logits, labels, mask, task_id, case, weights):
    """The loss as the card has it, on padded rows: every example a row, every task a set of rows."""
    losses = F.cross_entropy(logits.transpose(1, 2), labels, reduction="none") * mask
    per_row = losses.sum(1) / mask.sum(1)
    if case == "case1":
        return losses.sum() / mask.sum()
    if case == "case2":
        return per_row.mean()
    total = 0.0
    for task in task_id.unique():
        rows = task_id == task
        of_task = losses[rows].sum() / mask[rows].sum() if case == "case3" else per_row[rows].mean()
        total = total + weights[task] * of_task
    return total / weights[task_id.unique()].sum()


@pytest.mark.parametrize("case", CASES)
def test_a_hand_made_batch_gives_the_loss_of_padded_rows(case):
    # Four rows of three tasks, of which task 1 is absent.
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(4, 7, 11, generator=generator, dtype=torch.float64)
    labels = torch.randint(11, (4, 7), generator=generator)
    mask = torch.tensor([[0, 0, 1, 1, 1, 0, 0], [0, 1, 0, 0, 0, 0, 0], [1, 1, 1, 1, 1, 1, 0], [0, 0, 0, 0, 1, 1, 0]])
    task_id, v = torch.tensor([2, 0, 0, 2]), torch.tensor([0.5, 7.0, 2.0])
    expected = reference(logits, labels, mask, task_id, case, v)
    nll = F.cross_entropy(logits.transpose(1, 2), labels, reduction="none")[mask.bool()]
    tokens = batch(list(zip(task_id.tolist(), mask.sum(1).tolist(), strict=True)), v.tolist())[1]
    torch.testing.assert_close(mean(nll, tokens, case), expected)


@pytest.mark.parametrize("case", CASES)
def test_the_loss_and_its_gradient_are_those_of_the_official_code(case):
    """loss_func_mft with four rows of three tasks, of which task 1 is absent."""
    logits, expected = (2 * wave(4, 5, 4, phase=0.3)).requires_grad_(), frozen("mftcoder")
    labels = (torch.arange(20) * 7 % 4).view(4, 5)
    mask = torch.tensor([[0, 0, 1, 1, 1], [0, 1, 0, 0, 0], [1, 1, 1, 1, 0], [0, 0, 0, 1, 1]]).bool()
    nll = F.cross_entropy(logits.transpose(1, 2), labels, reduction="none")[mask]
    owners = list(zip([2, 0, 0, 2], mask.sum(1).tolist(), strict=True))
    found = mean(nll, batch(owners, [0.5, 7.0, 2.0])[1], case)
    found.backward()
    same(found, expected["loss"][case])
    same(logits.grad[mask], expected["gradient"][case])
    assert torch.count_nonzero(logits.grad[~mask]) == 0


def test_with_one_task_balancing_tasks_changes_nothing():
    nll, tokens = batch([(0, 3), (0, 1), (0, 6)], num_tasks=1)
    torch.testing.assert_close(mean(nll, tokens, "case1"), nll.mean())
    torch.testing.assert_close(mean(nll, tokens, "case3"), nll.mean(), rtol=0, atol=1e-6)
    torch.testing.assert_close(mean(nll, tokens, "case4"), mean(nll, tokens, "case2"), rtol=0, atol=1e-6)
    assert not torch.allclose(mean(nll, tokens, "case1"), mean(nll, tokens, "case2"), atol=1e-3)


@pytest.mark.parametrize(("case", "changes"), [("case1", True), ("case2", True), ("case3", False), ("case4", False)])
def test_a_task_given_twice_weighs_no_more_where_tasks_are_balanced(case, changes):
    owners = [(0, 3), (1, 2), (2, 5)]
    nll, once = batch(owners)
    _, twice = batch([*owners, (0, 3)])
    doubled = torch.cat([nll, nll[:3]])
    (gradient,) = torch.autograd.grad(mean(nll, once, case), nll)
    (gradient_twice,) = torch.autograd.grad(mean(doubled, twice, case), nll)
    assert torch.allclose(mean(doubled, twice, case), mean(nll, once, case), atol=1e-6) is not changes
    assert torch.allclose(gradient, gradient_twice, atol=1e-6) is not changes


@pytest.mark.parametrize("case", ["case3", "case4"])
def test_only_the_ratios_of_weights_count(case):
    owners = [(0, 3), (1, 2), (2, 5), (1, 1)]
    nll, tokens = batch(owners, [1.0, 2.0, 0.5])
    torch.testing.assert_close(mean(nll, batch(owners, [10.0, 20.0, 5.0])[1], case), mean(nll, tokens, case))
    torch.testing.assert_close(mean(nll, batch(owners, [1.0, 1.0, 1.0])[1], case), mean(nll, batch(owners)[1], case))
    assert not torch.allclose(mean(nll, tokens, case), mean(nll, batch(owners)[1], case), atol=1e-3)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("cut", [1, 2, 3, 4])
def test_the_packs_of_a_step_add_up_wherever_it_is_cut(case, cut):
    owners = [(0, 3), (1, 2), (2, 5), (1, 1), (0, 2)]
    nll, whole = batch(owners, [1.0, 2.0, 0.5])
    apart = []
    for examples in (range(cut), range(cut, len(owners))):
        held = torch.isin(whole.segments, torch.tensor(list(examples)))
        segments = whole.segments[held] - examples.start  # a pack counts its own examples
        pack = replace(whole, weights=whole.weights[held], segments=segments, tasks=whole.tasks[held])
        apart.append(loss(nll[held], pack, MftcoderConfig(aggregation=case)))
    torch.testing.assert_close(sum(apart), loss(nll, whole, MftcoderConfig(aggregation=case)))


@pytest.mark.parametrize("case", CASES)
def test_the_weight_of_a_token_scales_its_own_loss(case):
    nll, tokens = batch([(0, 3), (1, 2), (2, 5)])
    weighted = replace(tokens, weights=torch.linspace(0.5, 2, 10))
    expected = (share(tokens, MftcoderConfig(aggregation=case)) * weighted.weights * nll).sum()
    torch.testing.assert_close(loss(nll, weighted, MftcoderConfig(aggregation=case)), expected)
    torch.testing.assert_close(share(tokens, MftcoderConfig(aggregation=case)).sum(), torch.tensor(10.0))


def test_a_slope_is_that_of_least_squares_and_knows_gaps():
    # Points (0, 1), (2, 2), (3, 4): mean x 5/3, mean y 7/3; slope = (sum of dx dy) / (sum of dx^2) = (13/3) / (14/3).
    assert slope([1.0, None, 2.0, 4.0]) == pytest.approx(13 / 14)
    assert slope([None, 3.0]) == slope([]) == 0.0


def test_self_paced_weights_are_those_of_the_formula():
    # Slopes -1, -2, 0 over three steps: r = K a / sum |a| = (-1, -2, 0); v = softmax(50 softmax(r) (-r)).
    r = torch.tensor([-1.0, -2.0, 0.0], dtype=torch.float64)
    expected = (50 * r.softmax(0) * -r).softmax(0)
    found = self_paced([[5.0, 9.0, 1.0], [4.0, 7.0, 1.0], [3.0, 5.0, 1.0]])
    torch.testing.assert_close(torch.tensor(found, dtype=torch.float64), expected)


def test_self_paced_weights_are_equal_where_nothing_moves():
    assert self_paced([[5.0, 9.0], [5.0, 9.0]]) == [0.5, 0.5]
    assert self_paced([[5.0, 9.0]]) == [0.5, 0.5]


def coba_reference(slopes, worst, tau):
    """CoBa's weights by the equations, with torch: `slopes` is (steps, tasks)."""
    slopes, worst = torch.tensor(slopes, dtype=torch.float64), torch.tensor(worst, dtype=torch.float64)
    (n, k), t = slopes.shape, len(worst)
    rcs = (k * slopes[-1] / slopes[-1].abs().sum()).softmax(0)
    acs = (-n * slopes[-1] / slopes.abs().sum(0)).softmax(0)
    df = min(1.0, (t * (-tau * t * worst / worst.abs().sum()).softmax(0)[-1]).item())
    w = (k * (df * rcs + (1 - df) * acs)).softmax(0)
    return df, rcs, acs, (w * (1 - 1 / 10) + 1 / (10 * k) if (w < 1 / (10 * k)).any() else w)


@pytest.mark.parametrize("seed", range(5))
def test_coba_weights_are_those_of_the_equations(seed):
    draw = random.Random(seed)
    slopes = [[draw.gauss(-0.1, 1) for _ in range(3)] for _ in range(6)]
    worst = [draw.gauss(-0.1, 1) for _ in range(9)]
    *_, expected = coba_reference(slopes, worst, 5.0)
    found = coba(slopes, worst, 5.0)
    torch.testing.assert_close(torch.tensor(found, dtype=torch.float64), expected)
    assert sum(found) == pytest.approx(1)


def test_coba_weighs_equal_slopes_equally():
    assert coba([[-0.1] * 4] * 3, [-0.1] * 3, 5.0) == pytest.approx([0.25] * 4)
    assert coba([[0.0] * 4] * 3, [0.0] * 3, 5.0) == pytest.approx([0.25] * 4)


def test_coba_leaves_no_task_below_the_floor():
    weights = coba([[0.0, 9.0, 0.0, 0.0]], [-1.0], 5.0)  # without it 0.0226 for each of the three
    assert min(weights) >= 1 / 40
    assert sum(weights) == pytest.approx(1)
    assert max(weights) > 0.5


def test_as_long_as_all_tasks_fall_coba_favours_the_slowest():
    slopes, worst = [[-0.30, -0.10, -0.01]] * 8, [-0.01] * 8
    df, *_ = coba_reference(slopes, worst, 5.0)
    assert df == pytest.approx(1)
    fast, middle, slow = coba(slopes, worst, 5.0)
    assert fast < middle < slow


def test_when_the_worst_task_turns_up_coba_takes_weight_from_it():
    before = [[-0.2, -0.1, -0.1]] * 8
    turned = [*before, [-0.2, -0.1, 0.1]]
    df, rcs, acs, _ = coba_reference(turned, [-0.1] * 8 + [0.1], 5.0)
    assert df < 0.1
    assert rcs.argmax() == 2
    assert acs.argmin() == 2
    falling = coba(turned, [-0.1] * 9, 5.0)
    rising = coba(turned, [-0.1] * 8 + [0.1], 5.0)
    assert falling[2] == max(falling)
    assert rising[2] == min(rising)


# What weights follow: a probe whose losses are written down.

NAMES = ("code", "maths", "text")


def moment(step, state, losses, steps=1000, names=NAMES):
    """A training in which validation batch i has, for each task of `losses[i]`, two tokens of that loss."""
    rows = [{"tasks": [], "labels": [], "nll": []} for _ in losses]
    for row, of_batch in zip(rows, losses, strict=True):
        for task, value in of_batch.items():
            row["tasks"] += [names.index(task)] * 3
            row["labels"] += [-100, 1, 1]
            row["nll"] += [value - 0.5, value + 0.5]
    batches = [
        {name: torch.tensor([values], dtype=None if name != "nll" else torch.float64) for name, values in row.items()}
        for row in rows
    ]
    valid = Probe(batches, lambda model, row: row["nll"][0], pytest.fail, names)
    return Moment(step, steps, 0, torch.nn.Linear(1, 1), None, None, valid, valid, state)


def follow(curves, params, batches=lambda losses: [losses]):
    """The weights of every step as validation losses follow `curves`, a function of the step for each task."""
    state, seen = {}, []
    for step in range(12):
        on_step(moment(step, state, batches({name: curve(step) for name, curve in curves.items()})), params)
        state = json.loads(json.dumps(state))  # as a checkpoint keeps it
        seen.append(state["task_weights"])
    return seen, state


CURVES = {
    "code": lambda s: 3.0 * 0.8**s,
    "maths": lambda s: 5.0 - 0.1 * s,
    "text": lambda s: 2.0 - 0.3 * s + (0.2 * (s - 6) ** 2 if s > 6 else 0),
}


def test_coba_follows_the_ratios_to_the_losses_before_training():
    config = MftcoderConfig(balance="coba", warmup=4, history=5)
    seen, _ = follow(CURVES, config)
    assert seen[:4] == [[1 / 3] * 3] * 4
    ratios = [[CURVES[name](s) / CURVES[name](0) for name in NAMES] for s in range(12)]
    slopes, worst = [], []
    for step in range(4, 12):
        window = ratios[max(0, step - 4) : step + 1]
        slopes.append([slope(column) for column in zip(*window, strict=True)])
        worst.append(slope([max(row) for row in window]))
        expected = coba_reference(slopes[-2:], worst, 5.0)[-1]  # history 5 less warm-up 4, plus 1
        assert seen[step] == pytest.approx(expected.tolist(), rel=1e-6)
    assert seen[-1] != seen[4]


def test_coba_weights_are_those_of_the_official_code():
    """CoBaStatus on the same ratios, up to the history's length."""
    seen, _ = follow(CURVES, MftcoderConfig(balance="coba", warmup=4, history=20))
    for found, (factor, *expected) in zip(seen[4:], frozen("mftcoder")["coba"], strict=True):
        assert factor < 1 + 1e-9
        assert found == pytest.approx(expected, abs=1e-6)


FASTER = {
    "code": lambda s: 3.0 - 0.020 * s**2,
    "maths": lambda s: 5.0 - 0.022 * s**2,
    "text": lambda s: 2.0 - 0.015 * s**2,
}


def test_where_the_worst_task_falls_ever_faster_the_official_code_leaves_the_papers_bound_and_we_do_not():
    """Its DF grows to 4, and 1 - DF below 0. By the paper DF is at most 1, and then only the relative scores count."""
    seen, _ = follow(FASTER, MftcoderConfig(balance="coba", warmup=4, history=20))
    ratios = [[curve(s) / curve(0) for curve in FASTER.values()] for s in range(12)]
    for step, (factor, *official) in enumerate(frozen("mftcoder")["coba_faster_and_faster"], start=4):
        slopes = torch.tensor([slope(column) for column in zip(*ratios[: step + 1], strict=True)])
        bounded = (3 * (3 * slopes / slopes.abs().sum()).softmax(0)).softmax(0)
        assert seen[step] == pytest.approx(bounded.tolist(), abs=1e-5)
        assert (factor > 1.5) == (step > 4)
        assert (seen[step] == pytest.approx(official, abs=1e-5)) == (step == 4)


BENT = {  # straight up to step 6, so that it does not matter how many looks a slope is fitted over
    "code": lambda s: 3.0 - 0.20 * s + 0.03 * max(s - 6, 0) ** 2,
    "maths": lambda s: 5.0 - 0.10 * s + 0.05 * max(s - 6, 0) ** 2,
    "text": lambda s: 2.0 - 0.05 * s - 0.02 * max(s - 6, 0) ** 2,
}


def test_coba_weights_beyond_the_history_are_those_of_the_official_training():
    """A slope is compared with history - warm-up + 1 of its task's, here 3. With the 6 of the history the last weights were
    0.132, 0.079 and 0.789."""
    seen, state = follow(BENT, MftcoderConfig(balance="coba", warmup=4, history=6))
    expected = frozen("mftcoder")["coba_in_training"]
    for found, official in zip(seen, expected, strict=True):
        assert found == pytest.approx(official, abs=1e-6)
    assert len(state["slopes"]) == 3
    assert expected[-1] == pytest.approx([0.2214, 0.0969, 0.6817], abs=1e-4)
    ratios = [[curve(s) / curve(0) for curve in BENT.values()] for s in range(12)]
    slopes = [[slope(column) for column in zip(*ratios[s - 5 : s + 1], strict=True)] for s in range(6, 12)]
    assert coba(slopes, state["worst_slopes"], 5.0) == pytest.approx([0.1316, 0.0791, 0.7893], abs=1e-4)


def test_slopes_are_compared_over_updates_where_not_every_step_is_one():
    _, state = follow(CURVES, MftcoderConfig(balance="coba", warmup=4, history=4, interval=2))
    assert (len(state["ratios"]), len(state["slopes"])) == (4, 3)


def test_self_paced_weights_are_those_of_the_official_code():
    """SelfpacedStatus asked at every step about the last four losses, in float32."""
    losses = [[curve(step) for curve in CURVES.values()] for step in range(12)]
    for step, expected in enumerate(frozen("mftcoder")["self_paced"]):
        assert self_paced(losses[max(0, step - 3) : step + 1]) == pytest.approx(expected, abs=5e-5)


def test_self_paced_weights_are_equal_before_step_window_as_in_the_official_training():
    """Its trainer asks from step `history_length` on; at step 2 SelfpacedStatus would have said 0.089, 0.005 and 0.907.

    At step `window` the two differ: theirs has looked at the model before training, and not after its first step.
    """
    seen, _ = follow(CURVES, MftcoderConfig(balance="self_paced", window=4))
    expected = frozen("mftcoder")["self_paced_in_training"]
    assert seen[:4] == [[1 / 3] * 3] * 4
    for step in (*range(4), *range(5, 12)):
        assert seen[step] == pytest.approx(expected[step], abs=5e-5)
    assert frozen("mftcoder")["self_paced"][2] == pytest.approx([0.0885, 0.0047, 0.9068], abs=1e-4)
    assert seen[4] == pytest.approx([0.2420, 0.0106, 0.7474], abs=1e-4)
    assert expected[4] == pytest.approx([0.1659, 0.0077, 0.8264], abs=1e-4)


def test_self_paced_weights_follow_the_last_window_of_losses():
    config = MftcoderConfig(balance="self_paced", window=4)
    seen, state = follow(CURVES, config)
    losses = [[CURVES[name](s) for name in NAMES] for s in range(12)]
    for step in range(4, 12):
        assert seen[step] == pytest.approx(self_paced(losses[step - 3 : step + 1]), rel=1e-5)
    assert len(state["losses"]) == 4


def test_a_task_missing_from_a_batch_has_no_point_there():
    # Batches hold one task each and are taken in turn, so a task is seen at every third step.
    def alternate(losses):
        return [{name: losses[name]} for name in NAMES]

    _, state = follow(CURVES, MftcoderConfig(balance="coba", warmup=3), alternate)
    seen = [[None if value is None else round(value, 5) for value in row] for row in state["ratios"]]
    assert [[value is None for value in row] for row in seen[:3]] == [
        [False, True, True],
        [True, False, True],
        [True, True, False],
    ]
    assert seen[4][1] == round(CURVES["maths"](4) / 5.0, 5)
    assert state["worst"][2] == max(1.0, CURVES["text"](2) / 2.0)  # those not seen now count as they were


def test_weights_are_left_between_updates():
    seen, state = follow(CURVES, MftcoderConfig(balance="self_paced", interval=3, window=4))
    assert seen[0] == seen[5] != seen[6] == seen[7] == seen[8]
    assert seen[9] == seen[10] == seen[11] != seen[6]
    assert len(state["losses"]) == 4


def test_several_batches_of_an_update_are_taken_in_turn():
    looked = []
    config = MftcoderConfig(balance="self_paced", valid_batches=2)
    for step in range(3):
        state = {}
        on_step(moment(step, state, [{"code": 1.0, "maths": 2.0, "text": 3.0}, {"code": 5.0}, {"text": 9.0}]), config)
        looked.append(state["losses"][0])
    assert looked == [[3.0, 2.0, 3.0], [1.0, 2.0, 6.0], [5.0, None, 9.0]]


def test_fixed_weights_are_given_by_name():
    state = {}
    on_step(moment(0, state, [{}]), MftcoderConfig(task_weights={"text": 3.0, "code": 0.5}))
    assert state == {"task_weights": [0.5, 1.0, 3.0]}
    with pytest.raises(ValueError, match=r"names prose, and no example is of that task\. There are: code, maths, text"):
        on_step(moment(0, {}, [{}]), MftcoderConfig(task_weights={"prose": 3.0}))


def test_without_weights_nothing_is_noted():
    state = {}
    on_step(moment(0, state, []), MftcoderConfig())
    assert state == {}


def test_a_task_without_validation_is_refused_by_name():
    with pytest.raises(ValueError, match="there is none of maths, text"):
        on_step(moment(0, {}, [{"code": 1.0}]), MftcoderConfig(balance="self_paced"))


def test_a_warmup_that_never_ends_is_refused():
    everything = [{"code": 1.0, "maths": 2.0, "text": 3.0}]
    with pytest.raises(ValueError, match="warmup is 100 and the training has 40 steps"):
        on_step(moment(0, {}, everything, steps=40), MftcoderConfig(balance="coba"))
    with pytest.raises(ValueError, match="window is 40 and the training has 40 steps, so self_paced would never begin"):
        on_step(moment(0, {}, everything, steps=40), MftcoderConfig(balance="self_paced", window=40))


@pytest.mark.parametrize(
    ("wrong", "match"),
    [
        ({"aggregation": "case5"}, "aggregation"),
        ({"task_weights": {"code": 0.0}}, "task_weights"),
        ({"aggregation": "case1", "balance": "coba"}, "case1 has no task weights"),
        ({"aggregation": "case2", "task_weights": {"code": 2.0}}, "case2 has no task weights"),
        ({"balance": "coba", "task_weights": {"code": 2.0}}, "set one of them"),
        ({"window": 1}, "window"),
        ({"balance": "coba", "warmup": 8, "history": 7}, "history=7 is shorter than the warm-up, 8 updates"),
    ],
)
def test_settings_that_cannot_work_are_refused(wrong, match):
    with pytest.raises(ValueError, match=match):
        MftcoderConfig(**wrong)


# Through the engine, on a tiny model.


def rows(counts, seed=0, length=6):
    """Sequences of tasks of unequal size and difficulty: each task answers its prompt from a table of its own."""
    draw = random.Random(f"tables/{seed}")
    made = []
    for task, (name, count) in enumerate(counts.items()):
        table = [draw.randrange(256) for _ in range(2 + 2 * task)]
        picks = random.Random(f"{seed}/{name}")
        for number in range(count):
            keys = [picks.randrange(len(table)) for _ in range(length)]
            ids = [task, *[x for key in keys for x in (10 * (task + 1) + key, table[key])]]
            weights = [0.0, *[0.0, 1.0] * length]
            made.append(Encoded(f"{name}-{number}", ids, weights, task=name))
    return made


def parts(adapter="none", **config):
    return replace(
        composition(adapters=adapter),
        optimizer=part("optimizers", "adamw", learning_rate=3e-3),
        objective=part("objectives", "mftcoder", **config),
    )


def train(base, work, parts, plan, counts, kill_at=None):
    """What training ends in, and the weights of its steps as the last checkpoint notes them."""

    def on_step(metrics):
        if metrics.step == kill_at:
            raise Killed

    data = engine.TrainData(rows(counts), valid={"both": rows(dict.fromkeys(counts, 2))})
    outcome = engine.train(small.load(base).train(), data, parts, plan, small.FP32, work, on_step=on_step)
    newest = max(work.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    return outcome, json.loads((newest / checkpointing.STATE).read_text())["methods"]["objective"]


COUNTS = {"code": 10, "maths": 5, "text": 3}
PLAN = Training(pack_tokens=40, accumulation=2, max_tokens=100_000, epochs=2, warmup=0.0, save_every=2)


@pytest.mark.parametrize(
    "balance", [{"balance": "coba", "warmup": 2}, {"balance": "self_paced", "window": 2}], ids=lambda b: b["balance"]
)
def test_a_killed_run_ends_in_the_bytes_of_an_undisturbed_one(tiny, tmp_path, balance):
    config = replace(parts("lora", **balance), adapter=part("adapters", "lora", rank=4, dropout=0.2))
    straight, notes = train(tiny, tmp_path / "straight", config, PLAN, COUNTS)
    with pytest.raises(Killed):
        train(tiny, tmp_path / "killed", config, PLAN, COUNTS, kill_at=5)
    resumed, again = train(tiny, tmp_path / "killed", config, PLAN, COUNTS)
    assert len(straight.losses) > 5
    assert notes == again
    assert len(set(notes["task_weights"])) > 1
    assert resumed.losses == straight.losses
    for found, wanted in zip(resumed.model.parameters(), straight.model.parameters(), strict=True):
        assert torch.equal(found, wanted)


def test_looking_at_validation_leaves_no_trace(tiny):
    model = small.load(tiny).train()
    use_packed_attention(model)
    model.model.layers[0].eval()  # a mode of its own
    modes = [module.training for module in model.modules()]
    names = tuple(sorted(COUNTS))
    batches = [collate([Pack(tuple(rows(dict.fromkeys(names, 2))))], names)]
    valid = contract.looking(batches, names)
    torch.manual_seed(0)
    before, generator = [p.detach().clone() for p in model.parameters()], torch.get_rng_state()
    state = {}
    on_step(Moment(0, 1000, 0, model, None, None, valid, valid, state), MftcoderConfig(balance="coba"))
    assert [module.training for module in model.modules()] == modes
    assert all(p.grad is None for p in model.parameters())
    assert all(map(torch.equal, model.parameters(), before))
    assert torch.equal(torch.get_rng_state(), generator)
    nll, tasks = token_losses(model.eval(), batches[0]), batches[0]["tasks"][0][batches[0]["labels"][0] >= 0]
    assert state["start"] == pytest.approx([nll[tasks == task].mean().item() for task in range(3)], rel=1e-5)


def test_fixed_weights_reach_the_loss(tiny, tmp_path):
    # One step: the logged loss is the mean over tasks, weighed.
    plan = PLAN.model_copy(update={"accumulation": 3, "epochs": 1, "pack_tokens": 256})
    found = {}
    for name, weights in {"equal": {}, "maths": {"maths": 1e6}}.items():
        outcome, _ = train(tiny, tmp_path / name, parts(task_weights=weights), plan, COUNTS)
        assert len(outcome.losses) == 1
        found[name] = outcome.losses[0][2]
    model = small.load(tiny).eval()
    own = {
        task: scoring.mean(scoring.losses(model, [row for row in rows(COUNTS) if row.task == task])) for task in COUNTS
    }
    assert found["maths"] == pytest.approx(own["maths"], rel=1e-4)
    assert found["equal"] == pytest.approx(sum(own.values()) / 3, rel=1e-5)


# The card's experiment in small: tasks of 10 : 3 : 1, the smallest the hardest, equal steps.
UNEQUAL = {"a": 20, "b": 6, "c": 2}


def unequal(base, work, epochs, **config):
    """The held-out loss of each task after training on all, and the last weights where there are any."""
    plan = Training(pack_tokens=400, max_tokens=10**6, epochs=epochs, warmup=0.0, save_every=1000)
    outcome, notes = train(base, work, parts(**config), plan, UNEQUAL)
    held_out = {
        task: [row for row in rows(dict.fromkeys(UNEQUAL, 8), length=7) if row.task == task] for task in UNEQUAL
    }
    inner = outcome.model.eval()
    return {task: scoring.mean(scoring.losses(inner, held)) for task, held in held_out.items()}, notes


def test_balanced_tasks_end_lower_on_average_and_the_smallest_gains_most(tiny, tmp_path):
    after = {case: unequal(tiny, tmp_path / case, 25, aggregation=case)[0] for case in ("case1", "case3")}
    gains = {task: after["case1"][task] - after["case3"][task] for task in UNEQUAL}
    assert sum(gains.values()) > 0
    assert max(gains, key=gains.get) == "c"


def test_the_worst_task_ends_no_worse_by_coba_than_by_equal_weights(tiny, tmp_path):
    # Here all tasks fall at about one speed, so little is shifted; docs/claims has a run in which more was.
    equal, _ = unequal(tiny, tmp_path / "equal", 40)
    found, notes = unequal(tiny, tmp_path / "coba", 40, balance="coba", warmup=6, history=30)
    assert max(equal, key=equal.get) == "c"
    assert len(set(notes["task_weights"])) == 3
    assert found["c"] <= equal["c"]
