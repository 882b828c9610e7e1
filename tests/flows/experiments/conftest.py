import json

import pytest


@pytest.fixture
def lines(tmp_path):
    """A function that writes rows to a file of JSON Lines of that name."""

    def write(name, rows):
        path = tmp_path / name
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return path

    return write
