"""A project's own pytest tests check its functions: mapped to what they call, run in the sandbox, trivial bodies refused."""

import textwrap
from functools import partial

import pytest

from tasks.core.records import Example, Refusal
from tasks.io import sandbox
from tasks.stages.ingest.config import Folder
from tasks.stages.ingest.mining import pytest_stand_in
from tasks.stages.ingest.mining.verification import verify_candidates
from tasks.stages.ingest.reading.examples import mine_functions, python_modules
from tests.stages.ingest.planting import plant

CODE = '''
    import math

    FACTOR = 2

    def half(x):
        """Half of `x`."""
        return x / FACTOR

    def root(x):
        """The square root; a negative number is refused."""
        if x < 0:
            raise ValueError(f"{x} is negative")
        return math.sqrt(x)

    def area(width, height):
        """The area of a rectangle."""
        return width * height

    def doubled(x):
        """Twice `x`.

        >>> doubled(2)
        4
        """
        return x * FACTOR

    def untested(x):
        """One more."""
        return x + 1

    def wrong(x):
        """Three more."""
        return x + 4

    def same(x):
        """The very same."""
        return x

    def undocumented(x):
        return x - 1

    def _private(x):
        """Nobody's."""
        return x - 2
'''
TESTS = """
    import pytest

    from planted import part
    from planted.part import half, root, same as unchanged, undocumented, wrong

    EIGHT = 8

    def twice(x):
        return x + x

    def test_half():
        assert half(twice(EIGHT)) == EIGHT
        assert half(1) == pytest.approx(0.5)

    def test_root_of_a_negative_number():
        with pytest.raises(ValueError, match="is negative"):
            root(-1)

    class TestRoot:
        def test_of_four(self):
            assert root(4) == 2

    @pytest.mark.parametrize(("width", "height", "expected"), [(1, 2, 2), (3, 4, 12)])
    def test_area(width, height, expected):
        assert part.area(width, height) == expected

    def test_with_a_fixture(tmp_path):
        assert part.untested(1) == 2

    @pytest.mark.skip
    def test_marked_otherwise():
        assert part.untested(1) == 2

    def test_wrong():
        assert wrong(1) == 4

    def test_same():
        assert unchanged(3) == 3

    def test_undocumented():
        assert undocumented(3) == 2

    def test_doubled():
        assert part.doubled(1) == 2
"""


@pytest.fixture
def project(tmp_path):
    package = plant(tmp_path, part=CODE)
    (package / "tests").mkdir()
    (package / "tests/test_part.py").write_text(textwrap.dedent(TESTS))
    return package


def mined(project, functions):
    source = Folder.model_validate({"from": "folder", "path": project, "functions": functions, "license": "MIT"})
    candidates = mine_functions(source, python_modules(source))
    records = verify_candidates(candidates, partial(sandbox.run, trusted=True))
    return {
        record.where if isinstance(record, Refusal) else record.source.rpartition(":")[2]: record for record in records
    }


def test_functions_that_the_projects_tests_call_are_verified(project):
    records = mined(project, "tested")
    kept = {name: record for name, record in records.items() if isinstance(record, Example)}
    assert {name: record.tests.kind for name, record in kept.items()} == {
        "half": "script", "root": "script", "area": "script", "doubled": "doctest",
    }  # fmt: skip
    refused = {name: record.reason for name, record in records.items() if isinstance(record, Refusal)}
    left = dict.fromkeys(("test_with_a_fixture", "test_marked_otherwise"), "test_left_out")
    assert refused == left | {"wrong": "fails_alone", "same": "trivial_passes"}
    assert "def twice" in kept["half"].tests.prelude
    assert "EIGHT = 8" in kept["half"].tests.prelude
    assert "test_area(width=3, height=4, expected=12)" in kept["area"].tests.code
    assert {record.license for record in kept.values()} == {"MIT"}
    assert '"""Half of `x`."""' in kept["half"].prompt[0].content.replace("\n    ", "")


