"""Axes of sweeps: how what may be varied is written."""

import pytest

from flows.experiments.sweeps import axes
from flows.experiments.sweeps.axes import Axis, Span


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("tune.a=8,16,32", Axis("tune.a", (8, 16, 32))),
        ("tune.a=0..3", Axis("tune.a", (0, 1, 2, 3))),
        ("tune.a=0..1,5", Axis("tune.a", (0, 1, 5))),
        ("tune.a=1e-3,0.01", Axis("tune.a", (0.001, 0.01))),
        ("tune.a=1e-4..1e-2", Axis("tune.a", span=Span(1e-4, 1e-2))),
        ("tune.a=cosine,linear,cosine", Axis("tune.a", ("cosine", "linear"))),
        ("tune.a=[q_proj, v_proj],all-linear", Axis("tune.a", (["q_proj", "v_proj"], "all-linear"))),
        ("tune.a=true,null", Axis("tune.a", (True, None))),
        ("tune.a=true,1,8,8.0", Axis("tune.a", (True, 1, 8))),
        ("tune.a.my-data.b=1,2", Axis("tune.a.my-data.b", (1, 2))),
        ("tune.a='2024-01-01'", Axis("tune.a", ("2024-01-01",))),
    ],
)
def test_values_are_read_as_yaml_ranges_as_numbers(text, expected):
    assert axes.read([text]) == [expected]
    assert str(axes.read([text])) == str([expected])  # 8.0 equals 8, and params.yaml would not be the same
