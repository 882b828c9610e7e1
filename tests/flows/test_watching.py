"""What comes in is looked at once, and once more where what it is held against has changed."""

from pathlib import Path

import pytest

from flows import promotion, watching
from tests.flows.test_promotion import Nights
from tests.test_monitor import THEIRS, prompts, send, training_data

pytestmark = pytest.mark.filterwarnings("ignore:_NoneStep.value:DeprecationWarning")  # in dvc itself


def test_the_same_data_are_told_again_unseen_until_another_model_is_in_place(done, store):
    Nights(done.folder).night("better", 1.9)
    training_data(done.folder)
    with done.path("params.yaml").open("a") as settings:
        settings.write("monitor: {methods: [mmd]}\n")
    send(done.folder, prompts(40, THEIRS, 2))
    first, again = (watching.look([Path("in.jsonl")]) for _ in range(2))
    assert (first.known, again.known) == (False, True)
    assert first.drifted == again.drifted == ["mmd"]
    assert again.line == first.line
    promotion.promote()
    assert not watching.look([Path("in.jsonl")]).known
