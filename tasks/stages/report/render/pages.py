"""Render the HTML page and the model card from their templates."""

import re
from collections.abc import Mapping

from jinja2 import Environment, PackageLoader, StrictUndefined

from tasks.core.text.sensitive import search
from tasks.core.text.visible import visible
from tasks.stages.report import number_format
from tasks.stages.report.data import fault_pairs
from tasks.stages.report.data.loop import ORIGINS, SETS
from tasks.stages.report.data.report_data import ReportData
from tasks.stages.report.render.charts import colour
from tasks.stages.report.render.loop_charts import origin_chart, set_shape
from tasks.stages.report.render.view import SHOWN_ROWS, template_variables

SHOWN_CHARS = 4_000
"""Characters of an answer that are shown; a model may repeat itself for long."""


def html_page(data: ReportData) -> str:
    """Render the report as one HTML page that loads nothing and runs no script."""
    return _environment(autoescape=True).get_template("index.html.j2").render(template_variables(data))


def model_card(data: ReportData) -> str:
    """Render the model card, in Markdown with the header that model hubs read."""
    return _environment(autoescape=False).get_template("README.md.j2").render(template_variables(data))


def slug(text: str) -> str:
    """Write a licence as in the header of a model card: `apache-2.0`."""
    return re.sub(r"[^a-z0-9.+]+", "-", text.lower()).strip("-")


def largest_counts(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    """Return the largest counts, and the sum of the others."""
    ordered = sorted(counts.items(), key=lambda entry: (-entry[1], entry[0]))
    if len(ordered) <= SHOWN_ROWS + 1:
        return ordered
    rest = ordered[SHOWN_ROWS:]
    return [*ordered[:SHOWN_ROWS], (f"{len(rest)} others", sum(number for _, number in rest))]


def shown(text: str) -> str:
    """Return data or an answer as a page shows it: of limited length, without secrets, and no character takes effect."""
    return visible(search.redacted(text, search.SECRETS), SHOWN_CHARS)


def _cell(text: object) -> str:
    """Escape text for a cell of a Markdown table."""
    return re.sub(r"([|<>`\[\]\\])", r"\\\1", " ".join(str(text).split()))


def _environment(*, autoescape: bool) -> Environment:
    environment = Environment(
        loader=PackageLoader("tasks.stages.report.render"),
        autoescape=autoescape,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "visible": shown,
        "slug": slug,
        "largest": largest_counts,
        "cell": _cell,
        "level": number_format.level,
        "change": number_format.change,
        "p": number_format.p_value,
        "mib": number_format.mebibytes,
        "number": number_format.number,
        "signed": number_format.signed,
    }
    environment.globals |= {
        "colour": colour,
        "fault_pairs": fault_pairs,
        "sets": SETS,
        "origins": ORIGINS,
        "origin_chart": origin_chart,
        "set_shape": set_shape,
    }
    return environment
