"""Read the page of a report: its elements, its text, its scripts, and its packed data."""

import base64
import hashlib
import json
import re
import zlib
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

VOID = {"meta", "br", "img", "link", "input", "hr"}
CODE_TYPES = {"", "text/javascript", "module"}


class Page(HTMLParser):
    """The elements of a page, its links, its visible text, and the text of its scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self.scripts: list[tuple[dict[str, str | None], str]] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes += attrs
        self.text += " "
        if tag == "script":
            self.scripts.append((dict(attrs), ""))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes += attrs

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-1:] == ["script"]:
            attributes, text = self.scripts.pop()
            self.scripts.append((attributes, text + data))
        elif self.open[-1:] != ["style"]:
            self.text += data

    def values(self, name: str) -> list[str]:
        return [value or "" for attribute, value in self.attributes if attribute == name]

    @property
    def code(self) -> list[str]:
        """Return the scripts that a browser would run if the page's policy lets it."""
        return [text for attributes, text in self.scripts if (attributes.get("type") or "") in CODE_TYPES]

    @property
    def allowed(self) -> set[str]:
        """Return the hashes of the scripts that the page's policy allows."""
        (policy,) = (value for value in self.values("content") if value.startswith("default-src 'none'"))
        assert "unsafe-inline" not in policy.partition("script-src")[2].partition(";")[0]
        assert "unsafe-eval" not in policy
        return set(re.findall(r"'sha256-([^']+)'", policy))

    @property
    def charts(self) -> list[dict[str, Any]]:
        """Return the charts of the page."""
        (text,) = (text for attributes, text in self.scripts if attributes.get("id") == "charts")
        return json.loads(text)["charts"]

    @property
    def items(self) -> dict[str, Any]:
        """Return the table of items, by column."""
        (text,) = (text for attributes, text in self.scripts if attributes.get("id") == "items-data")
        return unpacked(text)

    @property
    def texts(self) -> list[dict[str, Any]]:
        """Return the texts of the items, in the order of the table."""
        blocks = [text for attributes, text in self.scripts if attributes.get("class") == "texts"]
        return [row for block in blocks for row in unpacked(block)]


def unpacked(text: str) -> Any:
    """Return the value that `packed` has packed."""
    return json.loads(zlib.decompress(base64.b64decode(text)))


def page(folder: Path) -> Page:
    """Return the page of a report."""
    return Page((folder / "index.html").read_text(encoding="utf-8"))


def own_scripts_alone(shown: Page) -> bool:
    """Return True if the policy allows exactly the scripts of the page, and no element or attribute runs another one."""
    hashes = {base64.b64encode(hashlib.sha256(code.encode()).digest()).decode() for code in shown.code}
    return hashes == shown.allowed and not [name for name, _ in shown.attributes if name.startswith("on")]
