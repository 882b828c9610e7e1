"""The picture of accuracy by turns: every arm at its place, the controls' band, and what the intervals are over."""

import itertools
import json
import re
from xml.etree import ElementTree

import pytest

from docs import turns_plot

ACCURACIES = {"learnable": (0.4, 0.5), "uniform": (0.39, 0.45), "own": (0.1, 0.65)}
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture
def measured(tmp_path, monkeypatch):
    """Turns of so many seeds, each five points above the one before, with some arms."""

    def write(seeds, arms=tuple(ACCURACIES)):
        rows = [
            {"composition": name, "seed": seed, "items": 320, "accuracy": share + 0.05 * seed}
            for seed in range(seeds)
            for name, share in [
                ("r0", 0.2),
                *((f"{arm} r{n}", share) for arm in arms for n, share in enumerate(ACCURACIES[arm], 1)),
            ]
        ]
        file = tmp_path / "loop.json"
        file.write_text(json.dumps(rows))
        monkeypatch.setattr(turns_plot, "FIGURES", file)
        return turns_plot.measured()

    return write


def test_of_one_seed_the_interval_is_over_its_tasks(measured):
    turns = measured(1)
    first = turns.arms["learnable"][0]
    assert (first.value, first.n) == (0.2, 320)
    assert 0.155 < first.low < 0.2 < first.high < 0.25
    assert "One seed, with exact intervals of 95 % over its 320 tasks." in turns_plot.picture(turns)


def test_of_several_it_is_over_seeds(measured):
    turns = measured(3)
    last = turns.arms["learnable"][-1]
    assert last.value == pytest.approx(0.55)
    assert last.high - last.value == pytest.approx(4.303 * 0.05 / 3**0.5, rel=1e-3)
    assert "Means of 3 seeds" in turns_plot.picture(turns)


def test_the_band_reaches_from_the_least_to_the_best_control_whatever_other_arms_reach(measured):
    page = ElementTree.fromstring(turns_plot.picture(measured(1)))
    (band,) = page.iter(f"{SVG}polygon")
    heights = [float(corner.split(",")[1]) for corner in band.get("points").split()]
    span = turns_plot.BOTTOM - turns_plot.TOP  # from nothing to 70 %
    shares = [round(0.7 * (turns_plot.BOTTOM - height) / span, 2) for height in heights]
    assert shares == [0.2, 0.39, 0.45, 0.2, 0.2, 0.2]


@pytest.mark.parametrize("spread", [0.0, 0.2])
def test_an_interval_ends_where_shares_do(measured, spread):
    """Equal seeds show no spread, so they bound nothing; those of two that differ reach beyond all tasks."""
    measured(2)
    rows = json.loads(turns_plot.FIGURES.read_text())
    turns_plot.FIGURES.write_text(json.dumps([row | {"accuracy": 0.4 + spread * row["seed"]} for row in rows]))
    page = turns_plot.picture(turns_plot.measured())
    bars = re.findall(r'<path d="M[\d.]+ ([\d.-]+)V([\d.-]+)"', page)
    assert {tuple(map(float, bar)) for bar in bars} == {(turns_plot.BOTTOM, turns_plot.TOP)}
    assert "100 %" in page
    assert "110 %" not in page


def test_every_arm_is_named_at_its_end_and_no_two_labels_overlap(measured):
    page = turns_plot.picture(measured(1))
    heights = [float(y) for y in re.findall(rf'x="{turns_plot.RIGHT + 14}" y="([0-9.]+)"', page)]
    assert len(heights) == len(ACCURACIES) + 1
    assert all(below - above >= 17.9 for above, below in itertools.pairwise(heights))
    assert "50 % new tasks where it fails and solves" in page
    assert "20 % no new tasks: the first round again" in page


def test_an_arm_without_every_round_is_left_out(measured):
    assert [*measured(2, arms=("learnable", "uniform")).arms] == ["learnable", "uniform", "nothing"]
