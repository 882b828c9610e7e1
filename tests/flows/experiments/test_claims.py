"""Verdicts follow from intervals over seeds or rounds, and figures by seed from the trainings that a comparison has kept."""

import importlib.util
import json
import math
import statistics

import pytest
from scipy import stats

from flows.experiments import claims, ledger, results_table, trial_store
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
    assert claim(-0.78, -0.78, -0.78).implied() == "not decidable at this size"  # whose mean is another number


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
    monkeypatch.setattr(trial_store, "FOLDER", tmp_path / "compare")
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


def test_seeds_of_the_same_settings_add_up_and_others_are_replaced(take):
    def kept(seed, settings):
        return [
            training(name, seed, loss) | {"settings": settings} for name, loss in (("one", 2.0), ("two", 1.0 + seed))
        ]

    for rows in (kept(0, "a"), kept(1, "a"), kept(1, "a")):
        results_table.save_figures("ours", rows)
        take("ours", [])
    assert claims.read("dora")[0].per_seed == (-1.0, 0.0)
    results_table.save_figures("ours", kept(2, "b"))
    take("ours", [])
    assert claims.read("dora")[0].per_seed == (1.0,)


def test_arms_that_ran_before_stay_where_all_depend_on_the_same(take):
    results_table.save_figures(
        "ours", [training("one", 0, 2.0) | {"settings": "a"}, training("one", 1, 2.5) | {"settings": "a"}]
    )
    with pytest.raises(ValueError, match="No seed has loss"):
        take("ours", ["two", "one", "loss"])
    take("ours", [])
    results_table.save_figures("ours", [training("two", seed, 1.0) | {"settings": "a-b2"} for seed in (0, 1)])
    take("ours", [])
    assert claims.read("dora")[0].per_seed == (-1.0, -1.5)
    results_table.save_figures("ours", [training("two", 0, 1.0) | {"settings": "ab-b2"}])
    take("ours", [])
    assert {row["composition"] for row in json.loads((claims.DATA / "ours.json").read_text())} == {"two"}


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


# --- the ledger as a whole ------------------------------------------------------------------------------------------------


def test_seeds_that_were_added_after_a_look_make_the_interval_wider():
    seeds = (-0.3, 0.05, -0.25, -0.2, -0.1, -0.28)
    fixed, looked = claim(*seeds), claim(*seeds, looks=(3,))
    assert (fixed.implied(), looked.implied()) == ("reproduced", "not decidable at this size")
    assert looked.interval().high > fixed.interval().high
    assert looked.p_value() > fixed.p_value() == pytest.approx(stats.ttest_1samp(seeds, 0).pvalue)


def test_the_power_is_that_of_the_interval_that_is_shown():
    seeds = (-0.3, 0.05, -0.25, -0.2, -0.1, -0.28)
    fixed, looked = claim(*seeds), claim(*seeds, looks=(3,))
    for one in (fixed, looked):  # a difference as small as half the interval would be seen half of the time only
        assert one.detectable() > one.interval().high - one.interval().value
    assert looked.detectable() > fixed.detectable()
    assert claim(*seeds[:4], looks=(2,)).detectable() == math.inf


def test_figures_without_trainings_say_why():
    silent = [e.name for e in ledger.entries() if e.claim.per_seed and not e.of_trainings and not e.claim.typed]
    assert not silent


def row(text, *per_seed, of=None, less=None, metric="loss"):
    """A row of the ledger: taken from trainings, or typed."""
    base = {"claim": text, "metric": "m", "control": "k", "command": f"run {text}", "found": "f", "verdict": "open"}
    source = {"source": {"comparison": "kept", "of": of, "less": less, "metric": metric}} if of else {}
    return base | source | {"seeds": len(per_seed), "per_seed": per_seed}


ARMS = {"a": (1.0, 1.5, 1.25), "b": (0.5, 0.75, 0.5), "c": (0.25, 0.5, 0.375), "d": (2.0, 2.0, 3.0)}


@pytest.fixture
def rows(monkeypatch, tmp_path):
    """Write a ledger of these rows beside trainings of four arms, and return its entries."""
    monkeypatch.setattr(claims, "FOLDER", tmp_path)
    monkeypatch.setattr(claims, "DATA", tmp_path / "data")
    (tmp_path / "data").mkdir()
    trainings = [
        {"composition": arm, "seed": seed, "loss": loss}
        for arm, seeds in ARMS.items()
        for seed, loss in enumerate(seeds)
    ]
    (tmp_path / "data/kept.json").write_text(json.dumps(trainings))

    def entries(*written):
        (tmp_path / "dora.json").write_text(json.dumps(written))
        return ledger.entries()

    return entries


