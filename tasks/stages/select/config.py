"""Stage `select` has no section of its own; it chooses from `rounds`."""

from tasks.core.config import Config
from tasks.core.stage import Round, Stage

STAGE = Stage(reads={"tuned": "models/tuned"}, writes={"selection": "data/selection.json"})


class StageConfig(Config):
    """Sections of params.yaml that stage `select` reads."""

    rounds: dict[str, Round]
