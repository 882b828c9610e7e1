"""The table of a comparison: losses by seed, what diverged, forgetting, and the figures that are kept."""

import json
import math

import polars as pl
import pytest

from flows.experiments import results_rendering, results_table
from flows.experiments.recipes import Trial
from tests.flows.experiments.test_comparison import course


def result(folder, seed, name, loss):
    """A measured trial whose two test items have this loss, give or take 0.5."""
    (folder / f"{name}{seed}").mkdir()
    rows = [
        {"measure": measure, "item": item, "value": 10 * (loss + off), "tokens": 10, "group": item}
        for measure in ("domain", "general")
        for item, off in (("a", -0.5), ("b", 0.5))
    ]
    rows += [
        {"measure": "pass@1", "item": item, "value": float(seed == 0), "tokens": 1, "group": item}
        for item in ("c", "d")
    ]
    pl.DataFrame(rows).write_parquet(folder / f"{name}{seed}" / "results.parquet")
    return {
        "folder": str(folder / f"{name}{seed}"),
        "metrics": {"domain": {"loss": loss}, "settings": {"sandbox": 2}}
        | (
            {"answers": {"unit_tests score": {"all": {"value": loss / 10}}, "judge score": {"not_run": "no server"}}}
            if name == "lora"
            else {}
        ),
        "measured": {},
        "trainable": 10,
        "active": 10,
        "peak_memory_mb": 1.0,
        "tokens_per_s": 1.0,
        "bytes": 1,
    }


def test_the_difference_to_the_first_is_paired_by_seed_and_its_interval_is_over_seeds(recipe, tmp_path):
    results = {Trial(None, 0.0, 0, True): result(tmp_path, 0, "base", 4.0)}
    for name, losses in {"lora": (2.0, 3.0), "full": (2.1, 3.3)}.items():
        results |= {Trial(name, 1e-3, s, True): result(tmp_path, s, name, loss) for s, loss in enumerate(losses)}
    first, other = results_table.rows(recipe, {"lora": 1e-3, "full": 1e-3}, results)
    assert first.against_first is None
    # Differences 0.1 and 0.3: mean 0.2, standard error 0.1, and Student's t of one degree of freedom is 12.706.
    assert other.against_first.value == pytest.approx(0.2)
    assert other.against_first.low == pytest.approx(0.2 - 1.2706, abs=1e-3)
    # All items moved alike: the bootstrap over them sees no spread at all, whatever the seeds did.
    assert (other.on_items.low, other.on_items.high) == (pytest.approx(0.2), pytest.approx(0.2))
    assert other.passed.value == 0.5, "the first seed passes everything, the other nothing"


def test_without_general_texts_forgetting_is_not_known_and_the_rest_is(recipe, tmp_path):
    results = {Trial(None, 0.0, 0, True): result(tmp_path, 0, "base", 4.0)}
    for name, loss in {"lora": 2.0, "full": 3.0}.items():
        results |= {Trial(name, 1e-3, seed, True): result(tmp_path, seed, name, loss) for seed in recipe.seeds}
    for file in tmp_path.glob("*/results.parquet"):
        pl.read_parquet(file).filter(pl.col("measure") != "general").write_parquet(file)
    rows = results_table.rows(recipe, {"lora": 1e-3, "full": 1e-3}, results)
    assert [row.forgetting for row in rows] == [None, None]
    assert results_table.pareto(rows) == {"lora"}
    assert results_table.base_losses(results, "tune").keys() == {"domain"}
    assert "| — | — | — | — |" in results_rendering.table(rows)


def of_two(folder, recipe, losses):
    """The results of a comparison: composition → domain loss by seed."""
    results = {Trial(None, 0.0, 0, True): result(folder, 0, "base", 4.0)}
    for name, by_seed in losses.items():
        results |= {Trial(name, 1e-3, s, True): result(folder, s, name, loss) for s, loss in enumerate(by_seed)}
    return results