def test_a_typed_row_is_recognised_by_its_figures(rows):
    more, other, few = rows(
        row("more seeds than were kept", -0.5, -0.75, -0.75, -0.1), row("others", -0.5, 0.75, 0.1), row("one", -0.5)
    )
    assert (more.of_trainings.of, more.of_trainings.less, more.of_trainings.metric) == ("b", "a", "loss")
    assert other.of_trainings is few.of_trainings is None


def test_a_row_names_those_before_it_that_have_figures_of_the_same_trainings(rows):
    typed, second, third = rows(
        row("typed", -0.5, -0.75, -0.75),
        row("with an arm of it", 1.5, 1.25, 2.5, of="d", less="b"),
        row("with none", -1.75, -1.5, -2.625, of="c", less="d"),
    )
    assert (typed.shares, second.shares, third.shares) == ((), ("dora 1",), ("dora 2",))
    assert not any(entry.follows_from for entry in (typed, second, third))


def test_trainings_are_known_in_another_comparison_by_their_figures_and_of_a_study_by_arm_and_seed(rows, tmp_path):
    again = [
        {"composition": "again", "seed": seed, "loss": loss, "general": 2.0} for seed, loss in enumerate(ARMS["a"])
    ]
    others = [
        {"composition": name, "seed": seed, "loss": 9.0 + seed, "general": 1.0} for seed in (0, 1) for name in "ae"
    ]
    known = [
        {"composition": "of kept", "seed": seed, "loss": loss, "general": 2.0} for seed, loss in enumerate(ARMS["a"])
    ]
    for name, trainings in {"one": again + others, "two": known + others, "three": others}.items():
        (tmp_path / f"data/{name}.json").write_text(json.dumps(trainings))

    def of(comparison, of, less, command):
        source = {"comparison": comparison, "of": of, "less": less, "metric": "loss"}
        return row(comparison) | {"source": source, "seeds": 2, "per_seed": (0.1, 0.2), "command": command}

    _, same_figures, other_arm, retrained, elsewhere = rows(
        of("one", "again", "e", "run 0 1 --arms again e"),
        of("two", "of kept", "a", "walk 0 1"),
        of("kept", "b", "c", "run 0 1 --arms b"),
        of("three", "e", "a", "run 0 1 2"),
        of("kept", "b", "d", "go 0 1"),
    )
    assert (same_figures.shares, other_arm.shares) == (("dora 1",), ())
    assert retrained.shares == ("dora 1", "dora 2")
    assert elsewhere.shares == ("dora 3",)


def test_typed_rows_of_one_command_rest_on_the_same_trainings(rows):
    first, second, other = (row(name, 0.5, 0.7) for name in ("first", "second", "other"))
    entries = rows(first, second | {"command": first["command"]}, other)
    assert [entry.shares for entry in entries] == [(), ("dora 1",), ()]


def test_a_row_that_follows_by_arithmetic_names_what_it_follows_from(rows):
    *_, last, unrelated = rows(
        row("typed", -0.5, -0.75, -0.75),
        row("c less b", -0.25, -0.25, -0.125, of="c", less="b"),
        row("c less a", -0.75, -1.0, -0.875, of="c", less="a"),
        row("d less a", 1.0, 0.5, 1.75, of="d", less="a"),
    )
    assert last.follows_from == ("dora 2", "dora 1")
    assert unrelated.follows_from == ()


def test_decided_rows_are_counted_with_what_each_correction_leaves(rows):
    sure, doubtful = (-0.5, -0.52, -0.51, -0.505), (-0.5, -0.1, -0.4, -0.3)
    written = [row("sure", *sure) | {"verdict": "reproduced"}]
    written += [row(f"doubtful {number}", *doubtful) | {"verdict": "reproduced"} for number in range(3)]
    written += [row(f"nothing {number}", 0.5, -0.5, 0.1) for number in range(20)]
    entries = rows(*written, row("no figures"))
    assert ledger.kept_by(entries) == {"rows": 24, "decided": 4, "benjamini_hochberg": 1, "holm": 1}
    p_values = [entry.p for entry in entries if entry.p is not None]
    assert [entry.benjamini_hochberg for entry in entries[:24]] == pytest.approx(
        stats.false_discovery_control(p_values)
    )
    assert entries[24].p is entries[24].holm is None


def test_what_was_published_before_is_told_of_the_rows_of_fait():
    """Five repeat trainings whose figures had been published, two follow from those; see their `changed`."""
    entries = {entry.number: entry for entry in ledger.entries() if entry.method == "fait"}
    repeated = [
        number for number in range(23, 30) if set(entries[number].shares) & {f"fait {n}" for n in (1, 2, 3, 4, 9, 10)}
    ]
    assert repeated == list(range(23, 30))
    assert entries[25].follows_from == ("fait 4", "fait 3", "fait 1")
    assert entries[29].follows_from == ("fait 10", "fait 9")
