"""Pages that are made from the code say what it says, and the README names what there is."""

import importlib.util
import re
from pathlib import Path

import pytest

from flows.experiments import claims
from flows.project import profiles
from tasks import configuration, methods

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def generate():
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs/generate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def generated(generate):
    """Return the generated pages, by their path below docs/."""
    return generate.pages()


def test_what_is_made_from_the_code_is_in_step(generated):
    for name, text in generated.items():
        assert (ROOT / "docs" / name).read_text() == text, f"{name}: run `make reference`"


def test_every_setting_has_a_row_and_every_link_of_the_settings_a_section(generated):
    page, schema = generated["pages/reference/settings.md"], configuration.schema().model_json_schema()
    anchors = [re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", title)) for title in re.findall(r"^#+ (.+)$", page, re.M)]
    assert len(set(anchors)) == len(anchors)
    assert set(re.findall(r"\]\(#([^)]+)\)", page)) <= set(anchors)
    records = [schema, *schema["$defs"].values()]
    keys = sorted(key for record in records for key in record.get("properties", {}))
    assert sorted(re.findall(r"^\| `(\w+)` \|", page, re.M)) == keys


def test_params_yaml_is_the_default_profile():
    assert (ROOT / "params.yaml").read_bytes() == (ROOT / "params" / f"{profiles.DEFAULT}.yaml").read_bytes()


@pytest.mark.parametrize("profile", sorted((ROOT / "params").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_profile_is_sound_and_documented(profile):
    configuration.load(profile)
    assert f"| `{profile.stem}` |" in (ROOT / "docs/pages/how-to/profiles.md").read_text()


@pytest.mark.parametrize("family", methods.families())
def test_the_documentation_says_what_a_family_is(family):
    assert f"| {family} |" in (ROOT / "docs/pages/concepts/compositions.md").read_text()


def test_every_claim_is_of_a_method_or_of_a_comparison_that_there_is():
    compared = {path.stem for path in (ROOT / "params/compare").glob("*.yaml")}
    for file in claims.FOLDER.glob("*.json"):
        assert file.stem in compared or methods.families_of(file.stem)
        assert claims.read(file.stem)


EVERY = [(file.stem, claim) for file in sorted(claims.FOLDER.glob("*.json")) for claim in claims.read(file.stem)]


@pytest.mark.parametrize(("method", "claim"), EVERY, ids=lambda value: getattr(value, "claim", value))
def test_a_claims_verdict_is_what_its_figures_say(method, claim):
    assert len(claim.per_seed) in (0, claim.seeds)
    assert len(claim.per_round) <= claim.rounds, "of some rounds no figure by itself is kept"
    assert not (claim.per_seed and claim.per_round), "one interval, one verdict"
    if claim.rounds and claim.found:
        assert claim.per_round
    if claim.per_seed or claim.per_round:
        assert claim.verdict == claim.implied()
    if claim.source and claim.per_seed:
        assert claim.per_seed == claims.figures_from_source(claim), (
            "run: python docs/ledger.py " + claim.source.comparison
        )
    if claim.verdict == "not decidable at this size":
        how_large = claim.detectable() or "% power" in claim.found  # figures that are all equal have no spread
        assert how_large, "how large an effect would have been seen"
    assert bool(claim.found) == (claim.verdict != "open")


@pytest.mark.parametrize(("method", "claim"), EVERY, ids=lambda value: getattr(value, "claim", value))
def test_a_claim_decided_on_the_lab_says_how_many_steps_it_trains(method, claim):
    if claim.found and "ratchet use lab" in claim.command:
        assert "steps" in claim.steps


FIGURE = re.compile(
    r"\[[+−-]?\d+\.\d+(?: ?%)?, ?[+−-]?\d|\[[+−]\d|\d (?:s|MB|ms) of CPU|\d CPU-second|\d times as (?:fast|long)"
    r"|(?:\d|two|three|four|five) runs each|\bwithin \d+ %|\bwithin 0\.\d+ nats|\bin \d+, \d+ and \d+"
)
"""What only a measurement gives: the beginning of an interval, CPU time, a ratio of speeds, a number of runs, how near something is."""
ORIGIN = re.compile(r"<!-- figures: (?:typed, |taken from ).{15,}? -->", re.DOTALL)


@pytest.mark.parametrize(
    "page",
    [Path("README.md"), *sorted(path.relative_to(ROOT) for path in (ROOT / "docs/pages").rglob("*.md"))],
    ids=str,
)
def test_figures_are_made_by_a_tool_or_marked_as_typed_with_the_reason(page, generated):
    text = (ROOT / page).read_text()
    is_made = page.as_posix().removeprefix("docs/") in generated
    assert is_made or not FIGURE.search(text) or ORIGIN.search(text), (
        "say below the title where its figures come from: <!-- figures: typed, why no tool takes them --> or "
        "<!-- figures: taken from FILE by TOOL -->"
    )


FILES = re.compile(r"`((?:tasks|flows|tests|benchmarks|docs|params)/[\w./-]+\.\w+)`")


@pytest.mark.parametrize(
    "page",
    [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs/pages").rglob("*.md"))],
    ids=lambda path: path.stem,
)
def test_files_that_a_page_names_are_there(page):
    assert [name for name in FILES.findall(page.read_text()) if "<" not in name and not (ROOT / name).exists()] == []


def test_the_readme_is_short_and_its_links_lead_somewhere():
    text = (ROOT / "README.md").read_text()
    assert len(text.splitlines()) <= 150
    links = [link.partition("#")[0] for link in re.findall(r"\]\(([^)]+)\)", text) if "://" not in link]
    assert [link for link in links if not (ROOT / link).exists()] == []
