"""The number of an answer is read from what people and models write around it."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.core.answers.choice import Choice
from tasks.core.answers.number import last_number
from tests.core.answers.grading import graded, unfit


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("Natalia sold 48/2 = <<48/2=24>>24 clips.\n#### 72", 72),
        ("#### 1,234.50 dollars, of 3 people", Fraction("1234.5")),
        ("He pays $5, then $1,250.", 1250),
        ("It is 3.", 3),
        ("the answer is 12 km/h", 12),
        ("So 45% of them", 45),
        ("-7 degrees", -7),
        ("from 3-4", None),  # a range, no minus sign
        ("at 10:30", None),
        ("#### 10:30", None),
        ("3:1", None),
        ("2024-01-05", None),
        ("01/05/2024", None),
        ("05.01.2024", None),
        ("version 1.2.3", None),
        ("$5-$10", None),
        ("1,234-2,345", None),
        ("from 10:30 on, 12", 12),
        ("20-5=15", 15),
        ("5 ± 0.1", 5),
        (r"$5.0 \pm 0.1$", 5),
        ("5.5 kg +/- 0.25 kg", Fraction(11, 2)),
        ("2 or ±3", 3),
        ("minus − 2.5", Fraction(-5, 2)),
        ("3/4 of it", Fraction(3, 4)),
        ("1 1/2 cups", Fraction(3, 2)),
        (r"\boxed{\frac{2}{3}}, as 7 shows", Fraction(2, 3)),
        ("12 345 678 people", 12_345_678),
        ("2 000 and 5", 5),
        (".5", Fraction(1, 2)),
        ("6.02e23", Fraction("6.02e23")),
        ("1/0", 1),
        ("H2O and x1", None),
        ("none", None),
        ("####", None),
        ("", None),
    ],
)
def test_the_last_number_of_a_text(text, number):
    assert last_number(text) == number


def test_decimals_may_be_marked_by_a_comma():
    assert last_number("Das macht 1.234,5 Euro", ",") == Fraction("1234.5")
    assert graded({"kind": "number", "decimal": ","}, "2,5", "es sind 2,50").score == 1


@given(st.integers(-(10**9), 10**9))
def test_a_number_is_read_with_and_without_thousands(number):
    assert last_number(f"It is {number:,}.") == last_number(f"so {number} in all") == number


def test_a_tolerance_is_absolute_or_relative():
    assert graded("number", "#### 3.14", "3.1416").verdict == "wrong"
    assert graded({"kind": "number", "tolerance": 0.01}, "#### 3.14", "3.1416").verdict == "passed"
    assert graded({"kind": "number", "relative": 0.1}, "100", "it is 110") == (1.0, "passed", "110", False)
    assert graded({"kind": "number", "relative": 0.1}, "100", "it is 111").verdict == "wrong"
    assert graded("number", "5", "I do not know").verdict == "no number"
    assert unfit("number", "no idea") == "no number"


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("#### Step 1: think\n1+1\n#### Step 2: Add\n40+2=42\nThe answer is 42.", 42),
        ("#### Step 2: Add\n40+2\n\\boxed{42}", 42),
        ("#### 72\n#### Note\nin 3 steps", 72),
        ("#### **72**, of 3", 72),
        ("#### $-72, of 3", -72),
        (r"#### \boxed{\frac{1}{2}}, of 3", Fraction(1, 2)),
        ("####\n72\nof 3", 72),
        ("#### Answer: 42 (of 100)", 42),
        ("#### x = 42\nChecked in 2 steps", 42),
        ("#### Total: $42 for 3 apples", 42),
        ("#### The answer is 42. It took 3 steps.", 42),
        ("#### The answer is - 42, of 3", -42),
        ("#### 2. Final\nThe answer is 42", 42),
        ("#### **2) Steps**\n- Add 1.\n\nThe answer is 42", 42),
        ("#### 42. It took 3 steps.", 42),
        ("#### Step 2\nThe answer is 42", 42),
        ("#### Step 1: 40 + 2\nThe answer is 42", 42),
        ("#### Calculations:\n1. Add 3 and 4: 7\n2. Double: 42\n\nIn all **42**", 42),
        ("#### Calculation:\n6 × 7 = 42\n\nIt is \\boxed{42}", 42),
        ("#### Calculation: 6 boxes × 7 = 42\nSo he has 42", 42),
        ("#### Given: 20 red, 22 blue\nTotal: 42", 42),
        ("#### Option A: $50\n#### Option B: $8\n\nThe **answer** is 42", 42),
        ("#### Answer: 40 + 2 = 42", 42),
        ("#### Answer: 50 - 8 = 42", 42),
        ("#### Answer: $50 - $8 = $42", 42),
        ("#### Answer: 8 - 50 = -42", -42),
        ("#### Total: 50 apples - 8 apples = 42 apples", 42),
        ("#### Answer: 42 - since 6 × 7 = 42, in 3 steps", 42),
        ("#### Answer: 42\n\nCheck: 42 / 6 = 7", 42),
        ("#### 42\n#### Explanation: 3 steps", 42),
    ],
)
def test_the_mark_counts_before_a_number_or_its_label_and_is_a_heading_before_words(text, number):
    assert last_number(text) == number


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("Result:\n- 42", 42),
        ("Result:\n  – 42", 42),
        ("Answer - 42", 42),
        ("**Total** – 42", 42),
        ("1 - 1/2", Fraction(1, 2)),
        ("- 42", -42),
        ("Result:\n-42", -42),
        ("x = - 42", -42),
        ("#### - 42", -42),
        (r"\boxed{- 42}", -42),
        ("The answer is - 42", -42),
        ("Temperature is - 42 °C", -42),
        ("The answer is\n- 42", -42),
        ("x =\n- 42", -42),
        ("The answers are\n- 41\n- 42", 42),
        ("10 - 42", 42),
    ],
)
def test_a_dash_of_a_list_or_after_a_word_is_no_sign_unless_the_word_is_a_verb(text, number):
    assert last_number(text) == number


@pytest.mark.parametrize("text", [r"\boxed{1{,}000}", r"$1,\!000$", r"1\,000"])
def test_thousands_of_latex_are_read(text):
    assert last_number(text) == 1000


@pytest.mark.parametrize(
    "text",
    ["1'234'567", "1’234’567", "12,34,567", "1_234_567", "1٬234٬567", "1 234 567", "so 1,234,567 or 12,34,567."],
)
def test_thousands_are_read_as_several_countries_write_them(text):
    assert last_number(text) == 1_234_567


@pytest.mark.parametrize(
    "text",
    [
        "½ of it",
        "1⁄2",
        r"\boxed{\frac12}",
        r"\frac1{2}",
        r"#### \dfrac12, of 3",
        "#### ½",
    ],
)
def test_a_half_is_read_from_its_sign_and_from_short_latex(text):
    assert last_number(text) == Fraction(1, 2)


def test_a_sign_of_a_fraction_behind_a_number_is_added():
    assert last_number("1½ cups") == last_number("1 ½") == last_number("1 1⁄2") == -last_number("-1½") == Fraction(3, 2)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("10^6", 10**6),
        ("10⁶ people", 10**6),
        ("3 × 10^6.", 3 * 10**6),
        ("3x10^6m", 3 * 10**6),
        ("#### 3 × 10⁶", 3 * 10**6),
        ("#### Answer: 3 × 10^6 of 7", 3 * 10**6),
        (r"\boxed{1.5 \times 10^{-4}\text{ m}^2}", Fraction("1.5e-4")),
        ("1.5·10⁻⁴", Fraction("1.5e-4")),
        ("2 * 10**3", 2000),
        ("5 × 10^2 = 500", 500),
        ("5 × 10 = 50", 50),
        ("it is 10 of 6", 6),
    ],
)
def test_a_power_of_ten_is_what_it_is(text, number):
    assert last_number(text) == number
    assert graded("number", text, str(number)).score == 1


@given(st.integers(-999, 999), st.integers(-99, 99))
def test_a_power_of_ten_is_the_same_however_it_is_written(number, power):
    raised = str(power).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    ways = (
        f"= {number} × 10^{power}",
        rf"= ${number} \times 10^{{{power}}}$",
        f"= {number}·10{raised}.",
        f"{number}e{power}",
    )
    assert {last_number(way) for way in ways} == {Fraction(number) * Fraction(10) ** power}


@pytest.mark.parametrize(
    "text",
    ["5 m^2.", "5 cm^{3}", r"\boxed{5\text{ cm}^2}", r"5\ \mathrm{m/s}^{2}", "5 m/s^2", "5 kg·s^-2", "5 square units"],
)
def test_the_exponent_of_a_unit_is_no_answer(text):
    assert last_number(text) == 5


def test_decimals_of_latex_are_read():
    assert last_number(r"es sind $1{,}5$", ",") == Fraction(3, 2)


@pytest.mark.parametrize(
    "text",
    [
        "9" * 4400,
        "0." + "3" * 4400,
        "1/" + "3" * 4400,
        "1 1/" + "3" * 4400,
        "9" * 4290 + "e999",
        r"\frac{1}{" + "3" * 4400 + "}",
    ],
    ids=lambda text: text[:8],
)
def test_what_is_longer_than_any_number_ends_nothing(text):
    assert graded("number", "5", f"5 {text}").score in (0, 1)
    assert graded("number", f"5, not {text}", "2").score == 0
    assert last_number("9" * 4400) is None


def test_a_choice_of_many_digits_is_none():
    values = {"question": "Where?", "choices": ["Paris", "Rome"], "answer": "9" * 4400}
    assert Choice(options="choices").reshape(values).reason == "choices without the right one"


@pytest.mark.parametrize(
    ("reference", "answer", "is_right"),
    [
        ("1500000", "1.5 million", True),
        ("1.5 million", "It is $1,500,000.", True),
        ("2 million", "2 thousand", False),
        ("3 billion", "3 million", False),
        ("3 million", "3,000 Thousand", True),
        ("2 million", "2", True),
        ("#### 2", "2 million", True),
        ("#### 2", "3 million", False),
        ("2 million", r"\boxed{2\text{ million}}", True),
        ("1 1/2 million", "1500000", True),
        ("5 lakh", "-500000", False),
        ("2 millionths", "2000000", False),
    ],
)
def test_a_number_may_be_multiplied_by_a_word(reference, answer, is_right):
    assert graded("number", reference, answer).score == is_right


def test_a_tolerance_is_that_of_the_number_with_its_word():
    assert graded({"kind": "number", "relative": 0.1}, "2 million", "1.9e6").score == 1
    assert graded({"kind": "number", "tolerance": 1}, "2 million", "3.5 million").score == 0
