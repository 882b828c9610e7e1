"""Charts say in Vega-Lite's grammar what the figures are, and hold JSON alone."""

import json
import math

import pytest

from tasks.core.statistics import Estimate
from tasks.stages.report.data.forgetting import LossChange
from tasks.stages.report.render import charts
from tasks.stages.report.render.charts import Curve, Effect, Forgetting, Size
from tasks.stages.report.render.gallery import Gallery, json_element
from tasks.stages.report.render.grammar import Chart, colour_number

HOSTILE = '</script><script>alert(1)</script>"><img onerror=alert(1)>'


def effect(value: float, low: float, high: float, **extra) -> Effect:
    return Effect("domain loss", Estimate(value, low, high, 9), "nats/token", "good", **extra)


def layers(chart: Chart, mark: str) -> list[list[dict]]:
    """Return the data of the layers with this mark."""
    return [one["data"]["values"] for one in chart.spec["layer"] if one["mark"]["type"] == mark]


def test_a_forest_plot_has_each_difference_with_its_interval_zero_and_margin():
    chart = charts.forest_plot(
        [effect(-0.2, -0.3, -0.1), effect(0.02, 0.0, 0.04, margin=0.05)], "title", ("better", "worse")
    )
    (points,) = layers(chart, "point")
    assert [row["value"] for row in points] == [-0.2, 0.02]
    zero, intervals = layers(chart, "rule")
    assert zero == [{"at": 0}]
    assert [(row["low"], row["high"]) for row in intervals] == [(-0.3, -0.1), (0.0, 0.04)]
    assert [row["at"] for row in layers(chart, "tick")[0]] == [0.05]
    assert points[0]["tip"] == "domain loss: −0.200 [−0.300, −0.100]"
    x = next(one for one in chart.spec["layer"] if one["mark"]["type"] == "point")["encoding"]["x"]
    assert x["axis"]["title"].split() == ["←", "better", "worse", "→"]


def test_an_undecided_difference_is_hollow():
    chart = charts.forest_plot([effect(0.0, -1, 1)], "title", ("better", "worse"))
    fill = next(one for one in chart.spec["layer"] if one["mark"]["type"] == "point")["encoding"]["fill"]
    assert fill["condition"] == {"test": "datum.tone === 'open'", "value": "var(--ground)"}


def test_an_interval_without_bounds_is_not_drawn_and_says_so():
    chart = charts.forest_plot([effect(-0.2, -math.inf, math.inf)], "title", ("better", "worse"))
    assert layers(chart, "rule") == [[{"at": 0}]]
    ((point,),) = layers(chart, "point")
    assert "no interval" in point["tip"]
    json.dumps(chart.spec, allow_nan=False)


def test_a_difference_that_is_no_number_is_no_point():
    chart = charts.forest_plot([effect(math.nan, math.nan, math.nan)], "title", ("better", "worse"))
    assert layers(chart, "point") == []
    json.dumps(chart.spec, allow_nan=False)


def test_bars_have_their_shares_and_start_at_nothing():
    rows = [("all", {"base": Estimate(0.2, 0.1, 0.3, 20), "r0": Estimate(0, 0, 0.04, 90)})]
    chart = charts.bar_chart(rows, "title")
    assert [(row["model"], row["value"]) for row in layers(chart, "bar")[0]] == [("base", 0.2), ("r0", 0)]
    assert chart.spec["layer"][0]["encoding"]["x"]["scale"] == {"domainMin": 0}


def test_a_long_course_is_thinned_and_a_short_one_is_not():
    course = Curve("r0", [(float(step), 2.0) for step in range(5_000)], [(0, 2.0), (5_000, 1.0)])
    step, mean, valid = layers(charts.curves([course], "title", "loss"), "line")
    assert len(step) == len(mean) <= charts.MOST_POINTS
    assert len(valid) == 2
    few = charts.curves([Curve("r0", [(1, 2.0), (2, 1.0)])], "title", "loss")
    assert len(layers(few, "line")[0]) == 2


