"""Tell the language of a text, by py3langid: a model of byte n-grams for 140 languages (Lui and Baldwin 2012), 5 MB, offline."""

from functools import cache
from typing import Any

from tasks.core.records import Unfit
from tasks.core.text.quality.config import Quality

REASON = "language"


def check(text: str, limits: Quality) -> Unfit | None:
    """Return the language of a text if it is none of those that are allowed. One with few letters is of no language."""
    if not limits.languages or sum(map(str.isalpha, text)) < limits.language_letters:
        return None
    language = identify(text)
    if language in limits.languages:
        return None
    return Unfit(REASON, f"{language}; allowed are {', '.join(limits.languages)}")


def identify(text: str) -> str:
    """Return the ISO 639-1 code of the likeliest language. Raises ValueError without py3langid."""
    return str(_identifier().classify(text)[0])


@cache
def _identifier() -> Any:
    try:
        import py3langid
    except ImportError:
        raise ValueError(
            'ingest.quality: `languages` needs the extra `language`: pip install "ratchet-llm[language]"'
        ) from None
    return py3langid
