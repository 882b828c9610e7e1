"""What every method's folder owes."""

import importlib
import subprocess
import sys
from pathlib import Path
from typing import Protocol

import pytest

from tasks import methods
from tasks.core.config import Config, descriptions

ROOT = Path(__file__).resolve().parents[2]
EVERY = [(family, name) for family in methods.families() for name in methods.names(family)]
HEAVY = {"torch", "peft", "transformers"}


@pytest.mark.parametrize(("family", "name"), EVERY)
def test_a_method_has_defaults_for_all_its_settings(family, name):
    config = methods.spec(family, name).config
    assert issubclass(config, Config)
    config()
    assert descriptions(config).keys() == config.model_fields.keys(), "every setting has a docstring below it"


@pytest.mark.parametrize(("family", "name"), EVERY)
def test_a_method_is_a_spec_and_a_record_of_its_family(family, name):
    records = vars(importlib.import_module(f"tasks.methods.{family}")).values()
    kinds = tuple(kind for kind in records if isinstance(kind, type) and kind.__module__ == f"tasks.methods.{family}")
    specs = tuple(kind for kind in kinds if issubclass(kind, methods.Spec))
    assert isinstance(methods.spec(family, name), specs)
    assert isinstance(
        methods.load(family, name), tuple(k for k in kinds if k not in specs and Protocol not in k.__bases__)
    )


@pytest.mark.parametrize(("family", "name"), EVERY)
def test_the_functions_of_a_method_agree_with_its_spec(family, name):
    spec, method = methods.spec(family, name), methods.load(family, name)
    merges = [("merges", "merge")] if family == "adapters" else []  # the engine merges the deltas of selectors
    for fact, function in (*merges, ("acts_between_steps", "on_step"), ("takes_turns", "turns")):
        assert getattr(spec, fact, False) == (getattr(method, function, None) is not None), fact


@pytest.mark.parametrize(("family", "name"), EVERY)
def test_a_method_is_a_card_settings_and_functions(family, name):
    card = importlib.import_module(f"tasks.methods.{family}.{name}")
    assert card.__doc__
    assert not [line for line in Path(card.__file__).read_text().splitlines() if line.startswith(("import", "from"))]


def test_no_two_methods_with_settings_share_a_name():
    assert methods.configs().keys() == {name for _, name in EVERY}


def loaded_by(statements):
    """The heavy libraries that a fresh process has in memory after these statements."""
    code = f"import sys\nfrom tasks import methods\n{statements}\nprint(*{HEAVY} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_settings_and_facts_of_all_methods_are_read_without_torch():
    assert loaded_by(f"for each in {EVERY}: methods.spec(*each), methods.describe(*each)\nmethods.configs()") == []


def test_what_people_ask_curators_and_monitors_needs_no_torch():
    chosen = [(family, name) for family, name in EVERY if family in ("curators", "monitors")]
    assert loaded_by(f"for each in {chosen}: methods.load(*each)") == []


@pytest.mark.parametrize(
    "statements",
    [
        "from flows.commands.methods import methods as show\nsys.stdout = sys.stderr\nshow(None)\nsys.stdout = sys.__stdout__",
        "from flows.commands import doctor\nlist(doctor._gpu_support())",
        f"sys.path.insert(0, {str(ROOT / 'docs')!r})\nimport generate\ngenerate.catalogue(), generate.settings_page.page()",
        "import flows, importlib, pkgutil\n"
        "for module in pkgutil.walk_packages(flows.__path__, 'flows.'):\n"
        "    if not module.name.endswith('__main__'): importlib.import_module(module.name)",
    ],
    ids=["ratchet methods", "ratchet doctor --gpus", "docs/generate.py", "all of flows"],
)
def test_lists_of_methods_need_no_torch(statements):
    assert loaded_by(statements) == []


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Methods of another folder: `place("fruits", "apple", rank=1)` writes one, of these settings."""
    monkeypatch.setattr(methods, "ROOT", tmp_path)
    monkeypatch.setattr(methods, "__path__", [str(tmp_path)])

    def write(family, name, **config):
        folder = tmp_path / family / name
        folder.mkdir(parents=True)
        for package in (folder.parent, folder):
            (package / "__init__.py").touch()
        fields = "\n".join(f"    {key}: int = {value}" for key, value in config.items()) or "    pass"
        (folder / "config.py").write_text(
            "from tasks.core import config\nfrom tasks.methods import Spec\n\n\n"
            f"class ExampleConfig(config.Config):\n{fields}\n\n\nSPEC = Spec(config=ExampleConfig)\n"
        )
        (folder / "method.py").write_text("METHOD = 1\n")
        return folder

    yield write
    for module in [name for name in sys.modules if name.startswith(("tasks.methods.fruits", "tasks.methods.trees"))]:
        del sys.modules[module]


@pytest.mark.parametrize("file", ["config.py", "method.py"])
def test_a_folder_that_lacks_a_file_is_refused_by_its_name(place, file):
    (place("fruits", "apple") / file).unlink()
    for read in (methods.spec, methods.load):
        with pytest.raises(ValueError, match=rf"tasks/methods/fruits/apple has no {file}\. A method's folder holds"):
            read("fruits", "apple")


def test_a_folder_without_code_is_no_method(place):
    (place("fruits", "apple").parent / "pear" / "__pycache__").mkdir(parents=True)
    assert methods.names("fruits") == ["apple"]
    assert methods.load("fruits", "apple") == 1


def test_one_section_cannot_be_of_two_methods(place):
    place("fruits", "apple", rank=1)
    place("trees", "oak")
    assert set(methods.configs()) == {"apple", "oak"}
    place("trees", "apple")
    with pytest.raises(ValueError, match=r"fruits and trees both have a method 'apple', and `methods\.apple`"):
        methods.configs()


def test_methods_without_settings_may_share_a_name(place):
    place("fruits", "none")
    place("trees", "none")
    assert set(methods.configs()) == {"none"}
