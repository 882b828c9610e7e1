"""Render the HTML page and the model card from their templates."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from tasks.core import origins
from tasks.core.text.sensitive import search
from tasks.core.text.visible import escaped, visible
from tasks.stages.report import number_format
from tasks.stages.report.data import fault_pairs
from tasks.stages.report.data.items import list_items
from tasks.stages.report.data.loop import ORIGINS, SETS
from tasks.stages.report.data.report_data import ReportData
from tasks.stages.report.render import assets
from tasks.stages.report.render.card import card_header
from tasks.stages.report.render.gallery import Gallery
from tasks.stages.report.render.grammar import colour_number
from tasks.stages.report.render.item_data import pack_items
from tasks.stages.report.render.view import SHOWN_ROWS, template_variables

SHOWN_CHARS = 4_000
"""Most characters of an answer that are shown, since a model may repeat itself endlessly."""


def html_page(data: ReportData) -> str:
    """Render the report as one HTML page that loads nothing and runs only its own scripts."""
    gallery = Gallery()
    page = _environment(autoescape=True)
    page.filters["figure"] = gallery.figure
    items = list_items(data.results, data.examples, data.leading, data.text_sources)
    return page.get_template("index.html.j2").render(
        template_variables(data),
        assets=assets,
        gallery=gallery,
        items=pack_items(items, list(data.results), all_shown),
    )


def chart_page(**variables: Any) -> str:
    """Render one chart with a table of its figures as a page that loads nothing. `chart.html.j2` names the variables."""
    gallery = Gallery()
    page = _environment(autoescape=True)
    page.filters["figure"] = gallery.figure
    return page.get_template("chart.html.j2").render(variables, assets=assets, gallery=gallery)


def model_card(data: ReportData) -> str:
    """Render the model card, in Markdown with the header that model hubs read."""
    header = card_header(data)
    return _environment(autoescape=False).get_template("README.md.j2").render(template_variables(data), header=header)


def largest_counts(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    """Return the largest counts, and the sum of the others."""
    ordered = sorted(counts.items(), key=lambda entry: (-entry[1], entry[0]))
    if len(ordered) <= SHOWN_ROWS + 1:
        return ordered
    rest = ordered[SHOWN_ROWS:]
    return [*ordered[:SHOWN_ROWS], (f"{len(rest)} others", sum(number for _, number in rest))]


def shown(text: str) -> str:
    """Return data or an answer in the form for a page: with limited length, without secrets, and with control characters made visible."""
    return visible(search.redacted(text, search.SECRETS), SHOWN_CHARS)


def all_shown(texts: Sequence[str]) -> list[str]:
    """Return many texts as `shown` does, but faster: one search over all texts finds the few that may hold a secret."""
    suspects = search.suspects(texts)
    return [
        visible(search.replaced(text, search.spans(text, search.SECRETS, suspects.get(place, ()))), SHOWN_CHARS)
        for place, text in enumerate(texts)
    ]


def _without_effect(value: Any) -> Any:
    """Return a text with control and direction characters escaped; markup is returned unchanged."""
    return escaped(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _cell(text: object) -> str:
    """Return text escaped for a cell of a Markdown table."""
    return re.sub(r"([|<>`\[\]\\])", r"\\\1", " ".join(str(text).split()))


def _code(text: str) -> Markup:
    """Return one of our own sentences with the parts in backticks as code."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))


def _environment(*, autoescape: bool) -> Environment:
    environment = Environment(
        loader=PackageLoader("tasks.stages.report.render"),
        autoescape=autoescape,
        undefined=StrictUndefined,
        finalize=_without_effect,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "visible": shown,
        "largest": largest_counts,
        "cell": _cell,
        "code": _code,
        "level": number_format.level,
        "change": number_format.change,
        "p": number_format.p_value,
        "mib": number_format.mebibytes,
        "count": number_format.count,
        "number": number_format.number,
        "signed": number_format.signed,
    }
    environment.globals |= {
        "colour_number": colour_number,
        "fault_pairs": fault_pairs,
        "sets": SETS,
        "origins": ORIGINS,
        "written_by": origins.ORIGINS,
    }
    return environment
