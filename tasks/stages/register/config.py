"""The settings that stage `register` reads: section `gate`, which `ratchet promote` reads too."""

from tasks.core.config import Config
from tasks.core.promotion.gate import GateConfig
from tasks.core.stage import Model, Stage

STAGE = Stage(
    reads={
        "start": "models/base",
        "base": "models/pretrained",
        "tuned": "models/tuned",
        "compressed": "models/compressed",
        "compression": "data/metrics/compression.json",
        "gate": "data/gate",
        "rounds": "data/rounds",
        "documents": "data/ingested/train_documents.parquet",
    },
    writes={"candidate": "models/candidate.json"},
)


class StageConfig(Config):
    """Sections of params.yaml that stage `register` reads."""

    gate: GateConfig
    models: dict[str, Model]
