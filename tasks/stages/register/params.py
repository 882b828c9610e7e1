"""The `register` stage's share of params.yaml: section `gate`, which `ratchet promote` reads too."""

from tasks.core.gate import GateParams
from tasks.core.params import Params
from tasks.core.stage import Model, Stage

STAGE = Stage(
    reads={
        "base": "models/pretrained",
        "tuned": "models/tuned",
        "compressed": "models/compressed",
        "compression": "data/metrics/compression.json",
        "gate": "data/gate",
    },
    writes={"candidate": "models/candidate.json"},
)


class Settings(Params):
    """Sections of params.yaml that stage `register` reads."""

    gate: GateParams
    models: dict[str, Model]
