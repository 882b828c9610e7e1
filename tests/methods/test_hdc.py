"""HDC by its equation, its false alarms, and what it calls new; a language model's own states of code and of prose."""

import numpy as np
import pytest

from tasks.core.statistics import proportion
from tasks.engine.inference import embedding
from tasks.io.weights import checkpoints
from tasks.methods.monitors.hdc.config import HdcConfig
from tasks.methods.monitors.hdc.method import fit, score
from tests import tiny as small

SMALL = {"permutations": 199, "size": 64}
CENTRES = 4 * np.random.default_rng(7).normal(size=(4, 3, 8))
COMMON = np.array([300.0, *[20.0] * 7])
"""What all hidden states of a model have: a direction, and one number that is large."""


def states(random, *domains, count=30):
    """States of so many texts of each domain, three layers of eight numbers."""
    drawn = [CENTRES[domain] + 2 * random.normal(size=(count, 3, 8)) for domain in domains]
    return (np.concatenate(drawn) + COMMON).astype(np.float32)


def reference(random, count=30):
    return states(random, 0, 1, count=count), ["code"] * count + ["sums"] * count


def ask(came, seed=0, **settings):
    random = np.random.default_rng([seed, 1])
    return score(fit(*reference(random), HdcConfig(**SMALL | settings)), came, seed)


def test_the_value_is_the_difference_of_mean_cosines_worked_out_one_by_one():
    random = np.random.default_rng(0)
    given, tasks = reference(random, count=6)
    came = states(random, 0, 2, count=3)
    fitted = fit(given, tasks, HdcConfig(**SMALL))
    pooled = np.concatenate([fitted.bundled_NLH, fitted.held_out_NLH, came]).astype(float)
    flat = ((pooled - pooled.mean(axis=0)) / pooled.std(axis=0)).reshape(len(pooled), -1)
    bundles = {task: sum(v for v, name in zip(flat, fitted.tasks, strict=False) if name == task) for task in tasks}
    far = [-max(v @ b / np.linalg.norm(v) / np.linalg.norm(b) for b in bundles.values()) for v in flat]
    expected = np.mean(far[12:]) - np.mean(far[6:12])
    found = [score(fit(given, tasks, HdcConfig(**SMALL | {"size": size})), came, 0).value for size in (64, 20_000)]
    assert found[1] == pytest.approx(expected, abs=0.02), "layers that are bound disturb one another as 1 / sqrt(size)"
    assert abs(found[1] - expected) < abs(found[0] - expected)


def test_every_item_of_the_reference_is_bundled_or_held_out_and_none_is_both():
    given, tasks = reference(np.random.default_rng(0))
    fitted = fit(given, tasks, HdcConfig(**SMALL))
    both = np.concatenate([fitted.bundled_NLH, fitted.held_out_NLH])
    assert sorted(row.tobytes() for row in both) == sorted(row.tobytes() for row in given)
    assert len({row.tobytes() for row in both}) == len(given) == 2 * len(fitted.held_out_NLH)


def test_false_alarms_stand_at_the_level_for_all_items_together_and_for_each():
    level, trials, told, named, items = 0.05, 200, 0, 0, 0
    for trial in range(trials):
        found = ask(states(np.random.default_rng([trial, 2]), 0, 1, count=10), trial, permutations=99)
        told += found.chance <= level
        named, items = named + len(found.new), items + 20
    assert proportion(told, trials, 0.999).low <= level <= proportion(told, trials, 0.999).high, f"told in {told}"
    assert named / items <= 0.07, "five of a hundred, of 30 that are held out"


def test_items_that_repeat_raise_no_more_false_alarms():
    level, trials, told = 0.05, 200, 0
    for trial in range(trials):
        random = np.random.default_rng([trial, 3])
        kinds = random.normal(size=(40, 2, 8)).astype(np.float32)
        drawn = kinds[random.integers(len(kinds), size=90)]
        fitted = fit(drawn[:60], ["one"] * 60, HdcConfig(permutations=99, size=16))
        told += score(fitted, drawn[60:], trial).chance <= level
    assert told <= trials * proportion(round(level * trials), trials, 0.999).high, f"told in {told}"


def test_a_new_domain_is_told_and_its_items_are_named_though_others_came_with_it():
    found = ask(states(np.random.default_rng(5), 0, 3, count=20))
    assert found.chance == pytest.approx(1 / 200)
    assert len([place for place in found.new if place >= 20]) >= 18
    assert len([place for place in found.new if place < 20]) <= 4


def test_a_domain_of_those_trained_on_is_none():
    assert ask(states(np.random.default_rng(5), 1, count=20)).chance > 0.05


def test_without_centring_all_texts_are_alike():
    raw = states(np.random.default_rng(0), 0, 3, count=20)[:, 0]
    unit = raw / np.linalg.norm(raw, axis=1, keepdims=True)
    assert (unit @ unit.T).min() > 0.99


CODE = "def {0}(x):\n    return [{1} + x for {1} in range({2})]\n"
PROSE = "The {0} of the {1} had never been seen by any of the {2} old men who lived there."
NAMES = ["river", "lamp", "winter", "story", "bridge", "garden", "letter", "window"]


def texts(template, count, seed):
    random = np.random.default_rng(seed)
    return [template.format(*random.choice(NAMES, 2), random.integers(2, 99)) for _ in range(count)]


def test_code_against_prose_is_told_by_a_models_own_states(tiny):
    model, read = small.load(tiny).eval(), checkpoints.load_tokenizer(tiny)

    def seen(template, count, seed):
        return embedding.by_layer(model, read(texts(template, count, seed))["input_ids"])

    fitted = fit(seen(CODE, 60, 0), ["code"] * 60, HdcConfig(permutations=999))
    prose, code = (score(fitted, seen(template, 30, 1), 0) for template in (PROSE, CODE))
    assert prose.chance == pytest.approx(0.001)
    assert len(prose.new) >= 28
    assert code.chance > 0.05


def test_too_few_to_part_are_refused():
    given, tasks = reference(np.random.default_rng(0), count=4)
    with pytest.raises(ValueError, match="20 items against 8 say nothing; 5 and 10 are needed"):
        score(fit(given, tasks, HdcConfig(**SMALL)), states(np.random.default_rng(1), 0, count=20), 0)
