"""Words letter by letter."""


def is_palindrome(text):
    """Whether a text reads the same from both ends, case and spaces aside.

    >>> is_palindrome("Never odd or even")
    True
    >>> is_palindrome("even")
    False
    """
    letters = text.replace(" ", "").lower()
    return letters == letters[::-1]


def snake_case(name):
    """A camel-case name with underscores.

    >>> snake_case("longestCommonPrefix")
    'longest_common_prefix'
    """
    return "".join("_" + letter.lower() if letter.isupper() else letter for letter in name).lstrip("_")


def initials(name):
    """The first letters of the parts of a name.

    >>> initials("Ada King Lovelace")
    'AKL'
    """
    return "".join(part[0].upper() for part in name.split())


def caesar(text, shift):
    """The small letters of a text moved along the alphabet.

    >>> caesar("xyz!", 3)
    'abc!'
    """
    moved = []
    for letter in text:
        if "a" <= letter <= "z":
            letter = chr((ord(letter) - ord("a") + shift) % 26 + ord("a"))
        moved.append(letter)
    return "".join(moved)
