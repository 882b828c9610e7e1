"""What a workspace holds against its record."""

import dataclasses
import json
import math
import os

import pytest
from safetensors.numpy import save_file

from flows.registry import verification
from tasks.core.records import Result
from tasks.io import provenance
from tasks.io.weights import checkpoints
from tests.flows.registry.test_promotion import MODELS, Nights

THEN = [
    Result(measure, f"{measure} {n}", f"g{n}", None, 100.0 + n, 50, 400, "", "")
    for measure in ("domain", "general", "pass@1")
    for n in range(4)
]


def shifted(by):
    return [dataclasses.replace(row, value=row.value + by) for row in THEN if row.measure != "pass@1"]


def told(now, precision="fp32", same_class=True):
    return [(c.holds, c.what) for c in verification.compare_losses("r0", THEN, now, precision, same_class=same_class)]


@pytest.mark.parametrize("same_class", [True, False])
def test_equal_losses_hold_on_any_machine_and_answers_are_left_out(same_class):
    assert told(shifted(0), same_class=same_class) == [
        (True, "r0: domain loss 2.0300 nats/token on 4 items, bit-identical to the record"),
        (True, "r0: general loss 2.0300 nats/token on 4 items, bit-identical to the record"),
    ]


def test_the_last_bit_counts_on_the_same_class_of_machine():
    now = shifted(0)
    now[0] = dataclasses.replace(now[0], value=now[0].value + 1e-13)
    (domain, _), (general, _) = told(now)
    assert (domain, general) == (False, True)


@pytest.mark.parametrize(("precision", "by", "holds"), [("fp32", 0.04, True), ("fp32", 0.06, False), ("bf16", 0.9, True), ("bf16", 1.1, False)])  # fmt: skip
def test_another_class_may_differ_within_the_tolerance_of_the_precision(precision, by, holds):
    found = told(shifted(by), precision, same_class=False)
    assert [held for held, _ in found] == [holds, holds]
    assert f"another class of machine may differ by {verification.TOLERANCE[precision]:g} ({precision})" in found[0][1]


def test_a_diverged_model_that_diverges_again_is_equal_to_its_record():
    diverged = [dataclasses.replace(row, value=math.nan) for row in THEN]
    (check, _) = verification.compare_losses("r0", diverged, diverged, "fp32", same_class=True)
    assert check.holds
    (check, _) = verification.compare_losses("r0", diverged, THEN, "fp32", same_class=True)
    assert not check.holds


def test_items_that_diverge_again_do_not_hinder_the_comparison_of_the_others():
    def part(rows, *diverged):
        return [dataclasses.replace(row, value=math.nan) if row.item in diverged else row for row in rows]

    def compared(then, now):
        (check, _) = verification.compare_losses("r0", then, now, "fp32", same_class=False)
        return check.holds, check.what

    held, what = compared(part(THEN, "domain 3"), part(shifted(0.04), "domain 3"))
    assert held
    assert "domain loss 2.0208 nats/token on 3 items (diverged: 1), recorded 2.0200: another class" in what
    assert not compared(part(THEN, "domain 3"), part(shifted(0.06), "domain 3"))[0]
    for then, now, recorded in (((), ["domain 3"], 0), (["domain 3"], (), 1), (["domain 2"], ["domain 3"], 1)):
        held, what = compared(part(THEN, *then), part(shifted(0.04), *now))
        assert not held
        assert what.endswith(f"; in the record other items diverged (recorded: {recorded})")


def test_other_items_are_no_measurement_of_the_same():
    assert told(shifted(0)[1:])[0] == (False, "r0: domain loss is of other items or tokens than its record")


@pytest.mark.parametrize(("models", "there"), [({}, "none"), (MODELS, "base, r0")])
def test_a_name_that_is_no_model_is_reported_with_those_that_are(tmp_path, store, models, there):
    Nights(tmp_path).set(models=models)
    with pytest.raises(ValueError, match=rf"has no model 'nosuch'\. There are: {there}\."):
        list(verification.check_losses(["nosuch"]))


def model(folder, weights, parent=None):
    import numpy as np

    folder.mkdir(parents=True)
    save_file({"w": np.full(3, weights, dtype=np.float32)}, folder / "model.safetensors")
    checkpoints.write_card(folder, parent=parent)
    return checkpoints.read_card(folder)["weights"]


def cards():
    return [(check.holds, check.what.partition(":")[0].partition(" was")[0]) for check in verification._cards()]


def test_models_are_what_their_cards_say_down_to_what_they_were_made_from(tmp_path):
    base = model(tmp_path / "models/base", 1.0)
    model(tmp_path / "models/tuned/r0", 2.0, parent=base)
    assert cards() == [(True, "models/base"), (True, "models/tuned/r0")]

    card = tmp_path / "models/base" / checkpoints.CARD
    card.write_text(json.dumps(json.loads(card.read_text()) | {"weights": "0" * 64}))
    assert cards() == [(False, "models/base"), (True, "models/tuned/r0")]

    model(tmp_path / "models/tuned/r1", 3.0, parent="f" * 64)
    assert cards()[2:] == [(True, "models/tuned/r1"), (False, "models/tuned/r1")]


@pytest.mark.filterwarnings("ignore:_NoneStep.value:DeprecationWarning")  # in dvc itself
def test_a_file_that_changed_and_kept_its_size_and_time_is_reported(done):
    """As after a disk has lost a bit; models and outputs were read before, and DVC and Ratchet remember their hashes."""
    model(done.folder / "models/base", 1.0)
    done.run("dvc", "status")
    assert [check.what for check in verification.check_files() if not check.holds] == []
    provenance.save_digests()
    for name in ("last.txt", "models/base/model.safetensors"):
        file = done.path(name)
        state, contents = file.stat(), bytearray(file.read_bytes())
        contents[-2] ^= 1
        file.chmod(0o644)
        with file.open("r+b") as stream:
            stream.write(contents)
        os.utime(file, ns=(state.st_atime_ns, state.st_mtime_ns))
    changed, weights = [check.what for check in verification.check_files() if not check.holds]
    assert changed == "last.txt was changed by hand"
    assert weights.startswith("models/base: its weights are ")