LEFT = {
    "async def test_one():\n    assert half(2) == 1": "it is asynchronous",
    "def test_one(tmp_path):\n    assert half(2) == 1": "it takes fixtures: tmp_path",
    "@pytest.mark.skip\ndef test_one():\n    assert half(2) == 1": "it is decorated by pytest.mark.skip",
    "@pytest.mark.parametrize('x', VALUES)\ndef test_one(x):\n    assert half(x) == 1": "its parameters are not literals",
    "@pytest.mark.parametrize\ndef test_one():\n    assert half(2) == 1": "its parameters are not literals",
    "class TestOne(Base):\n    def test_one(self):\n        assert half(2) == 1": "its class has a base, a set-up",
    "class TestOne:\n    def setup_method(self):\n        pass\n    def test_one(self):\n        assert half(2) == 1": "a set-up",
    "def test_one():\n    assert half(2) == missing": "missing",
}


@pytest.mark.parametrize(("text", "why"), LEFT.items())
def test_a_test_that_checks_nothing_here_is_refused_with_its_reason(project, text, why):
    start = "import pytest\nfrom planted.part import half\n\n\n"
    (project / "tests/test_part.py").write_text(f"{start}def test_half():\n    assert half(4) == 2\n\n\n{text}\n")
    records = mined(project, "tested")
    (refused,) = (record for record in records.values() if isinstance(record, Refusal))
    assert why in refused.detail
    assert "test_one" in refused.where or refused.where == "TestOne"
    assert "test_half" in records["half"].tests.code


def test_methods_of_a_class_are_taken_one_by_one(project):
    text = """
        from planted.part import half

        class TestHalf:
            def test_four(self):
                assert half(4) == 2

            def test_file(self, tmp_path):
                assert half(2) == 1
    """
    (project / "tests/test_part.py").write_text(textwrap.dedent(text))
    records = mined(project, "tested")
    assert records["TestHalf().test_file"].reason == "test_left_out"
    assert "TestHalf().test_four()" in records["half"].tests.code
    assert "TestHalf().test_file()" not in records["half"].tests.code


def test_tests_refuse_wrong_programs(project):
    root = mined(project, "tested")["root"]
    programs = {
        "def root(x):\n    return x ** 0.5 if x >= 0 else [][0]": "failed",
        "import math\ndef root(x):\n    if x < 0:\n        raise ValueError('is negative')\n    return math.sqrt(x)": "passed",
        "def root(x):\n    raise ValueError('is negative')": "failed",
    }
    cases = [sandbox.Case(program, root.tests) for program in programs]
    verdicts = [verdict.kind == "passed" for verdict in sandbox.run(cases, trusted=True)]
    assert verdicts == [expected == "passed" for expected in programs.values()]


def test_functions_with_a_docstring_alone_are_taken_where_they_are_asked_for(project):
    records = mined(project, "documented")
    assert records["untested"].tests is None
    assert records["untested"].task == "function"
    assert records["half"].tests is not None
    assert "undocumented" not in records
    assert "_private" not in records


def test_by_default_doctests_alone_count(project):
    assert set(mined(project, "doctests")) == {"doubled"}


def test_the_stand_in_is_like_pytest():
    for expected, actual in ((0.3, 0.1 + 0.2), (1e-13, 0.0), ([1.0, 2.0], [1.0, 2.0 + 1e-7]), (100, 100.00001)):
        assert (actual == pytest_stand_in.approx(expected)) == (actual == pytest.approx(expected)) is True
    for expected, actual in ((0.3, 0.31), (1.0, 1.00001), ([1.0], [1.0, 1.0])):
        assert (actual == pytest_stand_in.approx(expected)) == (actual == pytest.approx(expected)) is False
    with pytest_stand_in.raises(KeyError) as caught:
        {}["a"]
    assert isinstance(caught.value, KeyError)
    with pytest.raises(AssertionError, match="did not raise"), pytest_stand_in.raises(KeyError):
        pass
    with pytest.raises(ZeroDivisionError), pytest_stand_in.raises(KeyError):
        raise ZeroDivisionError
    with pytest.raises(AssertionError, match="is not in"), pytest_stand_in.raises(ValueError, match="x"):
        raise ValueError("y")
