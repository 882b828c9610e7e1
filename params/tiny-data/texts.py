"""Lines and words."""


def shorten(text, width):
    """The text, cut to `width` characters with a tilde at the end where it is longer.

    >>> shorten("a long sentence", 8)
    'a long ~'
    >>> shorten("short", 8)
    'short'
    """
    return text if len(text) <= width else text[: width - 1] + "~"


def title(text):
    """Each word with a capital letter.

    >>> title("the old mill")
    'The Old Mill'
    """
    return " ".join(word.capitalize() for word in text.split())


def wrap(text, width):
    """The words of a text in lines of at most `width` characters.

    >>> wrap("one two three four", 9)
    ['one two', 'three', 'four']
    """
    lines, line = [], ""
    for word in text.split():
        if line and len(line) + 1 + len(word) > width:
            lines.append(line)
            line = word
        else:
            line = f"{line} {word}".strip()
    return [*lines, line] if line else lines


def common_prefix(first, second):
    """The letters that two words begin with.

    >>> common_prefix("interval", "internal")
    'inter'
    """
    shared = ""
    for one, other in zip(first, second, strict=False):
        if one != other:
            break
        shared += one
    return shared
