"""Test pages in a headless Chromium at widths of 360, 800 and 1440 pixels, dark and light.

    python docs/screenshots.py data/report/index.html     reports
    python docs/screenshots.py http://127.0.0.1:5000/     pages of MLflow or Prefect: only pictures
    python docs/screenshots.py --review                   the review page, over an example made for it
    python docs/screenshots.py --pictures                 the picture of the review page in the documentation
    python docs/screenshots.py --as report-items data/report/index.html#items
                                                          one of a report or a server's page: docs/pages/images/report-items.webp

A report is opened, checked by axe-core, operated like a person would, and printed. The exit code is 1 if the console has an error, the page
sends a network request, axe-core has a serious finding, or an operation fails. axe-core is downloaded from npm once.
"""

import hashlib
import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, get_args

import typer

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from docs import review_example  # noqa: E402  # the path comes first, where this runs as a script
from docs.browser import Page, opened  # noqa: E402
from flows.review_page.entries import View  # noqa: E402

WIDTHS = (360, 800, 1440)
IMAGES = ROOT / "docs/pages/images"
PICTURE = IMAGES / "review.png"
WINDOW, WIDE = (1100, 800), (1600, 560)
"""Width and height of pictures in the documentation: of reports, and of servers' tables."""
CLOSED = "document.querySelectorAll('[data-component-id=\"mlflow.assistant.chat_panel.close\"], [role=alert] [aria-label=Close]').forEach((one) => one.click())"
"""A script that closes the panels that MLflow shows beside its table on a first visit."""
PICTURE_BYTES = 150_000
AXE = ROOT / ".ratchet/axe-core/package/axe.min.js"
AXE_VERSION = "4.14.1"
AXE_DIGEST = "29348999450cdf2849a8e70b7912fc2da85a849da39c0d0d5394f51d4a9ed95c"
SECTIONS = ("items", "training", "data", "settings")
"""Sections with a picture of their own, besides the picture of the whole page."""
SETTLED = """new Promise((done) => {
  let last = '', same = 0, looks = 0;
  const look = () => {
    const now = document.body.innerText;
    same = now && now === last ? same + 1 : 0;
    last = now;
    same >= 16 || ++looks > 240 ? done(now.length) : setTimeout(look, 250);
  };
  look();
})"""
"""A script that waits until the text of a page has not changed for four seconds, or for a minute at most."""
SERIOUS = ("serious", "critical")
DRAWN = """(async () => {
  for (const figure of document.querySelectorAll('figure[data-chart]')) {
    figure.scrollIntoView();
    for (let waited = 0; !figure.dataset.drawn && figure.offsetParent && waited < 40; waited++) await new Promise((done) => setTimeout(done, 25));
  }
  scrollTo(0, 0);
})()"""
UNFOLDED = "document.querySelectorAll('details').forEach((part) => { part.open = true; })"
READY = "new Promise(done => { const look = () => !document.getElementById('items-table') || document.getElementById('items-table').dataset.ready ? done(performance.now()) : setTimeout(look, 20); look(); })"
WIDER = "[...document.querySelectorAll('body *')].filter(e => e.getBoundingClientRect().right > innerWidth + 1 && !e.closest('.wide, pre, .tabulator, svg')).slice(0, 3).map(e => e.outerHTML.slice(0, 80))"
AUDIT = "axe.run(document, {resultTypes: ['violations']}).then(r => r.violations.map(v => [v.impact, v.id, v.help, v.nodes.slice(0, 3).map(n => n.html.slice(0, 140) + ' ' + n.failureSummary).join('  ')]))"
USED = """(async () => {
  const wait = (ms) => new Promise((done) => setTimeout(done, ms)), wrong = [];
  const say = (holds, words) => holds || wrong.push(words);
  const press = (key) => document.dispatchEvent(new KeyboardEvent('keydown', {key, bubbles: true}));
  if (!document.getElementById('items-table')) return wrong;
  const item = document.getElementById('item'), rows = () => document.querySelectorAll('.tabulator-row').length;
  say(rows() > 0, 'the table has no row');
  press('j'); await wait(300);
  say(!item.hidden && location.hash.startsWith('#item='), 'j opens no item');
  const first = item.textContent;
  press('j'); await wait(300);
  if (rows() > 1) say(item.textContent !== first, 'a second j opens no other item');
  const search = document.getElementById('items-search');
  search.value = 'no item has this word'; search.dispatchEvent(new Event('input')); await wait(900);
  say(rows() === 0, 'a search for what nothing holds finds something');
  search.value = ''; search.dispatchEvent(new Event('input')); await wait(900);
  say(rows() > 0, 'an emptied search does not bring the rows back');
  for (const sort of ['worst', 'best', 'random', '']) {
    const select = document.getElementById('items-sort');
    select.value = sort; select.dispatchEvent(new Event('change')); await wait(200);
    say(rows() > 0, `order ${sort} has no row`);
  }
  return wrong;
})()"""

