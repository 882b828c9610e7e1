"""Settings of the trainings, by name, and the differences between models."""

from collections.abc import Mapping
from typing import Any

from tasks.core.nested import flat

MISSING = "–"
PLAN = {
    "schedule": "schedule",
    "warmup": "warm-up",
    "epochs": "epochs at most",
    "max_tokens": "tokens at most",
    "accumulation": "packs of a step",
    "pack_tokens": "tokens of a pack at most",
    "seed": "seed",
}
"""Setting of a training → its name in text."""


def by_name(card: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a model's card, by their names in params.yaml; empty for a model that was not trained."""
    return dict(flat(card.get("settings", {})))


def table(settings: Mapping[str, Mapping[str, Any]]) -> dict[str, list[str]]:
    """Return each setting with its value in every model. Settings that differ come first."""
    names = sorted({name for values in settings.values() for name in values})
    rows = {name: [_shown(values, name) for values in settings.values()] for name in names}
    return dict(sorted(rows.items(), key=lambda row: (len(set(row[1])) == 1, row[0])))


def differing(rows: Mapping[str, list[str]]) -> int:
    """Return the number of settings that are not the same in all models."""
    return sum(len(set(values)) > 1 for values in rows.values())


def plan(settings: Mapping[str, Any]) -> list[str]:
    """Return texts about the length, learning rate and batch size of a training; empty for a model that was not trained."""
    section = next((section for section in ("tune", "pretrain") if f"{section}.epochs" in settings), "")
    optimizer = settings.get(f"{section}.optimizer")
    named = {
        "learning rate": settings.get(f"methods.{optimizer}.learning_rate"),
        **{words: settings.get(f"{section}.{name}") for name, words in PLAN.items()},
    }
    return [f"{words} {value}" for words, value in named.items() if value is not None]


def _shown(values: Mapping[str, Any], name: str) -> str:
    return str(values[name]) if name in values else MISSING
