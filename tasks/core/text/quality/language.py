"""Detect the language of a text by py3langid, an offline model of byte n-grams for 140 languages (Lui and Baldwin 2012; 5 MB)."""

from functools import cache
from typing import Any

from tasks.core.records import Unfit
from tasks.core.text.quality.config import Quality

REASON = "language"


def check(text: str, limits: Quality) -> Unfit | None:
    """Return the language of a text if it is not allowed, else None. A text with few letters is always allowed."""
    if not limits.languages or sum(map(str.isalpha, text)) < limits.language_letters:
        return None
    language = identify(text)
    if language in limits.languages:
        return None
    return Unfit(REASON, f"{language}; allowed are {', '.join(limits.languages)}")


def identify(text: str) -> str:
    """Return the ISO 639-1 code of the most likely language. Raises ValueError if py3langid is not installed."""
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
