"""Texts below a folder; of an HTML page, its visible text."""

import gzip

from tasks.io.sources import folders
from tasks.io.sources.text import Text, Unreadable, folder, from_html

PAGE = """<!doctype html><html><head><title>T</title><style>p {}</style></head>
<body><nav><ul><li>Home</li></ul></nav>
<h1>Signals &amp;   noise</h1><p>One <b>bold</b> line
that goes on.</p><script>alert("no")</script><ul><li>first<li>second</ul>
<pre>  a = 1
    b = 2</pre><p>End</body></html>"""


def test_a_page_becomes_its_running_text():
    assert from_html(PAGE).split("\n") == [
        "Signals & noise", "", "One bold line that goes on.", "", "first", "second", "", "  a = 1", "    b = 2", "", "End",
    ]  # fmt: skip


def test_a_page_that_is_broken_still_reads():
    assert from_html("<p>a<script>x") == "a"
    assert from_html("</p></pre>a < b &lt; c <") == "a < b < c <"


def test_a_page_may_leave_out_the_end_of_its_head():
    head = "<!doctype html><html><head><title>T</title><script>s</script>"
    assert from_html(f"{head}<body>Words<p>more") == "Words\n\nmore"
    assert from_html(f"{head}<p>Words") == "Words"
    assert from_html("<head><noscript><p>no</noscript></head><p>Words") == "Words"
    assert from_html(f"{head}\n<center>Words</center> <a href='/'>and</a> <span>more</span>") == "Words and more"


def test_cells_and_options_are_words_of_their_own():
    assert from_html("<table><tr><th>Name<th>Age<tr><td>Ann</td><td>41</td></tr></table>") == "Name Age\nAnn 41"
    assert from_html("<select><option>a<option>b</select>") == "a\nb"


def test_a_link_that_only_leads_through_the_pages_is_left_out():
    assert (
        from_html('<h1><a rel="help noopener">View Source</a> Timers</h1><p>As <a href="t">T1</a> says')
        == "Timers\n\nAs T1 says"
    )
    assert (
        from_html('<p>Last<p><a rel=prev><b>Up</b></a> <a rel="next">Down</a><p>See <a rel>this</a>')
        == "Last\n\nSee this"
    )


def test_texts_come_in_order_and_unreadable_files_are_reported(tmp_path):
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "page.HTML").write_text("<p>page</p>")
    (tmp_path / "a.md").write_text("# Title")
    (tmp_path / "c.txt").write_bytes(b"\xff")
    (tmp_path / "d.pdf").write_bytes(b"%PDF")
    assert list(folder(tmp_path, "MIT")) == [
        Text("a.md", "# Title", "MIT"),
        Text("b/page.HTML", "page", "MIT"),
        Unreadable("c.txt", "line 1: not UTF-8: byte 1 of the line is 0xff", "unreadable file"),
        Unreadable("d.pdf", "this is not a readable PDF: Stream has ended unexpectedly", "unreadable file"),
    ]


def test_every_file_that_holds_text_is_a_text_and_every_other_has_its_reason(tmp_path):
    (tmp_path / "deep").mkdir()
    for name in ("README", "notes.org", "run.log", "page.xhtml", "sheet.adoc"):
        (tmp_path / name).write_text("<html><p>words</p></html>" if name == "page.xhtml" else "words of some length\n")
    (tmp_path / "deep/packed.md.gz").write_bytes(gzip.compress(b"# Packed"))
    (tmp_path / "main.rs").write_text("fn main() {}")
    (tmp_path / "photo.png").write_bytes(b"\x89PNG\r\n\x1a\n\x00")
    (tmp_path / "linked.csv").symlink_to(tmp_path / "deep")
    assert folders.role(tmp_path / "linked.csv") == "other"
    for name, data in {"own.py": b"x = 1", "rows.csv": b"a,b\n1,2\n3,4\n", "deep/.hidden.md": b"# Hidden"}.items():
        (tmp_path / name).write_bytes(data)
    items = {item.name: getattr(item, "text", "") or item.reason for item in folder(tmp_path, "MIT")}
    assert items == {
        "README": "words of some length",
        "deep/packed.md.gz": "# Packed",
        "linked.csv": "a link to a folder",
        "main.rs": "code",
        "notes.org": "words of some length",
        "page.xhtml": "words",
        "photo.png": "no text",
        "run.log": "words of some length",
        "sheet.adoc": "words of some length",
    }  # Python, tables and databases are read by other sources, and hidden files are not looked at
