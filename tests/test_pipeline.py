"""The graph says what the code does: declared inputs, outputs, settings and code are the real ones.

`python tests/test_pipeline.py --fix` rewrites the code under `deps` of dvc.yaml.
"""

import re
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))

from tasks import configuration, methods  # noqa: E402  # after the path, where this runs as a script

STAGES = configuration.stage_names()
DVC = ROOT / "dvc.yaml"


def entry(stage: str) -> dict[str, list[str]]:
    """A stage of dvc.yaml, its template's body where it is one."""
    declared = yaml.safe_load(DVC.read_text())["stages"][stage]
    return declared.get("do", declared)


def in_dvc_words(path: str, items: str | None) -> str:
    """A path of a `Stage` as dvc.yaml's template writes it."""
    return re.sub(r"\{(\w+)\}", lambda key: "${key}" if key[1] == "item" else "${item." + key[1] + "}", path)


def code_of(stage: str) -> list[str]:
    """The code a stage runs, in dvc.yaml's words: the folders of chosen methods by template, all else by import."""
    files = {path.as_posix() for path in configuration.closure(stage)}
    parts = {f"tasks/methods/{family}/${{{place}}}" for family, place in configuration.declaration(stage).parts.items()}
    return sorted(files | parts)


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_depends_on_the_code_it_imports(stage, monkeypatch):
    monkeypatch.chdir(ROOT)
    declared = [path for path in entry(stage)["deps"] if path.startswith("tasks/")]
    assert declared == code_of(stage), "run: python tests/test_pipeline.py --fix"


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_depends_on_the_files_it_reads(stage):
    declared = [path for path in entry(stage)["deps"] if not path.startswith("tasks/")]
    stated = configuration.declaration(stage)
    assert declared == [in_dvc_words(path, stated.items) for path in stated.reads.values()]


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_makes_the_files_it_writes(stage):
    made = entry(stage)["outs"]
    stated = configuration.declaration(stage)
    assert sorted(made) == sorted(in_dvc_words(path, stated.items) for path in stated.writes.values())


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_depends_on_the_sections_it_is_given(stage):
    sections = set(configuration.stage_config_type(stage).model_fields) - {"methods"}
    parts = {f"methods.${{{place}}}" for place in configuration.declaration(stage).parts.values()}
    assert set(entry(stage)["params"]) == sections | parts


def test_what_dvc_shows_as_metrics_is_the_level_and_the_change_of_each_model():
    # A stage's own metrics are dozens of columns, and `dvc exp show` has no room for those that matter beside them.
    assert yaml.safe_load(DVC.read_text())["metrics"] == ["data/report/metrics.json"]
    assert not any("metrics" in entry(stage) for stage in STAGES)


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


FOLDERS = {
    (family, name): f"tasks/methods/{family}/{name}" for family in methods.families() for name in methods.names(family)
}
IMPORTERS = {
    "tasks/methods/objectives/fait/__init__.py": {"faults", "report"},
    "tasks/methods/objectives/fait/column.py": {"faults"},
    "tasks/methods/objectives/fait/encode.py": {"faults"},
    "tasks/methods/objectives/fait/marks.py": {"faults", "report"},
}
"""Stages that import a file of a method whatever they choose: one makes FAIT's pairs, one shows them."""
CHOICES = range(max(len(methods.names(family)) for family in methods.families()))


def chosen(family: str, number: int) -> str:
    """The method of a family that is chosen in the settings of this number: each is, in some of `CHOICES`."""
    known = methods.names(family)
    return known[number % len(known)]


def folders_chosen(stage: str, number: int) -> set[str]:
    """The folders of the methods that a stage composes under the settings of this number."""
    return {FOLDERS[family, chosen(family, number)] for family in configuration.declaration(stage).parts}


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    """A DVC repository of this graph, in which a test may write what it likes."""
    from dvc.repo import Repo

    folder = tmp_path_factory.mktemp("workspace")
    for name in ("dvc.yaml", "params.yaml", ".dvcignore"):
        shutil.copy(ROOT / name, folder)
    shutil.copytree(ROOT / "tasks/methods", folder / "tasks/methods")
    Repo.init(str(folder), no_scm=True).close()
    return folder


def in_dvc_view(folder: Path) -> dict[str, list]:
    """The dependencies of each stage, those of its first item where it has several, as DVC resolves them."""
    from dvc.repo import Repo

    with Repo(str(folder)) as repo:
        return {stage.name.split("@")[0]: stage.deps for stage in reversed(list(repo.index.stages))}


