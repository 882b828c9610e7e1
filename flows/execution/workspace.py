"""Name the folders of a workspace that flows write to, and its files of secrets."""

import os
from fnmatch import fnmatch
from pathlib import Path

from tasks.core import environment

SCRATCH = Path(".ratchet")
LOGS = SCRATCH / "logs"
SECRETS = (
    ".dvc/config.local",
    ".ratchet/keys/*",
    ".ratchet/prefect/profiles.toml",
    ".env",
    ".env.*",
    "*/.env",
    "*/.env.*",
)
"""Files whose purpose is to hold secrets."""


def holds_secrets(path: Path) -> bool:
    """Return True for a file of the workspace whose purpose is to hold secrets, including the private key that the environment names."""
    key = os.environ.get(environment.SIGNING_KEY)
    return any(fnmatch(path.as_posix(), pattern) for pattern in SECRETS) or (
        bool(key) and path.resolve() == Path(str(key)).resolve()  # either path may be a link
    )
