"""A mistake in params.yaml is named with its line, what was found, and what would do; all of them at once."""

from typing import Annotated, Literal

import pytest
from pydantic import Field

from tasks.core.config import Config
from tasks.core.text import writing
from tasks.io import config_file


class Disk(Config):
    kind: Literal["disk"]
    path: str


class Net(Config):
    kind: Literal["net"]
    address: str
    retries: int = Field(3, ge=0)
    from_: str = Field("here", alias="from")


class Tune(Config):
    rank: int = Field(8, ge=1)
    rate: float = 0.1
    adapter: str = "lora"


class Server(Config):
    url: str
    model: str


class Rules(Config):
    rules: Literal["overlap"]
    margin: float = 0.2


class Empty(Config):
    pass


class Schema(Config):
    tune: Tune = Tune()
    sources: list[Annotated[Disk | Net, Field(discriminator="kind")]] = Field(default_factory=list)
    optional: Tune | None = None
    named: dict[str, Tune] = Field(default_factory=dict)
    either: Server | Rules | None = None
    empty: Empty = Empty()


@pytest.fixture
def read(tmp_path, monkeypatch):
    """The settings in a text, or the problems it has, one a line."""
    monkeypatch.chdir(tmp_path)

    def of(text):
        from pathlib import Path

        Path("params.yaml").write_text(text, encoding="utf-8")
        return config_file.read(Path("params.yaml"), Schema)

    return of


def problems(read, text):
    with pytest.raises(ValueError, match=r"params\.yaml") as caught:
        read(text)
    return str(caught.value).splitlines()


def test_a_good_file_is_read(read):
    config = read("tune: {rank: 2}\nsources:\n  - {kind: net, address: x}\n")
    assert config.tune == Tune(rank=2)
    assert config.sources == [Net(kind="net", address="x")]


def test_a_misspelt_key_has_its_line_and_a_near_match(read):
    assert problems(read, "# a comment\ntune:\n  rate: 1\n  rnak: 3\n") == [
        "params.yaml:4: tune.rnak: there is no such key. Did you mean rank?"
    ]


def test_a_key_like_no_other_gets_the_list(read):
    assert problems(read, "tune:\n  zzz: 3\n") == [
        "params.yaml:2: tune.zzz: there is no such key. Known: adapter, rank, rate."
    ]


def test_a_section_that_does_not_exist_is_named(read):
    assert problems(read, "tunes: {}\n") == ["params.yaml:1: tunes: there is no such key. Did you mean tune?"]


def test_all_problems_come_at_once(read):
    messages = problems(read, "tune:\n  rank: 0\n  rate: fast\n  extra: 1\nsources:\n  - {kind: disk}\n")
    assert [line.split(": ")[0:2] for line in messages] == [
        ["params.yaml:2", "tune.rank"],
        ["params.yaml:3", "tune.rate"],
        ["params.yaml:4", "tune.extra"],
        ["params.yaml:6", "sources.0.path"],
    ]


def test_a_value_out_of_range_or_of_another_type_is_shown(read):
    low, text = problems(read, "tune:\n  rank: 0\n  rate: fast\n")
    assert low == "params.yaml:2: tune.rank: Input should be greater than or equal to 1 (found 0)"
    assert text.startswith("params.yaml:3: tune.rate: Input should be a valid number")
    assert text.endswith("(found 'fast')")


class Asked(Config):
    server: writing.Server


@pytest.mark.parametrize(
    "key",
    [
        "sk-proj-abcDEF1234567890abcdEFGH1234567890",
        "hf_abcdEFGHijklMNOPqrstUVWXyzabCDEFgh",  # letters alone, as a name has
        "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",
        "ad699fc1f7cd5bb2e35cbf0f19c55706",
        "my key",
    ],
)
def test_a_key_in_place_of_its_variable_is_refused_and_not_shown(tmp_path, key):
    params = tmp_path / "params.yaml"
    params.write_text(f"server:\n  url: http://127.0.0.1:8000/v1\n  model: m\n  key: {key}\n")
    with pytest.raises(ValueError, match=r":4: server\.key: it is not the name of an environment variable") as told:
        config_file.read(params, Asked)
    assert key not in str(told.value)


@pytest.mark.parametrize("name", ["", "OPENAI_API_KEY", "AZURE_OPENAI_KEY_2", "AWS_BEARER_TOKEN_BEDROCK", "key"])
def test_the_variable_of_a_key_has_any_name(name):
    assert writing.Server(url="http://127.0.0.1:8000/v1", model="m", key=name).key == name


