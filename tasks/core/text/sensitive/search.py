"""Find secrets and personal data in texts, mask them for display, and redact them."""

import hashlib
import json
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from tasks.core.text.sensitive.rules import NEAR, RULES, Kind, Rule

HINTS = "|".join(f"(?:{rule.hint})" for rule in RULES)
EXCERPT = 1_200
"""Number of characters after an excerpt that are searched too, because a secret that begins in the excerpt must be found as a whole."""
SECRETS: tuple[Kind, ...] = ("secret",)


@dataclass(frozen=True)
class Span:
    """A range of a text that a rule matches."""

    rule: Rule
    start: int
    end: int
    value: str

    @property
    def masked(self) -> str:
        """Return the form of the value that may be shown: its first characters, which identify the issuer of a key, and its length."""
        shown = 2 if self.rule.kind == "personal" else 4 if len(self.value) >= 20 else 0
        return f"{self.value[:shown]}… ({len(self.value)} characters)"

    @property
    def placeholder(self) -> str:
        """Return the text that replaces the value."""
        return f"[{self.rule.name}]"


def suspects(texts: Iterable[str]) -> dict[int, list[Rule]]:
    """Return the positions of the texts in which rules may match, with these rules. No rule matches in the other texts.

    The hints are searched in all texts at once, at about 300 MB per CPU-second.
    """
    all_texts = pl.Series(texts, dtype=pl.String)
    positions = all_texts.str.contains(HINTS).arg_true()
    few, rules = all_texts[positions], {position: list[Rule]() for position in positions.to_list()}
    for rule in RULES if len(few) else ():
        for position in positions.filter(few.str.contains(rule.hint)).to_list():
            rules[position].append(rule)
    return rules


def spans(text: str, kinds: Collection[Kind], rules: Iterable[Rule] = RULES) -> list[Span]:
    """Return the matches of rules of these kinds in a text, in their order. Of two overlapping matches, that of the earlier rule is kept."""
    taken: list[Span] = []
    for rule in rules:
        if rule.kind not in kinds:
            continue
        group = "value" if "value" in rule.pattern.groupindex else 0
        place = 0
        while match := rule.pattern.search(text, place):
            start, value = match.start(group), rule.cut(match[group])
            end = start + len(value)
            place = (
                end if value != match[group] else match.end()
            )  # the next match may begin in the part that was cut off
            is_free = not any(start < other.end and other.start < end for other in taken)
            if is_free and rule.check(value) and not _is_other(rule, text[max(0, start - NEAR) : start]):
                taken.append(Span(rule, start, end, value))
    return sorted(taken, key=lambda span: span.start)


def _is_other(rule: Rule, before: str) -> bool:
    """Return True if the text before a match says that it is something else."""
    return rule.unless_after is not None and rule.unless_after.search(before) is not None


def redacted(text: str, kinds: Collection[Kind]) -> str:
    """Return a text with a placeholder for each match. Equal texts stay equal."""
    return replaced(text, spans(text, kinds))


def replaced(text: str, places: Sequence[Span]) -> str:
    """Return a text in which these spans are replaced by placeholders."""
    parts, end = [], 0
    for span in places:
        parts += [text[end : span.start], span.placeholder]
        end = span.end
    return "".join([*parts, text[end:]])


def redacted_weights(weights: Sequence[float], places: Sequence[Span]) -> list[float]:
    """Return the weights of a text's characters after the redaction of these spans. A placeholder has the weight of the first character that it replaces."""
    kept, end = list[float](), 0
    for span in places:
        kept += [*weights[end : span.start], *[weights[span.start]] * len(span.placeholder)]
        end = span.end
    return [*kept, *weights[end:]]


def redacted_json(text: str, kinds: Collection[Kind]) -> str:
    """Return JSON with placeholders in its strings, keys and numbers; it stays valid JSON. A text that is not JSON is redacted as a text."""
    if not spans(text, kinds):
        return text
    try:
        value = json.loads(text)
    except ValueError:
        return redacted(text, kinds)
    return json.dumps(_redacted_value(value, kinds), ensure_ascii=False)


def _redacted_value(value: Any, kinds: Collection[Kind]) -> Any:
    if isinstance(value, dict):
        return {redacted(key, kinds): _redacted_value(item, kinds) for key, item in value.items()}
    if isinstance(value, list):
        return [_redacted_value(item, kinds) for item in value]
    if isinstance(value, str):
        return redacted(value, kinds)
    if isinstance(value, int | float) and not isinstance(value, bool):
        text = str(value)
        return redacted(text, kinds) if spans(text, kinds) else value
    return value


def distinct_redacted(name: str, kinds: Collection[Kind]) -> str:
    """Return a name with placeholders that contain a hash of the value, so that different values stay different."""
    parts, end = [], 0
    for span in spans(name, kinds):
        digest = hashlib.sha256(span.value.encode()).hexdigest()[:8]
        parts += [name[end : span.start], f"[{span.rule.name} {digest}]"]
        end = span.end
    return "".join([*parts, name[end:]])


def beginning(text: str, chars: int, kinds: Collection[Kind] = SECRETS) -> str:
    """Return the first characters of a text, with placeholders for sensitive values."""
    return redacted(text[: chars + EXCERPT], kinds)[:chars]
