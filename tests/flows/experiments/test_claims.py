"""Verdicts follow from intervals over seeds or rounds, and figures by seed from the trainings that a comparison has kept."""

import importlib.util
import json
import math
import statistics

import pytest
from scipy import stats

from flows.experiments import claims, results_table, trials
from flows.experiments.claims import Claim
from tests.flows.conftest import ROOT


def claim(*per_seed, **others):
    return Claim("c", "m", "k", "run", "found", "open", seeds=len(per_seed), per_seed=per_seed, **others)


@pytest.mark.parametrize(
    ("per_seed", "others", "verdict"),
    [
        ((-0.3, -0.2, -0.25), {}, "reproduced"),
        ((0.3, 0.2, 0.25), {}, "not reproduced"),
        ((-0.094, -0.266, -0.036), {}, "not decidable at this size"),  # all below 0, and yet the next seed may not be
        ((0.3, 0.2, 0.25), {"bound": 0.5}, "reproduced"),
        ((0.37, 0.37, 0.38), {"bound": 0.5, "side": "above"}, "not reproduced"),
        ((0.62, 0.61, 0.63), {"bound": 0.5, "side": "above"}, "reproduced"),
    ],
)
def test_a_verdict_asks_that_the_whole_interval_lie_on_one_side(per_seed, others, verdict):
    assert claim(*per_seed, **others).implied() == verdict


@pytest.mark.parametrize(
    ("per_round", "verdict"),
    [
        ((0.60, 0.62, 0.54, 0.57), "not reproduced"),
        ((0.40, 0.42, 0.44), "reproduced"),
        ((0.51, 0.52, 0.62), "not decidable at this size"),  # all above, and yet the next round may not be
    ],
)
def test_rounds_decide_as_seeds_do(per_round, verdict):
    found = Claim("c", "m", "k", "run", "found", "open", rounds=len(per_round), per_round=per_round, bound=0.5)
    assert found.implied() == verdict
    assert found.detectable() > 0


def test_without_figures_nothing_is_implied():
    assert claim().implied() is None
    assert claim().detectable() is None


def test_one_seed_decides_nothing_and_bounds_no_effect():
    assert claim(-5.0).implied() == "not decidable at this size"
    assert claim(-5.0).detectable() is None


def test_equal_figures_have_no_spread_to_judge_by():
    assert claim(-5.0, -5.0, -5.0).implied() == "not decidable at this size"
    assert claim(-5.0, -5.0, -5.0).detectable() is None


def test_an_effect_of_the_detectable_size_is_seen_four_times_in_five():
    seeds = (0.1, -0.2, 0.4, 0.0, 0.3)
    error = statistics.stdev(seeds) / math.sqrt(5)
    power = stats.nct.sf(stats.t.ppf(0.975, 4), 4, claim(*seeds).detectable() / error)
    assert power == pytest.approx(0.8, abs=1e-6)


def training(composition, seed, loss, *course):
    return {"composition": composition, "seed": seed, "rate": 1e-3, "loss": loss, "course": course}


KEPT = [
    training(None, 0, 4.0),
    training("one", 0, 2.0, (3.0, 1.0), (2.0, 1.2)),
    training("one", 1, 3.0, (3.0, 1.0), (2.0, 1.4)),
    training("two", 0, 1.5, (3.0, 1.0), (2.0, 1.1)),
    training("two", 1, 2.25, (3.0, 1.0), (2.0, 1.1)),
    training("two", 2, 1.0, (3.0, 1.0), (2.0, 1.1)),
]


@pytest.fixture
def take(monkeypatch, tmp_path):
    """docs/ledger.py, with a comparison that is kept and a claim that rests on it."""
    monkeypatch.setattr(trials, "FOLDER", tmp_path / "compare")
    monkeypatch.setattr(claims, "FOLDER", tmp_path)
    monkeypatch.setattr(claims, "DATA", tmp_path / "data")
    results_table.save_figures("ours", KEPT)
    source = {"comparison": "ours", "of": "two", "less": "one", "metric": "loss"}
    row = {
        "claim": "c",
        "metric": "m",
        "control": "k",
        "command": "run",
        "found": "",
        "verdict": "open",
        "source": source,
    }
    (tmp_path / "dora.json").write_text(json.dumps([row, row | {"source": source | {"comparison": "another"}}]))
    spec = importlib.util.spec_from_file_location("ledger", ROOT / "docs/ledger.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.main


def test_a_claim_is_given_the_figures_of_the_seeds_that_both_sides_have(take, tmp_path):
    take("ours", [])
    filled, other = claims.read("dora")
    assert (filled.per_seed, filled.seeds) == ((-0.5, -0.75), 2)
    assert filled.verdict == filled.implied() == "not decidable at this size"
    assert filled.per_seed == claims.figures_from_source(filled), "from the copy that is committed"
    assert (other.per_seed, other.verdict) == ((), "open")
    assert '"per_seed": [-0.5, -0.75]' in (tmp_path / "dora.json").read_text()


def test_figures_can_be_looked_at_first(take, capsys):
    take("ours", ["two", "one", "matched"])
    assert capsys.readouterr().out == "-0.1, -0.3\n"
    assert not claims.DATA.exists()


@pytest.mark.parametrize(
    ("name", "sides", "message"),
    [
        ("theirs", [], r"theirs.*is not there: `ratchet compare theirs`"),
        ("ours", ["two", "three", "loss"], r"No seed has loss of both two and three\. There are .*one: rate, loss"),
        ("ours", ["two", "one", "pass@1"], r"No seed has pass@1 of both"),
    ],
)
def test_what_is_not_there_is_named(take, name, sides, message):
    with pytest.raises(ValueError, match=message):
        take(name, sides)


def test_a_comparison_that_no_claim_rests_on_is_refused_before_anything_is_written(take):
    results_table.save_figures("idle", KEPT)
    with pytest.raises(ValueError, match="No claim has a `source` of comparison"):
        take("idle", [])
    assert not claims.DATA.exists()
