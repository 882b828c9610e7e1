"""The machine's own Chromium, with which tests use pages. The fixture `browser` of the main conftest starts it."""

import shutil

import pytest

from docs.browser import NAMES

PROGRAM = next(filter(None, map(shutil.which, NAMES)), None)
PATIENCE_MS = 30_000
NEEDS_BROWSER = [
    pytest.mark.browser,
    pytest.mark.skipif(PROGRAM is None, reason=f"no browser: none of {', '.join(NAMES)} (Debian's package `chromium`)"),
]
"""The marks of a module whose tests need it."""
