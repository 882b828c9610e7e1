"""The maps of params.yaml follow from one number, and every profile's are exactly those."""

import shutil
from pathlib import Path

import pytest
import yaml

from flows import commands
from flows.project import config_editing, rounds
from tasks import configuration

ROOT = Path(__file__).resolve().parents[3]
PROFILES = sorted(ROOT.glob("params/*.yaml"))


def maps(path):
    """The three maps in their order, which YAML's own equality does not see."""
    found = yaml.safe_load(path.read_text())
    return {name: list(found[name].items()) for name in ("rounds", "turns", "models")}


@pytest.fixture
def params(tmp_path):
    """Settings of one round, measured beside a model that is no round."""
    path = tmp_path / "params.yaml"
    text = (ROOT / "params/reasoning.yaml").read_text()
    own = "  small: {group: rounds, path: models/compressed, base: models/pretrained} # the small one\n"
    path.write_text(text + own)
    rounds.write_rounds(1, path)
    return path


@pytest.mark.parametrize("profile", PROFILES, ids=lambda path: path.stem)
def test_the_maps_of_a_profile_are_those_that_the_command_writes(profile, tmp_path):
    again = tmp_path / "params.yaml"
    shutil.copyfile(profile, again)
    rounds.write_rounds(len(configuration.load(profile).rounds), again)
    assert maps(again) == maps(profile)


def test_each_round_is_made_from_the_one_before_and_measured(params):
    rounds.write_rounds(3, params)
    found = maps(params)
    assert found["rounds"] == [("r0", {}), ("r1", {}), ("r2", {})]
    assert found["turns"] == [("r1", {"prev": "r0"}), ("r2", {"prev": "r1"})]
    assert [name for name, _ in found["models"]] == ["base", "r0", "r1", "r2", "small"]
    assert dict(found["models"])["r2"] == {"group": "rounds", "path": "models/tuned/r2", "base": "models/pretrained"}


def test_there_and_back_again_is_the_same_file(params):
    before = params.read_bytes()
    rounds.write_rounds(4, params)
    assert params.read_bytes() != before
    rounds.write_rounds(1, params)
    assert params.read_bytes() == before


def test_comments_stay(params):
    rounds.write_rounds(2, params)
    assert "# the small one" in params.read_text()
    first = (ROOT / "params/reasoning.yaml").read_text().splitlines()[0]
    assert first.startswith("#")
    assert params.read_text().startswith(first)


def test_a_link_stays_one_and_the_file_behind_it_is_edited(params):
    place = params.with_name("shared") / "own.yaml"
    place.parent.mkdir()
    params.rename(place)
    params.symlink_to("shared/own.yaml")
    rounds.write_rounds(3, params)
    assert params.is_symlink()
    assert len(maps(place)["rounds"]) == 3
    assert [file.name for file in place.parent.iterdir()] == ["own.yaml"]
    before = place.read_bytes()
    with config_editing.edited_config(params, ROOT / "params/micro.yaml"):
        pass
    assert not params.is_symlink()
    assert place.read_bytes() == before, "other settings are no edit of these"


def test_ends_of_lines_stay_those_of_windows(params):
    unix = params.read_text()
    params.write_text(unix, newline="\r\n")
    rounds.write_rounds(3, params)
    rounds.write_rounds(1, params)
    assert params.read_bytes() == unix.replace("\n", "\r\n").encode()


@pytest.mark.parametrize("ending", ["\n", "", "\n\n# the end"])
def test_lines_may_be_added_behind_whatever_the_file_ends_in(params, ending):
    text = params.read_text()
    params.write_text(text.rstrip("\n") + ending)
    with config_editing.edited_config(params) as tree:
        tree["resources"] = {}
    found = params.read_text()
    assert found.startswith(text.rstrip("\n") + "\n")
    assert yaml.safe_load(found) == yaml.safe_load(text) | {"resources": {}}


def test_lines_of_the_file_that_do_not_go_with_what_is_added_are_given_up():
    added = "a: 1\nb: 2\n"  # behind the end of the document
    assert config_editing._with_lines_of("---\na:   1\n...\n", "a: 1\n", added) == added


def test_a_profile_that_measures_nothing_goes_on_measuring_nothing(params):
    params.write_text((ROOT / "params/micro.yaml").read_text())
    rounds.write_rounds(3, params)
    assert maps(params)["models"] == []


def test_settings_from_before_there_were_turns_are_mended_by_the_command(params, monkeypatch, capsys):
    monkeypatch.chdir(params.parent)
    text = yaml.safe_load(params.read_text())
    del text["turns"]
    params.write_text(yaml.safe_dump(text, sort_keys=False))
    commands.application()(["rounds", "2"], standalone_mode=False)
    assert "has the rounds r0, r1 now" in capsys.readouterr().out
    assert maps(params)["turns"] == [("r1", {"prev": "r0"})]


def test_what_would_be_no_valid_settings_is_not_written(params):
    before = params.read_text().replace("turns:", "trns:")
    params.write_text(before)
    with pytest.raises(ValueError, match=r"params\.yaml:\d+: trns: there is no such key"):
        rounds.write_rounds(2, params)
    assert params.read_text() == before
    assert [path.name for path in params.parent.iterdir()] == ["params.yaml"]


@pytest.mark.parametrize("command", [("rounds", "2"), ("rollback", "--to", "0")])
def test_a_folder_without_settings_is_told_and_left_as_it_was(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        FileNotFoundError,
        match=r"params\.yaml: there is no such file\. Run this in the folder of a workspace, where `ratchet use reasoning` writes",
    ):
        commands.application()(command, standalone_mode=False)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("rounds", "turns"),
    [
        (["r0", "r1"], {}),
        (["r0"], {"r1": "r0"}),
        (["r0", "r2"], {"r2": "r0"}),
        (["r0", "r1", "r2"], {"r1": "r0", "r2": "r0"}),
        (["r1", "r0"], {"r1": "r0"}),
        ([], {}),
    ],
)
def test_rounds_that_are_no_chain_are_refused_with_what_would_do(params, rounds, turns):
    text = yaml.safe_load(params.read_text())
    text["rounds"] = {name: {} for name in rounds}
    text["turns"] = {name: {"prev": prev} for name, prev in turns.items()}
    params.write_text(yaml.safe_dump(text, sort_keys=False))
    with pytest.raises(ValueError, match=r"do not form a chain r0, r1, … .* `ratchet rounds NUMBER` writes both"):
        configuration.load(params)
