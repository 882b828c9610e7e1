"""Code of a repository: tracked files whose licence is allowed; every other file is named with its reason."""

import json
import os
import subprocess

import pytest

from tasks.core.licenses import expressions
from tasks.io.sources import repository
from tasks.io.sources.text import Text

MIT = (
    "MIT License\n\nPermission is hereby granted, free of charge, to any person obtaining a copy\n\n"
    "The above copyright notice and this permission notice shall be included in all copies."
)
GPL = "GNU GENERAL PUBLIC LICENSE\nVersion 3, 29 June 2007"
ALLOWED = ("MIT", "Apache-2.0")


def git(folder, *arguments):
    identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
    done = subprocess.run(["git", "-C", folder, *identity, *arguments], check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture
def project(tmp_path):
    files = {
        "LICENSE": MIT.encode(), "src/main.rs": b"fn main() {}\n", "src/a b.go": b"package main\n",
        "vendor/COPYING": GPL.encode(), "vendor/v.c": b"int x;\n",
        "vendor/free.c": b"// SPDX-License-Identifier: Apache-2.0 OR GPL-3.0-only\nint y;\n",
        "logo.png": b"\x89PNG\0\0", "app.min.js": b"x" * 5000, "gen.py": b"# Code generated. DO NOT EDIT.\n",
        "old.txt": b"caf\xe9\n",
    }  # fmt: skip
    for name, data in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(data)
    (tmp_path / "link.rs").symlink_to("/etc/passwd")
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "all")
    (tmp_path / "untracked.rs").write_text("fn secret() {}")
    (tmp_path / "src/main.rs").write_text("changed")
    return tmp_path


def test_tracked_files_with_an_allowed_licence(project):
    files = list(repository.files(project, git(project, "rev-parse", "HEAD"), ALLOWED))
    texts = {file.name: (file.text, file.license) for file in files if isinstance(file, Text)}
    assert texts == {
        "LICENSE": (MIT, "MIT"),
        "src/main.rs": ("fn main() {}\n", "MIT"),
        "src/a b.go": ("package main\n", "MIT"),
        "vendor/free.c": (
            "// SPDX-License-Identifier: Apache-2.0 OR GPL-3.0-only\nint y;\n",
            "Apache-2.0 OR GPL-3.0-only",
        ),
    }
    assert {file.name: file.reason for file in files if not isinstance(file, Text)} == {
        "vendor/COPYING": "licence not allowed", "vendor/v.c": "licence not allowed", "logo.png": "binary file",
        "app.min.js": "generated file", "gen.py": "generated file", "old.txt": "not UTF-8", "link.rs": "a link",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("expression", "allowed"),
    [
        ("MIT", True), ("GPL-3.0-only", False), ("MIT OR GPL-3.0-only", True), ("MIT AND GPL-3.0-only", False),
        ("(MIT OR GPL-2.0-only) ", True), ("Apache-2.0 WITH LLVM-exception", True), ("unknown", False),
        ("(MIT OR Apache-2.0) AND GPL-3.0-only", False), ("MIT OR (Apache-2.0 AND GPL-3.0-only)", True), ("MIT AND ours", False),
    ],
)  # fmt: skip
def test_expressions_of_licences(expression, allowed):
    assert expressions.is_met(expression, frozenset(ALLOWED)) is allowed


def test_what_is_no_repository_is_refused(tmp_path):
    with pytest.raises(ValueError, match="git cannot read"):
        list(repository.files(tmp_path, "0" * 40, ALLOWED))


@pytest.mark.parametrize("damage", [b"", b"no object"])
def test_a_damaged_object_costs_its_file_alone(project, damage):
    objects = {file.name: file for file in (project / ".git/objects").glob("??/*")}
    for path in ("src/main.rs", "vendor/COPYING", "src/a b.go"):
        file = objects[git(project, "rev-parse", f"HEAD:{path}")[2:]]
        if path == "src/a b.go":
            file.unlink()
        else:
            file.chmod(0o600)
            file.write_bytes(damage)
    files = list(repository.files(project, git(project, "rev-parse", "HEAD"), ALLOWED))
    assert [file.name for file in files if isinstance(file, Text)] == ["LICENSE", "vendor/free.c"]
    damaged = {
        file.name: file.detail for file in files if not isinstance(file, Text) and file.reason == "damaged object"
    }
    assert sorted(damaged) == ["src/a b.go", "src/main.rs", "vendor/COPYING"]
    assert all("git fsck" in detail for detail in damaged.values())


