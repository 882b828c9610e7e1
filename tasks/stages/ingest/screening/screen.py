"""Screen examples and documents: licences, quality, language, secrets and personal data."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from tasks.core.records import Document, Example, SensitiveText
from tasks.core.text.quality import language, rules
from tasks.core.text.quality.config import Quality
from tasks.stages.ingest.config import IngestConfig
from tasks.stages.ingest.quarantine import Quarantine, Reasons, Sourced
from tasks.stages.ingest.screening import licenses, sensitive

R = TypeVar("R", Example, Document)


@dataclass(frozen=True)
class Screened:
    """The records that are kept, and every place with a secret or personal data."""

    examples: list[Sourced[Example]]
    documents: list[Sourced[Document]]
    sensitive: list[SensitiveText]


def screen(
    examples: Sequence[Sourced[Example]],
    documents: Sequence[Sourced[Document]],
    config: IngestConfig,
    quarantine: Quarantine,
) -> Screened:
    """Return what the rules of the settings keep; the rest is in the quarantine, with rule and what it found."""
    examples = quarantine.keep_others(examples, _not_allowed(examples, config))
    documents = quarantine.keep_others(documents, _not_allowed(documents, config))
    quality = config.quality
    if quality.examples.is_on:
        limits = quality.examples
        examples = quarantine.keep_others(examples, _low(examples, lambda one: one.response, lambda _: limits))
    if quality.domain.is_on or quality.general.is_on:
        of_corpus = {"domain": quality.domain, "general": quality.general}
        low = _low(documents, lambda one: one.text, lambda one: of_corpus[one.domain])
        documents = quarantine.keep_others(documents, low)
    kept_examples, places = sensitive.screen_examples(examples, config.actions, quarantine)
    kept_documents, further = sensitive.screen_documents(documents, config.actions, quarantine)
    return Screened(kept_examples, kept_documents, [*places, *further])


def _not_allowed(items: Sequence[Sourced[R]], config: IngestConfig) -> Reasons:
    """Refuse records of licences that the settings do not name."""
    if not config.licenses:
        return {}
    return {
        position: ("license", f"{item.record.license!r} is not in ingest.licenses")
        for position, item in enumerate(items)
        if not licenses.is_allowed(item.record.license, config.licenses)
    }


def _low(items: Sequence[Sourced[R]], text_of: Callable[[R], str], limits_of: Callable[[R], Quality]) -> Reasons:
    """Refuse records whose text breaks a rule of quality, or is in another language."""
    refused = {}
    for position, item in enumerate(items):
        text, limits = text_of(item.record), limits_of(item.record)
        if unfit := rules.check(text, limits) or language.check(text, limits):
            refused[position] = (unfit.reason, unfit.detail)
    return refused
