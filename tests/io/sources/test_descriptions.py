"""Prose of the installation, without code and markup."""

import pytest

from tasks.io.sources import descriptions


def test_prose_is_what_remains_without_code_badges_and_links():
    text = """
[![build](https://x/badge.svg)](https://x)
# Title
See [the guide](https://x/guide) and `the manual <https://x/manual>`__.

```python
>>> 1 + 1
```
Last <b>line</b>.
>>> 2
.. image:: x.png
"""
    assert descriptions._prose(text) == "# Title\nSee the guide and the manual.\n\nLast line."


def test_named_distributions_come_with_version_and_licence():
    (description,) = descriptions.distributions(["pydantic"])
    assert description.name.startswith("pydantic 2.")
    assert description.license == "MIT"
    assert len(description.text) > 1000


def test_a_distribution_that_is_not_installed_is_reported():
    with pytest.raises(ValueError, match="'no-such-package' is not installed"):
        list(descriptions.distributions(["no-such-package"]))


def test_topics_and_data_set_descriptions_are_there():
    assert {"python", "scikit-learn"} == {
        text.name.split()[0] for text in (*descriptions.topics(), *descriptions.sklearn()) if text.text
    }
