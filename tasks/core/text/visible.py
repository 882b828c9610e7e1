"""Text that is safe to show: control and direction characters have no effect, and addresses have no password."""

import re
from urllib.parse import parse_qsl, urlsplit

CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff]")

PASSWORD = re.compile(r"(://[^\s/@:]*):(?!\d+[/?#])(?:[^\s/]+|[^\s\"]+?)@")
"""The password of an address. A text after a port is not one."""
USER = re.compile(r"(https?://)[^\s/@]+@")
"""The user in a web address, which may be a token."""
PARAMETER = re.compile(r"([?&][^\s?&=]*password)=[^\s&]+", re.IGNORECASE)
"""A password in the query parameters of an address."""
EXCERPT = 200
"""Number of characters of a record that are shown so that people can find it."""


def visible(text: str, chars: int) -> str:
    """Return the text cut to `chars` characters, with the number of removed ones, and with control and direction characters escaped."""
    shown = text if len(text) <= chars else f"{text[:chars]}\n… {len(text) - chars:,} characters more"
    return escaped(shown)


def excerpt(text: str, chars: int = EXCERPT) -> str:
    """Return the start of a text, by which people can find it, without characters that UTF-8 cannot encode."""
    return text[:chars].encode("utf-8", "replace").decode("utf-8")


def escaped(text: str) -> str:
    """Return the text with control and direction characters as JSON escapes (`\\u001b`)."""
    return CONTROLS.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def storable(text: str) -> str:
    """Return the text in a form that every database accepts: NUL, and characters that UTF-8 cannot encode, are escapes (`\\x00`, `\\udcff`)."""
    return text.replace("\0", r"\x00").encode("utf-8", "backslashreplace").decode("utf-8")


def without_passwords(text: str) -> str:
    """Return the text with `***` in place of the password of each address, `postgresql://me:***@host/db`, and of the user in web addresses."""
    return PARAMETER.sub(r"\1=***", USER.sub(r"\1***@", PASSWORD.sub(r"\1:***@", text)))


def has_password(address: str) -> bool:
    """Return True if an address contains a password, before its host or as a parameter."""
    parts = urlsplit(address)
    is_given = (
        bool(parts.password) or PASSWORD.search(address) is not None
    )  # for urlsplit, a `/` in the password ends the host
    return is_given or any("password" in name.lower() for name, _ in parse_qsl(parts.query))