def test_curves_can_be_zoomed_and_answer_to_the_mouse():
    chart = charts.curves([Curve("r0", [(1, 2.0)], [(1, 2.0)])], "title", "loss")
    assert chart.spec["layer"][0]["params"][0]["bind"] == "scales"
    assert [row["tip"] for row in layers(chart, "point")[1]] == ["r0, held out: 2 after 1 tokens"]


def test_paths_have_every_checkpoint_the_zero_lines_and_the_margin():
    traces = {
        "r0": [],
        "pretrained": [LossChange(0, 0.0, 0.0), LossChange(100, -0.2, -0.01), LossChange(200, -0.5, 0.04)],
    }
    chart = charts.forgetting_paths(traces, 0.05, "title")
    (points,) = layers(chart, "point")
    assert [(row["x"], row["y"]) for row in points] == [(0.0, 0.0), (-0.01, -0.2), (0.04, -0.5)]
    assert layers(chart, "rule") == [[{"at": 0}], [{"at": 0}], [{"at": 0.05}]]
    assert points[2]["tip"] == "pretrained after 200 tokens: domain loss −0.500, general loss +0.040"
    scale = chart.spec["layer"][0]["encoding"]["color"]["scale"]
    assert dict(zip(scale["domain"], scale["range"], strict=True))["pretrained"] == "var(--model-2)", "as everywhere"
    assert chart.spec["description"] == "title"


def test_ends_have_the_intervals_that_exist_and_the_lines_of_paths():
    ends = [
        Forgetting("r0", Estimate(-0.5, -0.6, -0.4, 9), Estimate(0.04, 0.01, 0.07, 9)),
        Forgetting("r1", Estimate(-0.2, -0.3, -0.1, 9), Estimate(0.0, -math.inf, math.inf, 1)),
    ]
    chart = charts.forgetting_ends(ends, 0.05, "title", "domain text loss")
    (points,) = layers(chart, "point")
    assert [(row["model"], row["x"], row["y"]) for row in points] == [("r0", 0.04, -0.5), ("r1", 0.0, -0.2)]
    across, up, *lines = layers(chart, "rule")
    assert [(row["left"], row["right"]) for row in across] == [(0.01, 0.07)]
    assert [(row["bottom"], row["top"]) for row in up] == [(-0.6, -0.4), (-0.3, -0.1)]
    assert lines == [[{"at": 0}], [{"at": 0}], [{"at": 0.05}]]
    assert points[1]["tip"] == "r1: domain text loss −0.200 [−0.300, −0.100], general loss 0.000 [no interval]"
    json.dumps(chart.spec, allow_nan=False)


def test_sizes_stand_beside_losses():
    sizes = [Size("base", 4.0, Estimate(2.0, 1.9, 2.1, 9)), Size("small", 1.0, Estimate(2.1, 2.0, math.inf, 9))]
    ((base, small),) = layers(charts.size_chart(sizes, "title", "domain loss"), "point")
    assert (base["x"], base["y"], small["x"], small["high"]) == (4.0, 2.0, 1.0, None)


def test_the_reference_is_grey_and_five_colours_take_turns():
    assert [colour_number(index) for index in range(8)] == [0, 1, 2, 3, 4, 5, 1, 2]


@pytest.mark.parametrize("text", [HOSTILE, "a & b", "line\u2028end", "<!--"])
def test_no_text_leaves_the_element_of_the_charts(text):
    gallery = Gallery()
    place = gallery.figure(charts.forest_plot([Effect(text, Estimate(0, -1, 1, 9), "x", "open")], text, (text, text)))
    assert "<script" not in place
    assert "<img" not in place
    element = str(gallery.data())
    assert element.count("<") == 2
    held = json.loads(element[element.index(">") + 1 : element.rindex("<")])
    assert held["charts"][0]["description"] == text
    assert "\u2028" not in str(json_element("name", text))
