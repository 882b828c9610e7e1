"""Fixtures of the stages that train."""

import pytest

from tasks.engine.training.telemetry import Telemetry


@pytest.fixture
def trained(monkeypatch):
    """Record the label of each training step."""
    steps = []
    report = Telemetry.on_step

    def noted(self, metrics):
        steps.append(self._run.item)
        report(self, metrics)

    monkeypatch.setattr(Telemetry, "on_step", noted)
    return steps
