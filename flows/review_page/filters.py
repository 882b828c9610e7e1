"""Filter and sort entries, and split them into pages."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal
from urllib.parse import urlencode

from pydantic import BaseModel, ConfigDict, Field, field_validator

from flows.review_page.entries import Entry, View
from tasks.core.records import Decision
from tasks.io import review_decisions

State = Literal["open", "decided", "accept", "edit", "reject", "flag", "all"]
Order = Literal["table", "quality", "loss", "sameness"]
History = Mapping[str, Sequence[Decision]]
PAGE = 20
"""Number of entries on a page."""


class Filters(BaseModel):
    """The query string of the page's address."""

    model_config = ConfigDict(extra="ignore")

    view: View = "proposed"
    state: State = "open"
    set: str = ""
    """A set for which the diagnosis chose the example."""
    flag: str = ""
    source: str = ""
    """A part of the source's name."""
    quality_to: float | None = Field(None, ge=0, le=10)
    same_from: float | None = Field(None, ge=0, le=100)
    """Per cent."""
    order: Order = "table"
    after: str = ""
    """The id of the last entry before the page."""
    before: str = ""
    """The id of the first entry after the page."""

    @field_validator("quality_to", "same_from", mode="before")
    @classmethod
    def _empty_is_none(cls, value: object) -> object:
        return None if value == "" else value

    @property
    def shows_open(self) -> bool:
        """True if the filters may match entries without a decision."""
        return self.state in ("open", "all")

    def query(self, **changes: object) -> str:
        """Return the query string with these changes, without fields that have their default."""
        values = self.model_copy(update={"after": "", "before": "", **changes}).model_dump(exclude_defaults=True)
        return urlencode(values)


@dataclass(frozen=True)
class Page:
    """Entries that are shown together."""

    entries: Sequence[Entry]
    total: int
    """The number of entries that the filters match."""
    first: int
    """The number of matching entries before the page."""

    @property
    def has_next(self) -> bool:
        """True if entries follow the page."""
        return self.first + len(self.entries) < self.total


def matching(entries: Mapping[str, Entry], filters: Filters, history: History) -> list[Entry]:
    """Return the entries that the filters match, in their order."""
    return [entry for entry in _in_order(entries, filters) if _is_in_state(entry, filters.state, history)]


def page(entries: Mapping[str, Entry], filters: Filters, history: History) -> Page:
    """Return the page after or before an entry.

    The entry need not match itself: one that was decided since leaves the list, and the pages behind it do not shift.
    """
    ordered = list(_in_order(entries, filters))
    matches = [place for place, entry in enumerate(ordered) if _is_in_state(entry, filters.state, history)]
    places = {entry.id: place for place, entry in enumerate(ordered)}
    if filters.before in places:
        first = max(0, sum(place < places[filters.before] for place in matches) - PAGE)
    elif filters.after in places:
        first = sum(place <= places[filters.after] for place in matches)
    else:
        first = 0
    shown = [ordered[place] for place in islice(matches, first, first + PAGE)]
    return Page(shown, len(matches), first)


def choices(entries: Mapping[str, Entry]) -> dict[str, list[str]]:
    """Return the sets and flags that entries have."""
    return {
        "set": sorted({name for entry in entries.values() if entry.signals for name in entry.signals.chosen}),
        "flag": sorted({name for entry in entries.values() for name in entry.flags}),
    }


def state_of(entry: Entry, history: History) -> Decision | None:
    """Return the decision on an entry that counts; None if it is open."""
    return review_decisions.decision_that_counts(history.get(entry.id, ()))


def _in_order(entries: Mapping[str, Entry], filters: Filters) -> Sequence[Entry]:
    chosen = list(_filtered(entries, filters))
    if filters.order == "table":
        return chosen
    return sorted(chosen, key=_KEYS[filters.order])


def _quality(entry: Entry) -> float | None:
    return entry.signals.quality if entry.signals else None


def _loss(entry: Entry) -> float | None:
    return entry.signals.loss_after if entry.signals else None


def _missing_last(value: float | None, *, falling: bool = False) -> tuple[bool, float]:
    return value is None, (-1 if falling else 1) * (value or 0.0)


_KEYS: Mapping[str, Callable[[Entry], Any]] = {
    "quality": lambda entry: _missing_last(_quality(entry)),
    "loss": lambda entry: _missing_last(_loss(entry), falling=True),
    "sameness": lambda entry: entry.sameness,
}


def _filtered(entries: Mapping[str, Entry], filters: Filters) -> Iterator[Entry]:
    source = filters.source.casefold()
    for entry in entries.values():
        signals, quality = entry.signals, _quality(entry)
        if filters.set and (signals is None or filters.set not in signals.chosen):
            continue
        if filters.flag and filters.flag not in entry.flags:
            continue
        if source not in entry.before.source.casefold():
            continue
        if filters.quality_to is not None and (quality is None or quality > filters.quality_to):
            continue
        if filters.same_from is not None and 100 * entry.sameness < filters.same_from:
            continue
        yield entry


def _is_in_state(entry: Entry, state: State, history: History) -> bool:
    decision = state_of(entry, history)
    if state == "all":
        return True
    if state in ("open", "decided"):
        return (decision is None) is (state == "open")
    return decision is not None and decision.decision == state
