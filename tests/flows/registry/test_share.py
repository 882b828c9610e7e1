"""Outputs that are handed over: a remote that takes nothing is told with what would do."""


def test_a_remote_that_refuses_is_one_message_and_the_next_try_goes_on(done):
    place = done.folder.parent / "store"
    place.write_text("a file where a folder should be")
    said = done.run("flows.commands", "share", "--to", str(place / "ratchet"))
    assert said.returncode == 1
    assert (
        said.stderr.count("`dvc push --run-cache` failed; the lines above say why. What the remote took is kept") == 1
    )
    assert "dvc remote modify --local" in said.stderr
    assert "Traceback" not in said.stderr
    place.unlink()
    decisions = [f"data/review_{of}.jsonl" for of in ("decisions", "records", "items")]
    for name in decisions:
        done.path(name).parent.mkdir(exist_ok=True)
        done.path(name).touch()
    pushed = done.ratchet("share", "--to", str(place / "ratchet"))
    assert "Pushed." in pushed
    (carried,) = [line.split() for line in pushed.splitlines() if "git add" in line]
    assert {*decisions} < {*carried}, "without them the other machine would make what reads them anew"
    assert any((place / "ratchet").rglob("*"))
