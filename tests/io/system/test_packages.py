"""Files of an installed package are found; one that is not installed says how to get it."""

from importlib import metadata

import pytest

from tasks.io.system import packages


def test_the_version_is_the_installed_one():
    assert packages.version("polars", "fetch.model.name") == metadata.version("polars")


@pytest.mark.parametrize("ask", [packages.version, packages.files])
def test_a_missing_package_is_named_with_its_key_and_the_command(ask):
    with pytest.raises(
        ValueError, match=r"fetch\.model\.name: .*'no-such-thing' is not installed.*`pip install no-such"
    ):
        ask("no-such-thing", "fetch.model.name")


def test_files_are_those_of_the_package():
    installed = packages.files("polars", "key")
    assert installed == sorted(installed)
    assert all(path.is_absolute() for path in installed)
    assert any(path.parts[-2:] == ("polars", "__init__.py") and path.is_file() for path in installed)


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ("License-Expression: MIT\nClassifier: License :: OSI Approved :: BSD License", "MIT"),
        ("Classifier: License :: OSI Approved :: BSD License\nLicense: long text", "BSD License"),
        ("License: Apache-2.0\n  and more", "Apache-2.0"),
        ("License: ", "unknown"),
        ("Summary: none", "unknown"),
    ],
)
def test_the_licence_is_what_the_metadata_says(tmp_path, monkeypatch, headers, expected):
    info = tmp_path / "thing-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.4\nName: thing\nVersion: 1.0\n{headers}\n\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert packages.license_of("thing") == expected
