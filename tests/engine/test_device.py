"""`auto` is what this machine does well, and a device that is not there is refused."""

import pytest
import torch

from tasks.core.compute import Compute
from tasks.engine import device


@pytest.fixture
def machine(monkeypatch):
    """A machine of these features."""

    def of(vendor="AuthenticAMD", cuda=False, **features):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: features)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
        monkeypatch.setattr(device, "_vendor", lambda: vendor)

    return of


@pytest.mark.parametrize(
    ("vendor", "features", "expected"),
    [
        ("AuthenticAMD", {}, "fp32"),
        ("AuthenticAMD", {"avx512_bf16": True}, "bf16"),
        ("GenuineIntel", {"avx512_bf16": True}, "fp32"),
        ("GenuineIntel", {"avx512_bf16": True, "amx_bf16": True}, "bf16"),
    ],
)
def test_auto_is_bf16_where_the_processor_multiplies_it_fast(machine, vendor, features, expected):
    machine(vendor, **features)
    assert device.precision(Compute()) == expected


@pytest.mark.parametrize(("precision", "dtype"), [("fp32", "float32"), ("bf16", "bfloat16")])
def test_a_precision_that_is_named_is_taken(machine, precision, dtype):
    machine()
    assert device.precision(Compute(precision=precision)) == precision
    assert device.dtype(Compute(precision=precision)) == dtype


@pytest.mark.parametrize(("precision", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_products_are_made_in_that_precision(precision, dtype):
    with device.autocast(Compute(precision=precision)):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == dtype


def test_a_device_that_is_not_there_is_refused_with_those_that_are(machine):
    machine(cuda=False)
    with pytest.raises(ValueError, match=r"compute\.device: 'cuda' is not on this machine. There is: cpu"):
        device.use(Compute(device="cuda"))


def test_threads_are_those_of_the_settings():
    before = torch.get_num_threads()
    try:
        device.use(Compute(threads=3))
        assert torch.get_num_threads() == 3
        assert torch.are_deterministic_algorithms_enabled()
    finally:
        torch.set_num_threads(before)