@pytest.mark.parametrize("number", CHOICES)
def test_a_file_of_a_method_changes_the_stages_whose_settings_choose_it_and_no_others(workspace, number):
    everything = yaml.safe_load((ROOT / "params/workstation.yaml").read_text())
    for stage in STAGES:
        for family, place in configuration.declaration(stage).parts.items():
            section, key = place.split(".")
            everything.setdefault(section, {})[key] = chosen(family, number)
    (workspace / "params.yaml").write_text(yaml.safe_dump(everything))
    view = in_dvc_view(workspace)
    assert view.keys() == set(STAGES)
    paths = {stage: [Path(dep.fs_path).relative_to(workspace) for dep in deps] for stage, deps in view.items()}
    folders = {stage: folders_chosen(stage, number) for stage in STAGES}
    for method, folder in FOLDERS.items():
        choosing = {stage for stage in STAGES if folder in folders[stage]}
        for file in (ROOT / folder).glob("*.py"):
            places = {Path(folder, file.name), *Path(folder, file.name).parents}
            touched = {stage for stage in STAGES if not places.isdisjoint(paths[stage])}
            assert touched == choosing | IMPORTERS.get(f"{folder}/{file.name}", set()), (method, file.name)


def test_a_folder_changes_for_dvc_with_each_of_its_files_but_not_by_being_imported(workspace):
    folder = workspace / "tasks/methods/optimizers/adamw"
    (workspace / "params.yaml").write_text((ROOT / "params/workstation.yaml").read_text())

    def seen() -> str:
        (dep,) = [dep for dep in in_dvc_view(workspace)["tune"] if Path(dep.fs_path) == folder]
        return dep.get_hash().value

    before = seen()
    (folder / "__pycache__").mkdir(exist_ok=True)
    (folder / "__pycache__/method.cpython-311.pyc").write_bytes(b"compiled")
    assert seen() == before
    for file in methods.FILES:
        text = (folder / file).read_text()
        (folder / file).write_text(text + "# edited\n")
        assert seen() != before, file
        (folder / file).write_text(text)
    assert seen() == before


@pytest.mark.parametrize("stage", STAGES)
def test_the_key_of_a_stage_has_the_files_of_the_methods_it_chooses_and_of_no_others(stage, monkeypatch):
    monkeypatch.chdir(ROOT)
    shared = {path.as_posix() for path in configuration.closure(stage)}
    for number in CHOICES:
        config = SimpleNamespace()
        for family, place in configuration.declaration(stage).parts.items():
            section, key = place.split(".")
            vars(vars(config).setdefault(section, SimpleNamespace()))[key] = chosen(family, number)
        files = {path.as_posix() for path in configuration.code(stage, config)}
        of_methods = {file for file in files if any(file.startswith(f"{folder}/") for folder in FOLDERS.values())}
        in_folders = {
            f"{folder}/{path.name}" for folder in folders_chosen(stage, number) for path in (ROOT / folder).glob("*.py")
        }
        assert of_methods == in_folders | {file for file, stages in IMPORTERS.items() if stage in stages}
        assert files - of_methods <= shared, "what DVC does not see cannot run a stage anew"


@pytest.mark.parametrize("stage", ["pretrain", "tune"])
def test_a_training_depends_on_faits_files_only_where_it_chooses_fait(stage, monkeypatch):
    monkeypatch.chdir(ROOT)
    of_fait = set(Path("tasks/methods/objectives/fait").glob("*.py"))
    assert {path.name for path in of_fait} == {
        "__init__.py",
        "config.py",
        "method.py",
        "column.py",
        "encode.py",
        "marks.py",
    }
    assert not of_fait & {*configuration.closure(stage)}
    for objective in methods.names("objectives"):
        training = SimpleNamespace(
            **{family.removesuffix("s"): "none" for family in ("bases", "expanders", "adapters", "sparsifiers")}
        )
        vars(training).update(selector="all", optimizer="adamw", objective=objective)
        chosen_files = of_fait & {*configuration.code(stage, SimpleNamespace(**{stage: training}))}
        assert chosen_files == (of_fait if objective == "fait" else set())


def fix() -> None:
    """Write the code dependencies into dvc.yaml, keeping its comments and order."""
    from ruamel.yaml import YAML

    editor = YAML()
    editor.width, editor.preserve_quotes = 120, True
    editor.indent(mapping=2, sequence=4, offset=2)
    graph = editor.load(DVC)
    for stage in STAGES:
        declared = graph["stages"][stage]
        declared = declared.get("do", declared)
        declared["deps"] = [path for path in declared["deps"] if not path.startswith("tasks/")] + code_of(stage)
    editor.dump(graph, DVC)


if __name__ == "__main__":
    if "--fix" not in sys.argv:
        sys.exit(__doc__)
    fix()
