"""Settings and records of the tests of filtering."""

import numpy as np

from tasks.core.records import Example, Message
from tasks.stages.ingest.config import IngestConfig

WORDS = [f"word{number}" for number in range(5000)]
HELD_OUT = ("valid", "test", "gate")
SPLITS = {"valid": 0.15, "test": 0.15, "gate": 0.15}


def passage(seed, length=60):
    return " ".join(np.random.default_rng(seed).choice(WORDS, length))


def settings(**changes):
    near = {"jaccard": 0.7, "cosine": None}
    sources = [{"from": "file", "path": "rows.jsonl"}]
    return IngestConfig.model_validate({"sources": sources, "near_duplicates": near, **changes})


def example(number, group=None, prompt=None, response=None, domain="made", tests=None):
    messages = [
        Message("user", prompt or passage(2 * number)),
        Message("assistant", response or passage(2 * number + 1)),
    ]
    place = f"row {number}"
    return Example(place, messages, "chat", domain, group or place, "train", place, "MIT", tests)
