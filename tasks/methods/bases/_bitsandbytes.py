"""The check that the bases over bitsandbytes share."""

from importlib.util import find_spec


def check_installed(name: str) -> None:
    """Raise ValueError, for base `name`, if bitsandbytes is not installed."""
    if find_spec("bitsandbytes") is None:
        raise ValueError(f"base {name!r} needs bitsandbytes, which is not installed: pip install -e '.[quantize]'.")
