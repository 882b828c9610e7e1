"""The use of each file below a folder."""

import os
import threading
from pathlib import Path

from tasks.io.sources import folders


def test_a_pipe_in_a_folder_has_no_use_and_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jsonl")
    (tmp_path / "rows.jsonl").write_text('{"prompt": "a", "completion": "b"}\n')
    found: list[tuple[str, str]] = []

    def look() -> None:
        found.extend((path.name, folders.role(path)) for path in folders.walk(tmp_path))

    looking = threading.Thread(target=look, daemon=True)
    looking.start()
    looking.join(10)
    assert found == [("pipe.jsonl", "other"), ("rows.jsonl", "table")]
