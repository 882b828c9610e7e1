"""Whole numbers."""


def digits(number):
    """The decimal digits of a number, from the left.

    >>> digits(4076)
    [4, 0, 7, 6]
    """
    return [int(digit) for digit in str(abs(number))]


def is_prime(number):
    """Whether a number has exactly two divisors.

    >>> [number for number in range(12) if is_prime(number)]
    [2, 3, 5, 7, 11]
    """
    if number < 2:
        return False
    return all(number % divisor for divisor in range(2, int(number**0.5) + 1))


def divisors(number):
    """All divisors of a number, the smallest first.

    >>> divisors(12)
    [1, 2, 3, 4, 6, 12]
    """
    return [divisor for divisor in range(1, number + 1) if number % divisor == 0]


def collatz(number):
    """The steps of the Collatz sequence down to one.

    >>> collatz(6)
    [6, 3, 10, 5, 16, 8, 4, 2, 1]
    """
    steps = [number]
    while number != 1:
        number = 3 * number + 1 if number % 2 else number // 2
        steps.append(number)
    return steps
