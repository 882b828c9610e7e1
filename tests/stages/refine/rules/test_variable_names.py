"""Local variables are renamed by their role, and names that others can see are kept."""

import pytest

from tasks.stages.refine.rules.variable_names import rename_variables

BEFORE = "def f(xs):\n    res = []\n    for x in xs:\n        res.append(x)\n    return res\n"


def test_what_a_function_gathers_its_result_in_is_its_result():
    assert rename_variables(BEFORE, "") == BEFORE.replace("res", "result")


def test_pairs_of_a_mapping_and_errors_and_files_have_their_names():
    code = (
        "def f(d):\n    for k, v in d.items():\n        try:\n            g(k, v)\n        except OSError as e:\n            print(e)\n"
        "    with open(d) as fh:\n        return fh.read()\n"
    )
    new = rename_variables(code, "def g(*_): pass")
    assert "for key, value in d.items()" in new
    assert "except OSError as error:\n            print(error)" in new
    assert "with open(d) as file:\n        return file.read()" in new


@pytest.mark.parametrize(
    ("code", "around"),
    [
        ("def f(res):\n    res = []\n    return res\n", ""),  # a parameter: callers may name it
        (BEFORE, "result = 1"),  # taken by what runs beside it
        (BEFORE.replace("append(x)", "append(result)"), "result = 1"),
        ("def f(xs):\n    total_price = 0\n    return total_price\n", ""),  # says more than the role
        (BEFORE.replace("(x)", "(locals())"), ""),  # sees its own names
        ("def f(xs):\n    global res\n    res = []\n    return res\n", ""),
        ("def f(xs):\n    res = []\n    g(res=res)\n    return res\n", "def g(res): pass"),
        ("def f(xs):\n    res = []\n    print(f'{res=}')\n    return res\n", ""),
        ("def f(xs):\n    res = []\n    print(f'{res = !r:>9}')\n    return res\n", ""),
        ("res = 1\ndef f(xs):\n    res = []\n    return res\n", ""),
    ],
)
def test_a_name_that_others_can_see_stays(code, around):
    assert rename_variables(code, around) == code


def test_attributes_of_the_same_name_are_something_else():
    code = "def f(a):\n    res = []\n    res.append(a.res)\n    return res\n"
    assert rename_variables(code, "") == "def f(a):\n    result = []\n    result.append(a.res)\n    return result\n"
