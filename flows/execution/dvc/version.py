"""Check that the installed DVC is the version whose internals this package uses."""

from importlib import metadata

TESTED = "3.67"
"""The minor version against which `tests/flows/execution/dvc/test_dvc_contract.py` tests this package."""
INSTALL = "pip install 'dvc>=3.67,<3.68'"


def check() -> None:
    """Raise RuntimeError unless DVC is installed in the tested minor version: internals may change in any other."""
    try:
        installed = metadata.version("dvc")
    except metadata.PackageNotFoundError:
        raise RuntimeError(f"DVC is not installed. Install it: {INSTALL}") from None
    if installed.split(".")[:2] != TESTED.split("."):
        raise RuntimeError(
            f"DVC {installed} is installed. Ratchet reads internals of DVC and was tested with {TESTED} only. "
            f"Install that version: {INSTALL}"
        )
