"""Folders of a workspace that flows write to."""

from pathlib import Path

SCRATCH = Path(".ratchet")
LOGS = SCRATCH / "logs"
