"""Recipes of params/compare that a benchmark runs: the settings of each side are valid before hours of trainings have come to it."""

from pathlib import Path

import pytest
import yaml

from tasks import configuration

ROOT = Path(__file__).resolve().parents[1]


def sides():
    """The recipe, the profile and the changes of each side."""
    for path in sorted((ROOT / "params/compare").glob("*.yaml")):
        recipe = yaml.safe_load(path.read_text())
        if "profile" not in recipe:
            continue
        of_recipe = {name: side["changes"] for name, side in recipe.get("sides", {}).items() if "changes" in side}
        for name, changes in (of_recipe | recipe.get("arms", {})).items():
            yield pytest.param(recipe["profile"], changes, id=f"{path.stem}: {name}")


def merged(values, changes):
    nested = {
        name: merged(values.get(name, {}), change) if isinstance(change, dict) else change
        for name, change in changes.items()
    }
    return {**values} | nested


@pytest.mark.parametrize(("profile", "changes"), list(sides()))
def test_the_settings_of_each_side_are_valid(tmp_path, profile, changes):
    values = merged(yaml.safe_load((ROOT / profile).read_text()), changes)
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(values, sort_keys=False))
    configuration.load(tmp_path / "params.yaml")
