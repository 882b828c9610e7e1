"""A file of good and bad rows."""

import json
from pathlib import Path

import pytest

from tests.stages.ingest.running import PLURALS


@pytest.fixture
def rows(tmp_path) -> Path:
    """Thirty good rows, one duplicate, and one row for each fault that a line can have."""
    good = [
        {"prompt": f"{word} {number}?", "completion": f"{many}!"}
        for number in range(5)
        for word, many in PLURALS.items()
    ]
    lines = [json.dumps(row).encode() for row in good]
    lines += [
        lines[0],
        b'{"prompt": "a',
        b'["a"]',
        b'{"text": "a"}',
        b'{"prompt": "a", "completion": ""}',
        b"\xff\xfe",
        b"",
    ]
    lines += [b'{"prompt": "a", "completion": "' + b"long " * 2000 + b'"}']
    lines += [
        b'{"prompt": "a", "chosen": "b", "rejected": "b"}',
        b'{"messages": [{"role": "system", "content": "a"}, {"role": "user", "content": "b"}]}',
    ]
    file = tmp_path / "raw" / "rows.jsonl"
    file.parent.mkdir()
    file.write_bytes(b"\n".join(lines))
    return file