BEST = {"lora": 1e-3, "full": 1e-3}


def test_a_training_that_diverged_is_shown_and_the_others_are_compared(recipe, tmp_path):
    results = of_two(tmp_path, recipe, {"lora": (2.0, 3.0), "full": (2.1, math.nan)})
    first, other = rows = results_table.rows(recipe, BEST, results)
    assert (first.losses, other.losses) == ([2.0, 3.0], [2.1, None])
    assert (first.domain.value, other.domain.value) == (pytest.approx(2.5), pytest.approx(2.1))
    differences = [other.against_first.value, other.on_items.value]
    assert differences == [pytest.approx(0.1)] * 2, "of the seed that both have"
    assert "| 2.100, diverged |" in results_rendering.table(rows)
    diverged = results_table.diverged(recipe, BEST, results)
    (told,) = results_rendering.diverged_lines(diverged, BEST)
    assert told.startswith("full: diverged at learning rate 0.001 with seed 1.")


def test_a_composition_that_always_diverged_has_no_row(recipe, tmp_path):
    results = of_two(tmp_path, recipe, {"lora": (math.nan, math.nan), "full": (2.1, 2.3)})
    (row,) = results_table.rows(recipe, BEST, results)
    assert (row.name, row.against_first, row.on_items, row.matched) == ("full", None, None, None)
    (told,) = results_rendering.diverged_lines(results_table.diverged(recipe, BEST, results), BEST)
    assert told.startswith("lora: diverged at learning rate 0.001 with seed 0, 1.")


def test_a_comparison_of_which_all_diverged_is_refused(recipe, tmp_path):
    nothing = (math.nan, math.nan)
    with pytest.raises(ValueError, match=r"Every training that was measured diverged\. Try smaller"):
        results_table.rows(recipe, BEST, of_two(tmp_path, recipe, {"lora": nothing, "full": nothing}))


def test_figures_of_what_diverged_are_left_out_and_missed_by_seed(recipe, tmp_path):
    results = of_two(tmp_path, recipe, {"lora": (2.0, 3.0), "full": (2.1, math.nan)})
    results[Trial("full", 1e-3, 1, True)] |= course((3.0, 1.0), (math.nan, math.nan)) | {"validation": math.nan}
    figures = results_table.figures(recipe, results)
    assert figures[-1] == {"composition": "full", "seed": 1, "rate": 1e-3, "pass@1": 0.0}
    with pytest.raises(ValueError, match="Seed 1 has not loss of both full and lora"):
        results_table.differences_by_seed(figures, "full", "lora", "loss")


def test_every_trainings_figures_are_kept_a_line_each(recipe, tmp_path):
    results = {
        Trial("lora", 1e-3, 0, False): {"validation": 1.0},
        Trial(None, 0.0, 0, True): result(tmp_path, 0, "base", 4.0),
    }
    for seed, loss in enumerate((2.0, 3.0)):
        results[Trial("lora", 1e-3, seed, True)] = result(tmp_path, seed, "lora", loss) | {"validation": loss + 0.5}
    file = results_table.save_figures("one", results_table.figures(recipe, results)) / results_table.FIGURES
    assert json.loads(file.read_text()) == [
        {"composition": None, "seed": 0, "rate": 0.0, "loss": 4.0, "general": 4.0, "pass@1": 1.0},
        {
            "composition": "lora",
            "seed": 0,
            "rate": 1e-3,
            "loss": 2.0,
            "general": 2.0,
            "pass@1": 1.0,
            "unit_tests score": 0.2,
            "validation": 2.5,
        },
        {
            "composition": "lora",
            "seed": 1,
            "rate": 1e-3,
            "loss": 3.0,
            "general": 3.0,
            "pass@1": 0.0,
            "unit_tests score": 0.3,
            "validation": 3.5,
        },
    ]
    assert len(file.read_text().splitlines()) == 2 + 3
