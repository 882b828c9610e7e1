"""Screen examples and documents: licences, quality, language, secrets and personal data."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Generic, TypeVar

from tasks.core.licenses import expressions
from tasks.core.records import Document, Example, SensitiveText
from tasks.core.text.quality import language, rules
from tasks.core.text.quality.config import Quality
from tasks.stages.ingest.config import IngestConfig
from tasks.stages.ingest.quarantine import Reasons, Sourced
from tasks.stages.ingest.screening import exclusion, sensitive

R = TypeVar("R", Example, Document)


@dataclass(frozen=True)
class Screened(Generic[R]):
    """Records after screening, each at its former position."""

    items: list[Sourced[R]]
    """The records, redacted as the settings say."""
    refused: Reasons
    sensitive: list[SensitiveText]
    """Every place with a secret or personal data."""


def screen_examples(
    items: Sequence[Sourced[Example]], config: IngestConfig, rescued: Collection[str] = ()
) -> Screened[Example]:
    """Return examples after the rules of the settings. Those whose ids are `rescued` are kept, whatever the rules say."""
    limits = config.quality.examples
    refused = dict(_low(items, lambda one: one.response, lambda _: limits)) if limits.is_on else {}
    refused |= _not_allowed(items, config)
    screen = partial(sensitive.screen_examples, actions=config.actions)
    return _screened(items, refused, config.exclude, rescued, screen)


def screen_documents(
    items: Sequence[Sourced[Document]], config: IngestConfig, rescued: Collection[str] = ()
) -> Screened[Document]:
    """Return documents after the rules of the settings. Those whose ids are `rescued` are kept, whatever the rules say."""
    of_corpus = {"domain": config.quality.domain, "general": config.quality.general}
    is_on = any(limits.is_on for limits in of_corpus.values())
    refused = dict(_low(items, lambda one: one.text, lambda one: of_corpus[one.corpus])) if is_on else {}
    refused |= _not_allowed(items, config)
    screen = partial(sensitive.screen_documents, actions=config.actions)
    return _screened(items, refused, config.exclude, rescued, screen)


def _screened(
    items: Sequence[Sourced[R]],
    refused: Reasons,
    exclude: Collection[str],
    rescued: Collection[str],
    screen: Callable[..., sensitive.Screening[R]],
) -> Screened[R]:
    """Screen the records that are not refused, or are rescued, for secrets and personal data. Forgotten records cannot be rescued."""
    kept = {place: why for place, why in refused.items() if items[place].record.id not in rescued}
    kept |= exclusion.refused(items, exclude)
    places = [place for place in range(len(items)) if place not in kept]
    result, screened = screen([items[place] for place in places], rescued=rescued), list(items)
    for place, item in zip(places, result.items, strict=True):
        screened[place] = item
    # A redacted record gets a new id, which tables show, and an entry may name that id.
    if named := exclusion.refused(screened, exclude).keys() - kept.keys():
        renamed = [screened[place] if place in named else item for place, item in enumerate(items)]
        return _screened(renamed, refused, exclude, rescued, screen)
    return Screened(screened, kept | {places[n]: reason for n, reason in result.refused.items()}, result.places)


def _not_allowed(items: Sequence[Sourced[R]], config: IngestConfig) -> Reasons:
    """Return the records whose licence the settings do not allow, with the reason."""
    if not config.licenses:
        return {}
    return {
        position: ("license", f"{item.record.license!r} is not in ingest.licenses")
        for position, item in enumerate(items)
        if not expressions.is_met(item.record.license, frozenset(config.licenses))
    }


def _low(items: Sequence[Sourced[R]], text_of: Callable[[R], str], limits_of: Callable[[R], Quality]) -> Reasons:
    """Return the records whose text breaks a rule of quality, or is in another language, with the reason."""
    refused = {}
    for position, item in enumerate(items):
        text, limits = text_of(item.record), limits_of(item.record)
        if unfit := rules.check(text, limits) or language.check(text, limits):
            refused[position] = (unfit.reason, unfit.detail)
    return refused
