"""Prompts that were answered, as tables that `ratchet monitor` reads: `<monitor.incoming>/served-<day>.jsonl`."""

import errno
import json
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from flows.gateway.requests import Request
from tasks.configuration import PipelineConfig


class PromptLog:
    """A file for each day, a line for each prompt. Answers are left out, because a monitor would measure the model's own output."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def append(self, request: Request) -> None:
        """Append the prompt of a request in one write, so that a kill leaves whole lines. `"store": false` keeps it out.

        Raises OSError if it cannot be written completely; a partial line is removed, as the next prompt would continue it.
        """
        row = _row(request)
        if row is None or request.body.get("store") is False:
            return
        path = self._folder / f"served-{datetime.now(UTC):%Y-%m-%d}.jsonl"
        line = json.dumps(row, ensure_ascii=False).encode("utf-8", "replace") + b"\n"
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            if (written := os.write(descriptor, line)) < len(line):
                os.ftruncate(descriptor, os.fstat(descriptor).st_size - written)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        finally:
            os.close(descriptor)


def opened(config: PipelineConfig) -> PromptLog | None:
    """Return the log that the config asks for. Raises ValueError if it asks for one without naming a folder."""
    if not config.serve.log_prompts:
        return None
    folder = config.monitor.incoming
    if folder is None or folder.is_file() or folder.suffix:
        raise ValueError(
            f"serve.log_prompts: prompts are written to the folder `monitor.incoming`, and that is {folder or 'not set'}. "
            "Set it, for instance to data/incoming."
        )
    return PromptLog(folder)


def _row(request: Request) -> dict[str, Any] | None:
    """Return a prompt as `ingest` takes it, with its tools; None of one that is no text."""
    if request.endpoint == "completions":
        prompt = request.body["prompt"]
        return {"prompt": prompt} if isinstance(prompt, str) else None
    tools = {"tools": request.body["tools"]} if request.body.get("tools") else {}
    return {"messages": [_as_text(message) for message in request.body["messages"]]} | tools


def _as_text(message: Mapping[str, Any]) -> dict[str, Any]:
    """Return a message whose content is a text: of parts, those that are."""
    content = message.get("content")
    if isinstance(content, list):
        content = " ".join(str(part["text"]) for part in content if isinstance(part.get("text"), str))
    return {**message, "content": content}
