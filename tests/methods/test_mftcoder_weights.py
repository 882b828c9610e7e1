"""The weights of tasks in MFTCoder: CoBa, self-paced and fixed, by their equations and by the official code."""

import json
import random

import pytest
import torch

from tasks.core.training import Moment, Probe
from tasks.methods.objectives.mftcoder.config import MftcoderConfig
from tasks.methods.objectives.mftcoder.method import coba, on_step, self_paced, slope
from tests.methods.official import frozen
from tests.methods.test_mftcoder import batch, mean


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


def test_a_task_alone_in_a_step_trains_however_small_its_self_paced_weight_is():
    weights = self_paced([[1.0 + 0.01 * step, 0.8 - 0.0001 * step, 0.7 - 0.0001 * step] for step in range(100)])
    assert weights[0] < 1e-29  # by the formula e^-130, which is 0 in fp32
    nll, tokens = batch([(0, 4)], weights)
    torch.testing.assert_close(mean(nll, tokens, "case3"), nll.mean())


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
    with pytest.raises(ValueError, match=r"warmup: 100 and interval: 1, coba begins at step 100, .* has 40 steps"):
        on_step(moment(0, {}, everything, steps=40), MftcoderConfig(balance="coba"))
    with pytest.raises(ValueError, match=r"window: 40 and interval: 1, self_paced begins at step 40, .* has 40 steps"):
        on_step(moment(0, {}, everything, steps=40), MftcoderConfig(balance="self_paced", window=40))
    with pytest.raises(ValueError, match=r"window: 3 and interval: 50, self_paced begins at step 50, .* has 40 steps"):
        on_step(moment(0, {}, everything, steps=40), MftcoderConfig(balance="self_paced", window=3, interval=50))


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
