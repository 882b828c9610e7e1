"""Stage `select` has no settings of its own: the rounds are what it chooses from."""

from tasks.core.params import Params
from tasks.core.stage import Round, Stage

STAGE = Stage(reads={"tuned": "models/tuned"}, writes={"selection": "data/selection.json"})


class Settings(Params):
    """What stage `select` reads of params.yaml."""

    rounds: dict[str, Round]
