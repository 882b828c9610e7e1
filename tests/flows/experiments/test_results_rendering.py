"""A comparison's table and plot show each composition with its figures, and intervals where there are any."""

import itertools
import math
import re
from dataclasses import replace

from flows.experiments import results_rendering, results_table
from flows.experiments.results_table import Row
from tasks.core.statistics import Estimate


def line(name, domain, forgetting, **others):
    """A row of the table with these figures."""
    loss, kept = (Estimate(value, value - 0.1, value + 0.1, 8) for value in (domain, forgetting))
    row = Row(
        name, 1e-3, [domain], loss, loss, None, None, kept, None, None, None, 10, 10, [100.0, 140.0, 90.0], [50.0], 2**20
    )  # fmt: skip
    return replace(row, **others)


def test_what_takes_turns_is_told_by_how_much_moves_at_once():
    text = results_rendering.table(
        [line("full", 1.0, 0.2, trainable=1000, active=1000), line("lisa", 1.2, 0.1, trainable=1000, active=300)]
    )
    assert "| 1,000 |" in text
    assert "| 1,000 (300 at once) |" in text


def test_memory_and_speed_are_told_with_their_range_over_seeds():
    assert "| 100 (90 to 140) | 50.0 (50.0 to 50.0) |" in results_rendering.table([line("a", 1.0, 0.2)])


def test_one_seed_has_no_interval_over_seeds():
    text = results_rendering.table([line("a", 1.0, 0.2, against_first=Estimate(-0.2, -math.inf, math.inf, 1))])
    assert "| −0.200 [no interval] |" in text
    assert "inf" not in text


def test_the_table_keeps_the_interval_over_seeds_and_the_one_over_items_apart():
    apart = {"against_first": Estimate(0.2, -0.1, 0.5, 2), "on_items": Estimate(0.2, 0.15, 0.25, 8)}
    text = results_rendering.table([line("a", 1.0, 0.2), line("b", 1.2, 0.1, **apart)])
    assert "| against the first, over seeds | over items |" in text
    assert "| +0.200 [−0.100, +0.500] | +0.200 [+0.150, +0.250] |" in text


def test_only_what_no_other_beats_in_both_is_on_the_front():
    rows = [line("a", 1.0, 0.2), line("b", 1.2, 0.1), line("c", 1.1, 0.3)]
    assert results_table.pareto(rows) == {"a", "b"}
    text = results_rendering.table(rows)
    assert "| a * | 0.001 | 1.000 [0.900, 1.100] |" in text
    assert "| c | 0.001 |" in text


def test_the_plot_shows_every_composition_with_its_figures():
    svg = results_rendering.plot([line("a", 1.0, 0.2), line("b", 1.2, -0.1)])
    assert svg.count("<circle") == 2
    assert "b (+1.200, −0.100)" in svg


def test_the_plot_is_well_formed_whatever_a_composition_is_called():
    assert "a &amp; &lt;b&gt; (" in results_rendering.plot([line("a & <b>", 1.0, 0.2)])


def test_a_plot_of_an_earlier_comparison_does_not_stay_beside_a_table_without_forgetting(tmp_path):
    rows = [line("a", 1.0, 0.2), line("b", 1.2, 0.1)]
    assert results_rendering.save_plot(rows, tmp_path / "pareto.svg")
    assert (tmp_path / "pareto.svg").read_text() == results_rendering.plot(rows)
    assert not results_rendering.save_plot([rows[0], replace(rows[1], forgetting=None)], tmp_path / "pareto.svg")
    assert not any(tmp_path.iterdir())


def test_compositions_that_come_out_alike_have_labels_that_can_be_told_apart():
    svg = results_rendering.plot([line(name, 1.0 + 0.001 * number, 0.2) for number, name in enumerate("abcdef")])
    heights = sorted(float(y) for y in re.findall(r'y="([0-9.]+)">[a-f] \(', svg))
    assert len(heights) == 6
    assert min(below - above for above, below in itertools.pairwise(heights)) >= 14


def test_pass_at_1_stands_in_the_table_and_in_the_plot_where_it_was_measured():
    rows = [line("a", 1.0, 0.2, passed=Estimate(0.25, 0.1, 0.4, 8), sandbox=2), line("b", 1.2, 0.1)]
    assert "| 25.0 [10.0, 40.0] % |" in results_rendering.table(rows)
    assert "| pass@1 (sandbox level 2) |" in results_rendering.table(rows)
    assert "| pass@1 |" in results_rendering.table(rows[1:])
    svg = results_rendering.plot(rows)
    assert "a (+1.000, +0.200, pass@1 25.0 [10.0, 40.0] %)" in svg
    assert "b (+1.200, +0.100)" in svg
