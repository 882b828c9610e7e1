"""Tools of a shop that reckons prices: names that look alike, results that follow from the arguments alone."""

CURRENCIES = {"dollar": 1.1, "pound": 0.85, "yen": 160.0, "franc": 0.95}


def price_net(price, rate):
    """The price without the tax in it."""
    return f"{price * 100 / (100 + rate):.2f}"


def price_gross(price, rate):
    """The price with a tax on it."""
    return f"{price * (100 + rate) / 100:.2f}"


def price_tax(price, rate):
    """The tax on a price."""
    return f"{price * rate / 100:.2f}"


def price_off(price, percent):
    """The price after a cut."""
    return f"{price * (100 - percent) / 100:.2f}"


def price_up(price, percent):
    """The price after a rise."""
    return f"{price * (100 + percent) / 100:.2f}"


def price_each(total, count):
    """The price of one of several."""
    return f"{total / count:.2f}"


def price_all(price, count):
    """The price of several."""
    return f"{price * count:.2f}"


def price_in(price, currency):
    """The price in another currency."""
    return f"{price * CURRENCIES[currency]:.2f}"
