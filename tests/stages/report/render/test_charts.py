"""Charts are well-formed, to scale, and safe with any name."""

import math
from xml.etree import ElementTree

import pytest

from tasks.core.statistics import Estimate
from tasks.stages.report.data.forgetting import LossChange
from tasks.stages.report.render import charts, svg
from tasks.stages.report.render.charts import Effect, LossCurve

HOSTILE = '"><script>alert(1)</script>'


def effect(value: float, low: float, high: float, **extra) -> Effect:
    return Effect("domain loss", Estimate(value, low, high, 9), "nats/token", "good", **extra)


def shapes(svg: str, tag: str) -> list[ElementTree.Element]:
    return list(ElementTree.fromstring(svg).iter(tag))


def test_a_forest_plot_puts_points_on_one_scale_with_zero_and_margin():
    svg = charts.forest_plot(
        [effect(-0.2, -0.3, -0.1), effect(0.02, 0.0, 0.04, margin=0.05)], "title", ("better", "worse")
    )
    places = [float(circle.get("cx")) for circle in shapes(svg, "circle")]
    lines = {line.get("class"): float(line.get("x1")) for line in shapes(svg, "line")}
    assert places[0] < lines["zero"] < places[1] < lines["margin"]
    per_unit = (lines["margin"] - lines["zero"]) / 0.05
    assert places[1] - lines["zero"] == pytest.approx(0.02 * per_unit, abs=0.2)


def test_an_interval_without_bounds_spans_the_plot_and_says_so():
    svg = charts.forest_plot([effect(-0.2, -math.inf, math.inf)], "title", ("better", "worse"))
    interval = next(line for line in shapes(svg, "line") if "interval" in line.get("class"))
    assert (float(interval.get("x1")), float(interval.get("x2"))) == (charts.PLOT_START, charts.PLOT_END)
    assert "no interval" in svg


def test_bars_are_as_long_as_their_shares():
    rows = [("all", {"base": Estimate(0.2, 0.1, 0.3, 20), "r0": Estimate(0.4, 0.3, 0.5, 20)})]
    short, long = (float(bar.get("width")) for bar in shapes(charts.bar_chart(rows, "title"), "rect"))
    assert long == pytest.approx(2 * short, abs=0.2)


def test_bars_of_nothing_passed_still_have_a_scale():
    rows = [("all", {"base": Estimate(0, 0, 0.04, 90), "r0": Estimate(0, 0, 0.04, 90)})]
    assert [bar.get("width") for bar in shapes(charts.bar_chart(rows, "title"), "rect")] == ["0.0", "0.0"]


def test_a_long_course_is_thinned_and_a_short_one_is_not():
    course = LossCurve("r0", [(float(step), 2.0) for step in range(5_000)], [(0, 2.0), (5_000, 1.0)])
    step, mean, valid = shapes(charts.loss_curves([course], "title"), "polyline")
    assert len(step.get("points").split()) == len(mean.get("points").split()) <= 300
    assert len(valid.get("points").split()) == 2
    few = charts.loss_curves([LossCurve("r0", [(1, 2.0), (2, 1.0)], [])], "title")
    assert len(shapes(few, "polyline")[0].get("points").split()) == 2


def test_a_course_without_points_is_an_empty_chart():
    assert not shapes(charts.loss_curves([LossCurve("r0", [], [])], "title"), "circle")


def test_paths_start_where_nothing_changed_and_go_down_by_gain_and_right_by_forgetting():
    traces = {
        "r0": [],
        "pretrained": [LossChange(0, 0.0, 0.0), LossChange(100, -0.2, -0.01), LossChange(200, -0.5, 0.04)],
    }
    svg = charts.forgetting_paths(traces, 0.05, "title")
    zeros = [line for line in shapes(svg, "line") if line.get("class") == "zero"]
    (upright,) = {float(line.get("x1")) for line in zeros if line.get("x1") == line.get("x2")}
    (level,) = {float(line.get("y1")) for line in zeros if line.get("y1") == line.get("y2")}
    start, middle, end = ((float(c.get("cx")), float(c.get("cy"))) for c in shapes(svg, "circle"))
    assert start == (upright, level)
    assert middle[0] < upright < end[0]
    assert level < middle[1] < end[1]
    assert (end[1] - level) / (middle[1] - level) == pytest.approx(2.5, abs=0.01)
    assert (end[0] - upright) / (upright - middle[0]) == pytest.approx(4, abs=0.02)
    (margin,) = (float(line.get("x1")) for line in shapes(svg, "line") if line.get("class") == "margin")
    assert (margin - upright) / (end[0] - upright) == pytest.approx(1.25, abs=0.01)
    tips = [circle.find("title").text for circle in shapes(svg, "circle")]
    assert tips[2] == "pretrained after 200 tokens: domain loss −0.500, general loss +0.040"
    assert {circle.get("class") for circle in shapes(svg, "circle")} == {charts.colour(2)}, (
        "the second model's everywhere"
    )
    (frame,) = shapes(svg, "svg")
    assert (frame.get("role"), frame.get("aria-label")) == ("img", "title")


def test_a_path_that_has_only_begun_is_a_point():
    assert len(shapes(charts.forgetting_paths({"r0": [LossChange(0, 0.0, 0.0)]}, 0.05, "title"), "circle")) == 1


def test_ticks_are_round_and_enclose_the_data():
    for low, high in [(0.813, 1.297), (0, 79_872), (-0.24, 0.07), (1.5, 1.5), (0, 0.004)]:
        ticks = svg.ticks(low, high)
        assert ticks[0] <= low + 1e-9
        assert high - 1e-9 <= ticks[-1]
        assert 2 <= len(ticks) <= 8


def test_names_cannot_leave_their_place():
    hostile = Effect(HOSTILE, Estimate(0, -1, 1, 9), "nats/token", "open")
    drawn = [
        charts.forest_plot([hostile], HOSTILE, (HOSTILE, HOSTILE)),
        charts.bar_chart([(HOSTILE, {HOSTILE: Estimate(0.5, 0.1, 0.9, 9)})], HOSTILE),
        charts.loss_curves([LossCurve(HOSTILE, [(1, 2.0)], [(1, 2.0)])], HOSTILE),
        charts.forgetting_paths({HOSTILE: [LossChange(1, 0.1, 0.1)]}, 0.05, HOSTILE),
    ]
    for drawing in drawn:
        assert "<script" not in drawing
        ElementTree.fromstring(drawing)
