"""Programs are found in answers, and two that say the same are told as one."""

import ast

import pytest

from tasks.core.text.programs import block_end, essence, header, locate, program, remarks, without_docstrings


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("```python\nx = 1\n```", "x = 1"),
        ("Here:\n\n```py\nx = 1\ny = 2\n```\nThat is all.", "x = 1\ny = 2"),
        ("```\nx = 1", "x = 1"),
        ("x = 1\n", "x = 1\n"),
        ("```python\nfirst\n```\n```python\nsecond\n```", "first"),
    ],
)
def test_the_program_is_the_first_block_or_all_there_is(text, code):
    start, end = locate(text)
    assert program(text) == text[start:end] == code


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("1. Do:\n   ```python\n   def f():\n       return 1\n   ```\nDone", "def f():\n    return 1"),
        ("- Do:\n\t```\n\tx = 1\n\t```", "x = 1"),
        ("Steps:\n\n1. ```python\n   def f():\n       return 1\n   ```\n2. Done", "def f():\n    return 1"),
        ("- ```python\n  x = 1\n  ```\n- Done", "x = 1"),
        ("  10) ~~~\n      x = 1\n      ~~~\nDone", "x = 1"),
        ("* ```\n  x = 1", "x = 1"),
        ("- ```python\n    def f():\n        return 1\n    ```\nDone", "def f():\n    return 1"),
        ("1.\t```python\n\tx = 1\n\t```\nDone", "x = 1"),
        ('1. ```\ndef f():\n    """\n    ```\n    """\n```\nDone', 'def f():\n    """\n    ```\n    """'),
        ("  ```\n  x = 1\n```\nDone", "x = 1"),
        ("   ```\ndef f():\n  return 1\n   ```", "def f():\n  return 1"),
        ("```python\r\nx = 1\r\ny = 2\r\n```\r\nDone", "x = 1\r\ny = 2"),
        ('```python title="x"\nx = 1\n```', "x = 1"),
        ("``` python\nx = 1\n```", "x = 1"),
        ("~~~python\nx = '```'\n```\n~~~", "x = '```'\n```"),
        ("Here: ```python\nx = 1\n```", "x = 1"),
        ("Use ``` or\n```python\nx = 1\n```", "x = 1"),
        ("Use ```x``` as\n```python\nx = 1\n```", "x = 1"),
        ("Title\n~~~~~\n```\nx = 1\n```", "x = 1"),
        ("````markdown\n```python\nx = 1\n```\n````", "```python\nx = 1"),
        ('```python\nx = """\n    ```\n    y\n    ```\n    \n"""\n```', 'x = """\n    ```\n    y\n    ```\n    \n"""'),
    ],
)
def test_fences_may_be_indented_annotated_and_of_other_line_ends(text, code):
    assert program(text) == code


@pytest.mark.parametrize(
    ("answer", "in_reasoning", "end"),
    [
        ("```python\nx\n``` Done", False, 15),
        ("```python\nx", False, None),
        ('```python\n"""\n    ```\n"""\n```\n', False, 29),
        ("A draft:\n```\nx\n```", True, None),
        ("No.\n</think>\n\n```\nx\n``` Done", True, 23),
    ],
)
def test_the_block_of_a_program_ends_behind_its_fence_and_behind_the_reasoning(answer, in_reasoning, end):
    assert block_end(answer, in_reasoning) == end


@pytest.mark.parametrize(
    "other",
    [
        "def f( x ):\n\n    return x+1  # one more",
        'def f(x):\n    """One more."""\n    return x + 1',
        "def f(x): return (x + 1)",
    ],
)
def test_comments_docstrings_and_layout_say_nothing(other):
    assert essence(other) == essence("def f(x):\n    return x + 1\n")


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_comments_and_docstrings_are_found_where_they_stand(end):
    code = end.join(
        [
            "# é𝔘 at the top",
            "def f(x='# no comment'):",
            "    '''é: of",
            "    two lines.'''",
            "    y = 'no docstring'  # \x0c\u2028 beside",
            "    return y",
            "class C: 'é'; x = 'x'  # last",
        ]
    )
    texts = [code[start:stop] for start, stop in remarks(code)]
    assert texts == [
        "# é𝔘 at the top", f"\'\'\'é: of{end}    two lines.\'\'\'", "# \x0c\u2028 beside", "'é'", "# last",
    ]  # fmt: skip


def test_a_docstring_alone_is_a_body_that_does_nothing():
    assert essence('def f():\n    """Nothing."""') == essence("def f():\n    pass")


def test_another_name_is_another_program():
    assert essence("def f(x):\n    return x") != essence("def f(y):\n    return y")


@pytest.mark.parametrize("code", ["def f(:", "x = '\0'", "(" * 500 + ")" * 500, "x" + " + x" * 5000])
def test_what_is_no_python_is_said_so(code):
    with pytest.raises(SyntaxError):
        essence(code)


def test_docstrings_go_and_all_else_stays_as_it_is():
    code = 'def f(x):\n    """One\n\n    more."""\n    # here\n    return  x+1\n\ndef g():\n    """Nothing."""\n'
    assert without_docstrings(code) == 'def f(x):\n    # here\n    return  x+1\n\ndef g():\n    """Nothing."""\n'


@pytest.mark.parametrize(
    ("code", "top"),
    [
        ("def f(a: int = 1) -> int: return a", "def f(a: int = 1) -> int:"),
        ("def f(a='é:',\n      b=2): return a", "def f(a='é:',\n      b=2):"),
        ("def f(a):  # why: so\n    # more: so\n\n    return a", "def f(a):  # why: so"),
        ("def f(a):\n    @a[1:2]\n    def g(): return a\n    return g", "def f(a):"),
        ("class A: b = 1", "class A:"),
    ],
)
def test_the_header_of_a_definition_ends_where_its_body_begins(code, top):
    assert header(code, ast.parse(code).body[0]) == top
