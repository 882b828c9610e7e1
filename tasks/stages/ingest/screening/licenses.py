"""Hold the licence of a record against those that are allowed."""

from collections.abc import Collection


def is_allowed(license: str, allowed: Collection[str]) -> bool:
    """Return True if an SPDX expression can be met by allowed licences: of `A OR B` one is enough, of `A AND B` both are needed."""
    names = {name.lower() for name in allowed}
    plain = license.replace("(", " ").replace(")", " ").lower()
    return any(all(part.strip() in names for part in choice.split(" and ")) for choice in plain.split(" or "))
