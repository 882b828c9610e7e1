"""The first batch is shown token by token, with its mask and weights, and without secrets."""

from tasks import methods
from tasks.stages.report.data import first_batch
from tests.stages.report.material import COURSE, results, run_stage
from tests.stages.report.reading import page

BATCH = {
    "packs": 2,
    "tokens": 7,
    "trained": 2,
    "sequences": [{"id": "abc", "tokens": ["<|user|>", "Hi", "</script>", " yes"], "weights": [0.0, 0.0, 1.0, 1.5]}],
}


def test_it_has_tokens_and_weights():
    batch = first_batch.read({"first_batch": BATCH})
    assert (batch.shown, batch.tokens, batch.trained, batch.weights) == (4, 7, 2, [1.0, 1.5])
    assert first_batch.read(COURSE) is None


def test_tokens_of_a_secret_are_hidden():
    parts = ["key ", "ghp_", "aB3" * 6, "aB3" * 6, " end"]
    kept = {**BATCH, "sequences": [{"id": "a", "tokens": parts, "weights": [0.0] * 5}]}
    ((_, tokens),) = first_batch.read({"first_batch": kept}).sequences
    assert [token.text for token in tokens] == ["key ", "•", "•", "•", " end"]


def test_what_the_objective_makes_of_the_weights_is_reported(tmp_path, monkeypatch):
    """FAIT multiplies the weights of marked tokens within its loss, so what a pack holds is not all."""
    weighs = methods.spec("objectives", "fait").weighs
    monkeypatch.setitem(COURSE, "first_batch", {**BATCH, "weighs": weighs})
    monkeypatch.setitem(COURSE, "composition", {**COURSE["composition"], "objective": "fait"})
    text = " ".join(page(run_stage(tmp_path, {"base": results(), "r0": results(1.5)})[0]).text.split())
    assert "Weights: 1, 1.5. Objective fait multiplies them by 1 + lambda × ( methods.fait.lines on lines" in text


def test_the_page_shows_it(tmp_path, monkeypatch):
    monkeypatch.setitem(COURSE, "first_batch", BATCH)
    folder, _ = run_stage(tmp_path, {"base": results(), "r0": results(1.5)})
    text = " ".join(page(folder).text.split())
    assert "7 tokens in 2 packs, 2 of them with a loss; the first 4 are shown. Weights: 1, 1.5." in text
    assert "Objective" not in text
    html = (folder / "index.html").read_text()
    assert '<span class="token masked">Hi</span>' in html
    assert '<span class="token heavy" title="1.5"> yes</span>' in html
    assert '<span class="token" title="1">&lt;/script&gt;</span>' in html
