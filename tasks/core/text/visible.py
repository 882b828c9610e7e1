"""Text made safe to show: no control or direction character takes effect, and no address has a password."""

import re
from urllib.parse import parse_qsl, urlsplit

CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff]")

PASSWORD = re.compile(r"(://[^\s/@:]*):(?!\d+[/?#])(?:[^\s/]+|[^\s\"]+?)@")
"""The password of an address. What follows a port is none."""
USER = re.compile(r"(https?://)[^\s/@]+@")
"""Whoever a web address names: it may be a token."""
PARAMETER = re.compile(r"([?&][^\s?&=]*password)=[^\s&]+", re.IGNORECASE)
"""A password among the parameters of an address."""
EXCERPT = 200
"""Characters of a record by which a person can find it."""


def visible(text: str, chars: int) -> str:
    """Return the text cut to `chars` characters, with the number that were cut, and control and direction characters escaped."""
    shown = text if len(text) <= chars else f"{text[:chars]}\n… {len(text) - chars:,} characters more"
    return escaped(shown)


def excerpt(text: str, chars: int = EXCERPT) -> str:
    """Return the start of a text, by which a person can find it, without characters that UTF-8 cannot encode."""
    return text[:chars].encode("utf-8", "replace").decode("utf-8")


def escaped(text: str) -> str:
    """Return the text with control and direction characters as escapes of JSON (`\\u001b`)."""
    return CONTROLS.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def storable(text: str) -> str:
    """Return the text as every database takes it: NUL, and what UTF-8 cannot encode, as escapes (`\\x00`, `\\udcff`)."""
    return text.replace("\0", r"\x00").encode("utf-8", "backslashreplace").decode("utf-8")


def without_passwords(text: str) -> str:
    """Return the text with `***` for the password of each address in it, `postgresql://me:***@host/db`, and for the user of web addresses."""
    return PARAMETER.sub(r"\1=***", USER.sub(r"\1***@", PASSWORD.sub(r"\1:***@", text)))


def has_password(address: str) -> bool:
    """Return True if an address holds a password, before its host or as a parameter."""
    parts = urlsplit(address)
    is_given = bool(parts.password) or PASSWORD.search(address) is not None  # a `/` in it ends the host for urlsplit
    return is_given or any("password" in name.lower() for name, _ in parse_qsl(parts.query))