EDITING = """(async () => {
  document.querySelector('[data-key=e]')?.click();
  document.querySelector('[data-key=n]')?.click();
  for (let waited = 0; document.querySelector('[data-key=e]') && !document.querySelector('textarea') && waited < 200; waited++) await new Promise((done) => setTimeout(done, 25));
  scrollTo(0, 0);
})()"""
MARK = """(() => {
  const mark = document.querySelector('.plot svg path[aria-label]');
  mark?.scrollIntoView({block: 'center'});
  const box = mark?.getBoundingClientRect();
  return box && [box.x + box.width / 2, box.y + box.height / 2];
})()"""


def main(
    pages: Annotated[list[str] | None, typer.Argument(help="Files of reports, or addresses of servers' pages.")] = None,
    to: Annotated[Path, typer.Option(help="The folder of the pictures.")] = Path(".ratchet/screenshots"),
    review: Annotated[bool, typer.Option("--review", help="The review page.")] = False,
    pictures: Annotated[bool, typer.Option("--pictures", help="Write the picture of the documentation.")] = False,
    name: Annotated[str, typer.Option("--as", help="Write one picture of this name for the documentation.")] = "",
) -> None:
    """Test pages, and write pictures of them."""
    problems, to = [], to.resolve()
    with opened() as page:
        if name:
            (place,) = pages or ()
            _illustrate(page, place, IMAGES / f"{name}.webp")
            return
        for place in pages or ():
            if "://" in place:
                _take(page, place, to)
            else:
                problems += [f"{place}: {problem}" for problem in _look(page, Path(place).resolve(), to)]
        if review or pictures:
            with review_example.served() as address:
                if review:
                    problems += [f"review page: {problem}" for problem in _look_at_review(page, address, to)]
                if pictures:
                    page.show(1100, 1000)
                    page.open(address)
                    page.picture(PICTURE)
    for problem in problems:
        print(problem)
    sys.exit(bool(problems))


def _take(page: Page, address: str, to: Path) -> None:
    """Take pictures of a server's page, and print the messages of its console, which are no failure since the page is not Ratchet's."""
    name = re.sub(r"\W+", "-", re.sub(r"^\w+://[^/]*", "", address)).strip("-")[:80] or "index"
    for width in WIDTHS:
        for dark in (False, True):
            page.show(width, dark=dark)
            page.open("about:blank")  # a page that differs after the # alone would not load again
            page.open(address)
            page.errors.clear()
            length = page.evaluate(SETTLED)
            scheme = "dark" if dark else "light"
            page.picture(to / f"{name}-{width}-{scheme}.png")
            said = [error for error in page.errors if not error.startswith("asked for ")]
            print(f"{address}, {width} px, {scheme}: {length} characters; console: {'; '.join(said) or 'nothing'}")


def _illustrate(page: Page, place: str, picture: Path) -> None:
    """Write a picture of a report or of a server's page for the documentation. Raises ValueError if it is too large for git."""
    page.show(*(WIDE if "://" in place else WINDOW))
    if "://" in place:
        page.open(place)
        page.evaluate(SETTLED)
        page.evaluate(CLOSED)
        page.evaluate(SETTLED)
    else:
        path, _, part = place.partition("#")
        page.open(Path(path).resolve().as_uri())
        page.evaluate(READY)
        page.evaluate(DRAWN)
        page.evaluate(f"document.getElementById({json.dumps(part)})?.scrollIntoView()")
    page.picture(picture)
    if (size := picture.stat().st_size) > PICTURE_BYTES:
        raise ValueError(f"{picture} has {size:,} bytes, more than {PICTURE_BYTES:,}.")


