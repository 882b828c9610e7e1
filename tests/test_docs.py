"""Pages that are made from the code say what it says, and the README names what there is."""

import importlib.util
import json
from pathlib import Path

import pytest

from tasks import methods, settings

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def generate():
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs/generate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_reference_of_settings_is_in_step(generate):
    assert (ROOT / "docs/settings.md").read_text() == generate.reference(), "run: make docs"
    assert json.loads((ROOT / "docs/params.schema.json").read_text()) == generate.schema(), "run: make docs"


def test_params_yaml_is_the_default_profile():
    assert (ROOT / "params.yaml").read_bytes() == (ROOT / "params/workstation.yaml").read_bytes()


@pytest.mark.parametrize("profile", sorted((ROOT / "params").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_profile_is_sound_and_stands_in_the_readme(profile):
    settings.load(profile)
    assert f"| `{profile.stem}` |" in (ROOT / "README.md").read_text()


@pytest.mark.parametrize("family", methods.families())
def test_the_readme_names_every_method(family):
    row = next(line for line in (ROOT / "README.md").read_text().splitlines() if line.startswith(f"| {family} |"))
    assert row == f"| {family} | {', '.join(f'`{name}`' for name in methods.names(family))} |"
