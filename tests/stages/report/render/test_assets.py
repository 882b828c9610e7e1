"""Libraries on the page are those that were vendored, with their licences, and nothing else may run."""

import hashlib
import json
from importlib.resources import files

import pytest

from tasks.stages.report.render import assets

VENDOR = files("tasks.stages.report.render") / "vendor"
LISTED = json.loads((VENDOR / "vendored.json").read_text())


@pytest.mark.parametrize("name", LISTED)
def test_a_vendored_file_is_what_its_package_has(name):
    assert hashlib.sha256((VENDOR / name).read_bytes()).hexdigest() == LISTED[name]["sha256"]
    assert (VENDOR / LISTED[name]["license_file"]).is_file()


def test_every_vendored_file_is_listed_and_used():
    licences = {facts["license_file"] for facts in LISTED.values()}
    assert {file.name for file in VENDOR.iterdir()} == {*LISTED, *licences, "vendored.json"}
    assert {*assets.SCRIPTS, assets.STYLE} == set(LISTED)


def test_no_script_can_end_its_element():
    for script in assets.scripts():
        assert "</script" not in script.lower()
        assert "<!--" not in script
        assert "\r" not in script


def test_expressions_of_charts_are_interpreted_and_not_compiled():
    interpreter = assets.scripts()[assets.SCRIPTS.index("vega-interpreter.js")]
    assert "vega.expressionInterpreter = expression;" in interpreter
    assert "import " not in interpreter
    assert "unsafe-eval" not in assets.content_policy()


def test_licences_go_with_the_libraries():
    names = {library.name for library in assets.libraries()}
    assert names == {"tabulator-tables", "vega", "vega-lite", "vega-interpreter"}
    assert all("Permission" in one.license_text or "Redistribution" in one.license_text for one in assets.libraries())
