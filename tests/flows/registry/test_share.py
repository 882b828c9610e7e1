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
    assert "Pushed." in done.ratchet("share", "--to", str(place / "ratchet"))
    assert any((place / "ratchet").rglob("*"))