def _look(page: Page, path: Path, to: Path) -> Iterator[str]:
    """Yield the problems of a page."""
    name = path.resolve().parent.name
    for width in WIDTHS:
        for dark in (False, True):
            page.errors.clear()
            page.show(width, dark=dark)
            began = time.perf_counter()
            page.open(path.resolve().as_uri())
            loaded = time.perf_counter() - began
            ready = page.evaluate(READY)
            page.evaluate(DRAWN)
            where = f"{width} px, {'dark' if dark else 'light'}"
            print(f"{path}, {where}: opened in {loaded:.2f} s, items ready after {ready / 1000:.2f} s")
            page.picture(to / f"{name}-{width}-{'dark' if dark else 'light'}.png", whole=True)
            page.evaluate(UNFOLDED)
            for section in SECTIONS:
                page.evaluate(f"document.getElementById('{section}')?.scrollIntoView()")
                page.picture(to / f"{name}-{width}-{'dark' if dark else 'light'}-{section}.png")
            yield from _faults(page, where)
            yield from (f"{where}: {wrong}" for wrong in page.evaluate(USED))
            if place := page.evaluate(MARK):
                page.call("Input.dispatchMouseEvent", type="mouseMoved", x=place[0], y=place[1])
                if page.evaluate("document.getElementById('tip').hidden"):
                    yield f"{where}: a chart does not answer to the mouse"
            page.evaluate("document.getElementById('item')?.scrollIntoView()")
            page.picture(to / f"{name}-{width}-{'dark' if dark else 'light'}-item.png")
            yield from (f"{where}: console: {error}" for error in page.errors)
    page.printed(to / f"{name}.pdf")


def _look_at_review(page: Page, address: str, to: Path) -> Iterator[str]:
    """Yield the problems of the review page's views, with an editor open in each view that has one."""
    for width in WIDTHS:
        for dark in (False, True):
            page.show(width, dark=dark)
            for view in get_args(View):
                page.errors.clear()
                where = f"{width} px, {'dark' if dark else 'light'}, {view}"
                page.open(f"{address}?view={view}")
                page.evaluate(EDITING)
                page.picture(to / f"review-{width}-{'dark' if dark else 'light'}-{view}.png", whole=True)
                yield from _faults(page, where)
                own = f"asked for {address}"
                yield from (f"{where}: console: {error}" for error in page.errors if not error.startswith(own))


def _faults(page: Page, where: str) -> Iterator[str]:
    """Yield the elements that are wider than the window, and the serious findings of axe-core."""
    yield from (f"{where}: wider than the window: {element}" for element in page.evaluate(WIDER))
    page.evaluate(axe())
    for impact, rule, words, elements in page.evaluate(AUDIT):
        if impact in SERIOUS:
            yield f"{where}: axe-core, {impact}: {rule}: {words}: {elements}"


def axe() -> str:
    """Return axe-core, downloaded from npm if it is missing. Raises ValueError if its digest differs."""
    if not AXE.is_file():
        folder = AXE.parents[1]
        folder.mkdir(parents=True, exist_ok=True)
        subprocess.run(["npm", "pack", "--silent", f"axe-core@{AXE_VERSION}"], cwd=folder, check=True)
        shutil.unpack_archive(folder / f"axe-core-{AXE_VERSION}.tgz", folder, filter="data")
    text = AXE.read_bytes()
    if (digest := hashlib.sha256(text).hexdigest()) != AXE_DIGEST:
        raise ValueError(
            f"{AXE} has the digest {digest}, not {AXE_DIGEST}. Delete {AXE.parents[1]}, or update AXE_DIGEST."
        )
    return text.decode()


if __name__ == "__main__":
    typer.run(main)
