"""Calendar arithmetic on plain numbers."""


def is_leap_year(year):
    """Whether February has 29 days in that year.

    >>> is_leap_year(2024)
    True
    >>> is_leap_year(1900)
    False
    """
    return year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)


def clock(seconds):
    """A number of seconds as hours, minutes and seconds.

    >>> clock(3725)
    '1:02:05'
    """
    hours, rest = divmod(seconds, 3600)
    return f"{hours}:{rest // 60:02d}:{rest % 60:02d}"


def quarter(month):
    """The quarter of the year that a month belongs to.

    >>> quarter(1)
    1
    >>> quarter(12)
    4
    """
    return (month + 2) // 3


def century(year):
    """The century that a year belongs to.

    >>> century(1900)
    19
    >>> century(1901)
    20
    """
    return (year + 99) // 100
