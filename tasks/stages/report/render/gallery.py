"""Put charts on the page: one figure element for each, and all specifications in one element that the page's script reads."""

import json
from typing import Any

from markupsafe import Markup

from tasks.stages.report.render.grammar import CONFIG, Chart, Spec

FIGURE = Markup('<figure class="chart" data-chart="{}"><div class="plot" style="min-height: {}px">{}</div></figure>')
MISSING = "This chart needs the page's script: "


class Gallery:
    """The charts of one page, in the order in which they were placed."""

    def __init__(self) -> None:
        self._specs: list[Spec] = []

    def figure(self, chart: Chart) -> Markup:
        """Return the figure element of a chart."""
        self._specs.append(chart.spec)
        return FIGURE.format(len(self._specs) - 1, chart.spec["height"], MISSING + chart.title)

    def data(self) -> Markup:
        """Return the element with the specifications of all charts placed so far."""
        return json_element("charts", {"config": CONFIG, "charts": self._specs})


def json_element(name: str, value: Any) -> Markup:
    """Return an element with data as JSON. No character of the data can end the element."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup('<script type="application/json" id="{}">{}</script>').format(name, Markup(text))
