"""Names of measures as metrics, the same in MLflow and in DVC."""

import re

from tasks.core.records import LOSSES


def metric_of(measure: str) -> str:
    """Return the name of a measure in letters, digits and underscores: `domain_loss`, `pass_at_1`."""
    name = re.sub(r"\W+", "_", measure.replace("@", "_at_")).strip("_")
    return f"{name}_loss" if measure in LOSSES else name
