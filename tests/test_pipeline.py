"""The graph says what the code does: declared inputs, outputs, settings and code are the real ones.

`python tests/test_pipeline.py --fix` rewrites the code under `deps` of dvc.yaml.
"""

import re
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))

from tasks import settings  # noqa: E402  # after the path, where this runs as a script

STAGES = settings.stage_names()
DVC = ROOT / "dvc.yaml"


def entry(stage: str) -> dict[str, list[str]]:
    """A stage of dvc.yaml, its template's body where it is one."""
    declared = yaml.safe_load(DVC.read_text())["stages"][stage]
    return declared.get("do", declared)


def in_dvc_words(path: str, items: str | None) -> str:
    """A path of a `Stage` as dvc.yaml's template writes it."""
    return re.sub(r"\{(\w+)\}", lambda key: "${key}" if key[1] == "item" else "${item." + key[1] + "}", path)


def code_of(stage: str) -> list[str]:
    """The code a stage runs, in dvc.yaml's words: chosen methods by template, all else by import."""
    files = {path.as_posix() for path in settings.closure(stage)}
    parts = {f"tasks/methods/{family}/${{{place}}}.py" for family, place in settings.declaration(stage).parts.items()}
    return sorted(files | parts)


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_depends_on_the_code_it_imports(stage, monkeypatch):
    monkeypatch.chdir(ROOT)
    declared = [path for path in entry(stage)["deps"] if path.startswith("tasks/")]
    assert declared == code_of(stage), "run: python tests/test_pipeline.py --fix"


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_depends_on_the_files_it_reads(stage):
    declared = [path for path in entry(stage)["deps"] if not path.startswith("tasks/")]
    stated = settings.declaration(stage)
    assert declared == [in_dvc_words(path, stated.items) for path in stated.reads.values()]


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_makes_the_files_it_writes(stage):
    made = entry(stage)["outs"] + entry(stage).get("metrics", [])
    stated = settings.declaration(stage)
    assert sorted(made) == sorted(in_dvc_words(path, stated.items) for path in stated.writes.values())


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_depends_on_the_sections_it_is_given(stage):
    sections = set(settings.settings_type(stage).model_fields) - {"methods"}
    parts = {f"methods.${{{place}}}" for place in settings.declaration(stage).parts.values()}
    assert set(entry(stage)["params"]) == sections | parts


@pytest.mark.parametrize("stage", STAGES)
def test_nothing_switches_the_run_cache_off(stage):
    # DVC silently stops reusing earlier runs of a stage with any of these (dvc/stage/cache.py).
    text = yaml.safe_dump(entry(stage))
    assert "persist" not in text
    assert "always_changed" not in text
    assert "cache: false" not in text
    assert entry(stage)["deps"]


def test_commands_name_nothing_of_the_environment():
    for stage in STAGES:
        command = entry(stage)["cmd"]
        assert re.fullmatch(rf"python -m tasks\.run {stage}( \$\{{key\}})?", command)


def fix() -> None:
    """Write the code dependencies into dvc.yaml, keeping its comments and order."""
    from ruamel.yaml import YAML

    editor = YAML()
    editor.width, editor.preserve_quotes = 120, True
    editor.indent(mapping=2, sequence=4, offset=2)
    graph = editor.load(DVC)
    for stage in STAGES:
        found = graph["stages"][stage]
        found = found.get("do", found)
        found["deps"] = [path for path in found["deps"] if not path.startswith("tasks/")] + code_of(stage)
    editor.dump(graph, DVC)


if __name__ == "__main__":
    if "--fix" not in sys.argv:
        sys.exit(__doc__)
    fix()
