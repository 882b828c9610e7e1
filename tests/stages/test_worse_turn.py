"""A turn that makes everything worse: the round before is kept, the gate refuses the turn's model, and the report says both."""

from tasks.core.promotion import gate
from tasks.core.promotion.gate import Bar, GateConfig
from tasks.stages.select.best_round import choose
from tests.stages.report.material import Round, results, run_stage

SOLVED = {"base": 0, "r0": 30, "r1": 8}
DOMAIN = {"base": 2.0, "r0": 1.5, "r1": 1.8}
GENERAL = {"base": 3.0, "r0": 3.0, "r1": 3.3}
MODELS = {
    name: results(DOMAIN[name], GENERAL[name], [number < SOLVED[name] for number in range(40)]) for name in SOLVED
}


def test_the_round_before_is_chosen():
    choice = choose({"r0": 1.0, "r1": 2.0})
    assert choice.round == "r0"
    assert choice.why == "the lowest validation loss of 2 rounds: r0 1.0000, r1 2.0000"


def test_the_gate_refuses_it_against_the_round_before_with_every_reason():
    bars = [Bar("base", MODELS["base"]), Bar("version 1", MODELS["r0"])]
    judgement = gate.judge(MODELS["r1"], bars[1], bars, 1, GateConfig(margins={"general": 0.05, "pass@1": 0.2}))
    assert judgement.verdict == "refused"
    for reason in ("domain worse than version 1", "general worse than", "pass@1 worse than version 1"):
        assert reason in judgement.reason


def test_the_report_shows_the_loss_of_the_turn_and_which_round_is_used(tmp_path):
    folder, _ = run_stage(tmp_path, MODELS, turn=Round())
    text = " ".join((folder / "summary.txt").read_text().split())
    assert "r0 → r1 40 75.0 [58.8, 87.3] 20.0 [9.1, 35.6] −55.0 [" in text
    assert "Verdict: r1 is better here but worse elsewhere" in text
    assert "r1 is worse than r0: pass@1 −55.0 [" in text
    assert "r1 is worse than r0: domain loss +0.3" in text
    assert "r0 is worse than" not in text
    page = (folder / "index.html").read_text()
    assert "r1 is worse than r0: pass@1 −55.0 [" in page
    assert "Best round: r0, the lowest validation loss of 2 rounds: r0 1.0, r1 2.0." in text