def test_a_password_that_is_refused_is_not_shown(tmp_path):
    params = tmp_path / "params.yaml"
    params.write_text("server:\n  url: https://me:planted@example.org/v1\n  model: m\n")
    with pytest.raises(ValueError, match=r":2: server\.url: it holds a password") as told:
        config_file.read(params, Asked)
    assert "planted" not in str(told.value)
    params.write_text(
        "server:\n  url: http://127.0.0.1:8000/v1\n  model: m\n  timeout_s: https://me:planted@example.org\n"
    )
    with pytest.raises(ValueError, match=r":4: server\.timeout_s: .*\*\*\*@example") as told:
        config_file.read(params, Asked)
    assert "planted" not in str(told.value)


def test_a_missing_key_is_reported_where_its_section_stands(read):
    assert problems(read, "tune: {}\nsources:\n  - kind: disk\n    path: x\n  - kind: net\n") == [
        "params.yaml:5: sources.1.address: this key is missing"
    ]


def test_a_member_of_a_union_is_chosen_by_its_kind_and_checked_as_that(read):
    assert problems(read, "sources:\n  - kind: net\n    address: x\n    retires: 1\n") == [
        "params.yaml:4: sources.0.retires: there is no such key. Did you mean retries?"
    ]


def test_the_keys_of_a_member_of_a_union_are_listed_as_the_file_spells_them(read):
    assert problems(read, "sources:\n  - kind: net\n    address: x\n    zzz: 1\n") == [
        "params.yaml:4: sources.0.zzz: there is no such key. Known: address, from, kind, retries."
    ]


def test_of_a_union_without_kinds_the_member_that_is_nearest_tells(read):
    assert problems(read, "either:\n  url: x\n") == ["params.yaml:1: either.model: this key is missing"]
    assert problems(read, "either:\n  rules: overlap\n  zzz: 1\n") == [
        "params.yaml:3: either.zzz: there is no such key. Known: margin, rules."
    ]


def test_a_section_without_keys_takes_none(read):
    assert problems(read, "empty:\n  zzz: 1\n") == [
        "params.yaml:2: empty.zzz: there is no such key. This section takes none."
    ]


def test_an_unknown_kind_lists_the_kinds(read):
    (line,) = problems(read, "sources:\n  - kind: tape\n")
    assert line.startswith("params.yaml:2: sources.0")
    assert "tape" in line
    assert "'disk', 'net'" in line


def test_keys_inside_an_optional_section_and_a_map_are_checked(read):
    assert problems(read, "optional:\n  rnak: 1\nnamed:\n  one:\n    rnak: 1\n") == [
        "params.yaml:2: optional.rnak: there is no such key. Did you mean rank?",
        "params.yaml:5: named.one.rnak: there is no such key. Did you mean rank?",
    ]


def test_a_key_said_twice_is_refused_with_both_lines(read):
    assert problems(read, "tune:\n  rank: 1\n  rate: 1\n  rank: 2\n") == [
        "params.yaml:4: tune.rank stands in line 2 already. Keep one."
    ]


def test_what_is_no_yaml_is_refused_with_its_line(read):
    (line,) = problems(read, "tune:\n  rank: 1\n rate: [\n")
    assert line.startswith("params.yaml:3: this is no YAML: ")


def test_what_is_no_text_is_refused(tmp_path):
    (tmp_path / "params.yaml").write_bytes(b"\xff\xfe\x00tune")
    with pytest.raises(ValueError, match=r"params\.yaml.*no YAML"):
        config_file.read(tmp_path / "params.yaml", Schema)


@pytest.mark.parametrize("text", ["", "# only a comment\n", "- a list\n", "just words\n"])
def test_a_file_without_sections_is_refused(read, text):
    (line,) = problems(read, text)
    assert "expected `section: …` lines" in line


def test_a_missing_file_says_what_writes_one(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere\.yaml: there is no such file.*ratchet use"):
        config_file.read(tmp_path / "nowhere.yaml", Schema)


def test_a_section_left_empty_is_named(read):
    (line,) = problems(read, "tune:\nsources: []\n")
    assert line.startswith("params.yaml:1: tune: ")
    assert line.endswith("(found None)")


def test_lines_of_keys_and_items_count_from_one(tmp_path):
    (tmp_path / "p.yaml").write_text("a:\n  b: 1\n\nc:\n  - x\n  - y: 2\n")
    raw, lines = config_file.parse(tmp_path / "p.yaml")
    assert raw == {"a": {"b": 1}, "c": ["x", {"y": 2}]}
    assert lines == {("a",): 1, ("a", "b"): 2, ("c",): 4, ("c", 0): 5, ("c", 1): 6, ("c", 1, "y"): 6}
