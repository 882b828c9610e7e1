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


def test_profile_turns_is_what_the_benchmark_of_turns_measures():
    recipe = yaml.safe_load((ROOT / "params/compare/loop.yaml").read_text())
    measured = merged(yaml.safe_load((ROOT / recipe["profile"]).read_text()), recipe["changes"])
    turns = yaml.safe_load((ROOT / "params/turns.yaml").read_text())
    names = [f"r{number}" for number in range(recipe["rounds"])]
    assert list(turns["rounds"]) == names
    failures = {"growth": recipe["growth"] - 1, **recipe["arms"]["learnable"]["methods"]["failures"]}
    assert turns["methods"]["failures"] == failures
    for values in (measured, turns):
        del values["methods"]["failures"], values["evaluate"]["pass_items"]  # as many as there are
        for section in ("rounds", "turns", "models"):
            del values[section]
    assert turns == measured
