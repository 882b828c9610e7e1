"""Find secrets in what is about to be written, by the rules for texts and by the values that this machine keeps secret."""

import configparser
import os
import re
from collections.abc import Iterator
from pathlib import Path

from tasks.core.text.sensitive import search

NAMES = re.compile(
    r"key|token(?!i[sz])|secret|passw|credential|dsn|auth(?!or(?!i[sz]))|notify$|connection_?(url|string)",
    re.IGNORECASE,
)
"""Variables and options whose values are secrets; authors and tokenizers are none, and an authorization is one."""
PLAIN = re.compile(r"(https?|s3|file|sqlite|postgresql)[+\w]*://", re.IGNORECASE)
"""Addresses whose secrets stand before an `@`. Those of notifications (`slack://…`) hold theirs elsewhere."""
SHORTEST = 8
"""Characters of a value that is searched for: a shorter one stands in many texts by chance."""
REMOTES = (Path(".dvc/config"), Path(".dvc/config.local"))


def check(folder: Path, paths: list[Path]) -> None:
    """Raise ValueError that names the first file with a secret, and not the secret."""
    known = dict(_known())
    for path in paths:
        text = path.read_text(encoding="utf-8")
        held = [name for name, value in known.items() if value in text]
        held += [f"a match of rule {span.rule.name}" for span in search.spans(text, search.SECRETS)]
        if held:
            raise ValueError(
                f"{path.relative_to(folder)} would contain a secret ({held[0]}), so no evidence is written. Evidence has settings, file "
                "names and commits: remove the secret from them."
            )


def _known() -> Iterator[tuple[str, str]]:
    """Yield the secrets of the environment and of DVC's remotes, each with its place."""
    for name, value in os.environ.items():
        if NAMES.search(name) and _is_secret(value):
            yield f"the value of {name}", value
    for path in REMOTES:
        remotes = configparser.ConfigParser(interpolation=None, strict=False)
        remotes.read(path)
        for section in remotes.sections():
            for name, value in remotes.items(section):
                if NAMES.search(name) and _is_secret(value):
                    yield f"{name} of {path}", value


def _is_secret(value: str) -> bool:
    """Return True for a value that is no flag, number, name of a file or address without a password."""
    is_address = PLAIN.match(value) is not None and "@" not in value
    return len(value) >= SHORTEST and not is_address and not value.isdecimal() and not _is_path(value)


def _is_path(value: str) -> bool:
    try:
        return Path(value).exists()
    except (OSError, ValueError):  # too long for a name of a file, say, and the error would quote it
        return False