def test_contents_of_which_a_part_is_damaged_are_not_taken_for_all(project):
    """The head of the object is whole, so git says how long it is and then ends."""
    (project / "long.rs").write_bytes(os.urandom(30_000).hex().encode())
    git(project, "add", "long.rs")
    git(project, "commit", "-qm", "long")
    name = git(project, "rev-parse", "HEAD:long.rs")
    file = project / ".git/objects" / name[:2] / name[2:]
    data = file.read_bytes()
    file.chmod(0o600)
    file.write_bytes(data[: len(data) // 2])
    (found,) = [file for file in repository.files(project, "HEAD", ALLOWED) if file.name == "long.rs"]
    assert not isinstance(found, Text)
    assert found.reason == "damaged object"


def test_a_name_that_nobody_knows_is_compared_as_it_is_written():
    assert expressions.is_met("Our Licence 2", frozenset(["our licence 2"]))
    assert expressions.is_met("MIT AND LicenseRef-ours", frozenset(["MIT", "licenseref-ours"]))
    assert not expressions.is_met("Our Licence 2", frozenset(["MIT"]))


def test_an_expression_that_is_allowed_allows_its_licences_together_alone():
    allowed = frozenset(["MIT AND Apache-2.0"])
    assert expressions.is_met("mit and apache-2.0", allowed)
    assert not expressions.is_met("Apache-2.0", allowed)


@pytest.mark.parametrize(
    ("files", "license"),
    [
        ({"LICENSE": "all rights reserved", "LICENSE-THIRD-PARTY": MIT}, "unknown"),
        ({"LICENSE-MIT": MIT, "LICENSE-GPL": GPL}, "GPL-3.0-only OR MIT"),
        ({"COPYING": GPL, "LICENSE.md": MIT}, "GPL-3.0-only AND MIT"),
        (
            {"COPYING": GPL, "LICENSE": "SPDX-License-Identifier: Apache-2.0 OR MIT\n"},
            "(Apache-2.0 OR MIT) AND GPL-3.0-only",
        ),
    ],
)
def test_the_licence_of_a_folder_with_several_files(files, license):
    assert repository._chosen({name: repository.identify(text) for name, text in files.items()}) == license


def test_a_notebook_is_its_cells(project):
    cells = [{"cell_type": "markdown", "source": "# Rain"}, {"cell_type": "code", "source": ["x = 1"], "outputs": [{}]}]
    (project / "a.ipynb").write_text(json.dumps({"cells": cells}))
    (project / "b.ipynb").write_text("{}")
    git(project, "add", "a.ipynb", "b.ipynb")
    git(project, "commit", "-qm", "notebooks")
    files = {file.name: file for file in repository.files(project, git(project, "rev-parse", "HEAD"), ALLOWED)}
    assert files["a.ipynb"] == Text("a.ipynb", "# Rain\n\n```python\nx = 1\n```", "MIT", "without 1 outputs of cells")
    assert files["b.ipynb"].reason == "unreadable file"


@pytest.mark.parametrize(
    ("header", "license"),
    [
        ("<!-- SPDX-License-Identifier: MIT -->", "MIT"),
        ("/* SPDX-License-Identifier: (GPL-2.0-only OR MIT) */", "(GPL-2.0-only OR MIT)"),
        ('"""SPDX-License-Identifier: LGPL-2.1+"""', "LGPL-2.1+"),
        ("{- SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception -}", "Apache-2.0 WITH LLVM-exception"),
        ("/* SPDX-License-Identifier: MIT */ int x;", "MIT"),
        ("(* SPDX-License-Identifier: MIT *)", "MIT"),
        ('# SPDX-License-Identifier: "GPL-3.0-only"', "GPL-3.0-only"),
        ("# SPDX-License-Identifier: MIT\n# SPDX-License-Identifier: ISC OR 0BSD", "MIT AND (ISC OR 0BSD)"),
    ],
)
def test_the_end_of_a_comment_is_no_part_of_a_licence(header, license):
    assert repository.identify(f"{header}\ncode") == license


@pytest.mark.parametrize(
    ("code", "license"),
    [
        ("X = 'SPDX-License-Identifier: %s' % x", "MIT"),
        ('printf("SPDX-License-Identifier: %s\\n", name);', "MIT"),
        ('TAG = "SPDX-License-Identifier:"', "MIT"),
        ("HEADER = re.compile(r'SPDX-License-Identifier:\\s*(.*)')", "MIT"),
        ("# REUSE-IgnoreStart\nprint('SPDX-License-Identifier: ISC')\n# REUSE-IgnoreEnd", "MIT"),
        ("# REUSE-IgnoreStart\nx\n# REUSE-IgnoreEnd\n# SPDX-License-Identifier: ISC", "MIT AND ISC"),
        ('__license__ = "SPDX-License-Identifier: (ISC OR 0BSD)"', "MIT AND ((ISC OR 0BSD))"),
        ('"""SPDX-License-Identifier:"""', "MIT AND unknown"),
        ("# SPDX-License-Identifier: %LICENSE%", "MIT AND LICENSE"),
    ],
)
def test_a_string_of_code_without_a_licence_is_no_header(code, license):
    assert repository.identify(f"# SPDX-License-Identifier: MIT\n{code}\n") == license


@pytest.mark.parametrize(
    "named", ["`GPL-3.0-only`", "MIT / GPL-3.0-only", "MIT, GPL-3.0-only", "MIT & GPL-3.0-only", ""]
)
def test_a_header_that_names_another_licence_is_not_that_of_the_folder(project, named):
    (project / "theirs.py").write_text(f"# SPDX-License-Identifier: {named}\nx = 1\n")
    git(project, "add", ".")
    git(project, "commit", "-qm", "theirs")
    files = {file.name: file for file in repository.files(project, git(project, "rev-parse", "HEAD"), ["MIT"])}
    assert files["theirs.py"].reason == "licence not allowed"
