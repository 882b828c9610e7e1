"""Fixtures of the stages that train."""

import pytest

from tasks.engine.training.telemetry import Telemetry


@pytest.fixture
def trained(monkeypatch):
    """The label of each step that trains."""
    steps = []
    report = Telemetry.on_step

    def noted(self, metrics):
        steps.append(self._run.item)
        report(self, metrics)

    monkeypatch.setattr(Telemetry, "on_step", noted)
    return steps
