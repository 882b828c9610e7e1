"""What every file of every family owes."""

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

from tasks import methods
from tasks.core.params import Params

ROOT = Path(__file__).resolve().parents[2]
EVERY = [(family, name) for family in methods.families() for name in methods.names(family)]


@pytest.mark.parametrize(("family", "name"), EVERY)
def test_a_method_has_defaults_for_all_its_settings(family, name):
    kind = methods.load(family, name).METHOD.params
    assert issubclass(kind, Params)
    kind()
    assert all(field.description for field in kind.model_fields.values()), "every setting has a docstring under it"


@pytest.mark.parametrize(("family", "name"), EVERY)
def test_a_method_is_a_record_of_its_family(family, name):
    records = vars(importlib.import_module(f"tasks.methods.{family}")).values()
    kinds = tuple(kind for kind in records if isinstance(kind, type) and kind.__module__ == f"tasks.methods.{family}")
    assert isinstance(methods.load(family, name).METHOD, kinds)


def test_no_two_methods_with_settings_share_a_name():
    shared = [name for _, name in EVERY if [other for _, other in EVERY].count(name) > 1]
    kinds = {name: methods.load(family, name).METHOD.params for family, name in EVERY if name in shared}
    assert {name for name, kind in kinds.items() if kind.model_fields} == set()


def test_no_method_imports_torch_before_it_is_used():
    modules = [f"tasks.methods.{family}.{name}" for family, name in EVERY]
    code = (
        "import importlib, sys\n"
        f"for name in {modules}:\n"
        "    importlib.import_module(name)\n"
        "    if 'torch' in sys.modules:\n"
        "        sys.exit(name)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
