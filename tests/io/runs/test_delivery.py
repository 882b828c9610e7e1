"""What MLflow refuses, cannot take or is not there for holds up nothing else, and nothing of it is lost or doubled."""

import pytest

from tasks.core.text.visible import storable
from tasks.io.runs import run_store, spool_uploader, tracking
from tests.io.runs.conftest import AWAY
from tests.io.runs.test_tracking import _no_uploader, carried, history, record, runs, spools  # noqa: F401  # a fixture is used by its name


def test_an_outage_loses_nothing_and_doubles_nothing(store, away):
    record("first").end("FAILED")
    carried(record("second"))
    assert len(spools()) == 2
    away.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{store}")
    spool_uploader.upload()
    recorded_runs = runs(store)
    assert {name: run.info.status for name, run in recorded_runs.items()} == {"first": "FAILED", "second": "FINISHED"}
    assert history(store, recorded_runs["first"], "loss") == [(0, 3.0), (1, 2.0), (2, 1.0)]
    assert spools() == []


def test_an_outage_in_the_middle_of_a_run_loses_nothing_and_doubles_nothing(store, monkeypatch):
    recorder = record()
    spool_uploader.deliver()
    with monkeypatch.context() as patch:
        for name, value in AWAY.items():
            patch.setenv(name, value)
        recorder.metrics({"loss": 0.0}, 3)
        spool_uploader.deliver()
        assert spool_uploader.outage()
    carried(recorder)
    assert list(runs(store)) == ["run"]
    assert history(store, runs(store)["run"], "loss") == [(0, 3.0), (1, 2.0), (2, 1.0), (3, 0.0)]


def test_a_batch_that_was_sent_but_not_ticked_off_is_not_doubled(store):
    recorder = record()
    spool_uploader.deliver()
    (sent,) = run_store.SPOOL.glob("*.sent")
    sent.unlink()  # as if the process had died between MLflow's answer and our note of it
    carried(recorder)
    assert list(runs(store)) == ["run"]
    run = runs(store)["run"]
    assert history(store, run, "loss") == [(0, 3.0), (1, 2.0), (2, 1.0)]
    assert len(run.inputs.dataset_inputs) == 2


def test_a_setting_noted_twice_keeps_its_first_value_and_stops_nothing(store):
    recorder = tracking.Recorder("run")
    recorder.params(sandbox="2")
    spool_uploader.deliver()
    recorder.params(sandbox="3")
    carried(recorder)
    run = runs(store)["run"]
    assert run.info.status == "FINISHED"
    assert run.data.params == {"sandbox": "2"}


def test_what_mlflow_refuses_does_not_hold_up_the_rest(store):
    recorder = tracking.Recorder("run", tags={"empty": ""})
    recorder.metrics({"pass@1": 0.5, "loss": float("nan")})
    recorder.params(**{"a,b=c": 1, "long": "x" * 10_000})
    carried(recorder)
    run = runs(store)["run"]
    assert run.info.status == "FINISHED"
    assert "loss" in run.data.metrics
    assert run.data.params["long"] == "x" * 6000


@pytest.mark.parametrize("text", ["donn\udcffees", "a\0b"], ids=["no character", "NUL"])
def test_a_text_that_no_database_takes_arrives_with_escapes(store, text):
    recorder = tracking.Recorder(text, tags={"of": text})
    recorder.params(path=text)
    carried(recorder)
    (run,) = runs(store).values()
    assert {run.info.run_name, run.data.tags["of"], run.data.params["path"]} == {storable(text)}
    assert storable(text) in (r"donn\udcffees", r"a\x00b")


def test_a_run_that_cannot_be_made_sense_of_is_kept_and_told_and_holds_up_nothing(store, capsys):
    run_store.SPOOL.mkdir(parents=True)
    odd = run_store.SPOOL / "odd.jsonl"
    odd.write_text('{"kind": "start", "time": 1, "name": "without our id", "parent": null, "tags": {}}\n')
    carried(tracking.Recorder("run"))
    assert list(runs(store)) == ["run"]
    assert spools() == []
    assert "without our id" in odd.with_suffix(".refused").read_text()
    tracking.Recorder("next").end("FINISHED")
    assert "MLflow did not take all of 1 run:" in capsys.readouterr().out


def test_a_run_with_a_damaged_line_arrives_without_it_and_is_kept_and_reported(store, caplog):
    recorder = tracking.Recorder("run")
    recorder._spool._file.write('{"kind": "metrics", "time": 1}\n')
    recorder._spool._file.flush()
    spool_uploader.deliver()
    recorder.params(after="it")
    carried(recorder)
    run = runs(store)["run"]
    assert (run.info.status, run.data.params) == ("FINISHED", {"after": "it"})
    assert spool_uploader.refused() == [recorder._path.with_suffix(".refused")]
    assert "without a start: 1, the first is line 2" in caplog.text


def test_a_run_whose_start_lacks_a_part_is_kept_and_reported(store, caplog):
    recorder = record("run")
    start, *rest = recorder._path.read_text().splitlines(keepends=True)
    recorder._path.write_text("".join([start.replace('"parent": null, ', ""), *rest]))
    carried(recorder)
    assert runs(store) == {}
    assert "".join(rest) in recorder._path.with_suffix(".refused").read_text()
    assert "the first is line 1" in caplog.text


def test_half_a_line_that_a_kill_left_sets_no_run_aside(store):
    recorder = tracking.Recorder("run")
    recorder._spool._file.write('{"kind": "metrics", "ti')
    recorder._spool._file.close()
    spool_uploader.upload()
    assert runs(store)["run"].info.status == "KILLED"
    assert spool_uploader.refused() == []


@pytest.mark.parametrize(
    "text",
    [
        '{"kind": "metrics", "time": 1, "values": {"loss": 1.0}, "step": 0}\n',
        '{"kind": "sta\x00\n',
        "\n",
        "5\n",
        "{}\n",
        "\xff\n",
        '{"kind": "tags", "time": 1, "values": {}}\n{"kind": "end", "time"\n',
        '{"kind": "end", "time": 1, "status": "FINISHED"}\n{"kind": "tags", "time": 2, "values": {}}\n',
    ],
)
def test_a_spool_that_no_run_was_started_in_is_kept_and_stops_nothing(store, text):
    run_store.SPOOL.mkdir(parents=True)
    (run_store.SPOOL / "damaged.jsonl").write_text(text, encoding="latin-1")
    carried(tracking.Recorder("run"))
    assert list(runs(store)) == ["run"]
    assert runs(store)["run"].info.status == "FINISHED"
    assert spools() == []
    (kept,) = spool_uploader.refused()
    assert kept.read_text(encoding="latin-1").startswith(text)


def test_a_spool_in_which_nothing_was_written_goes(store):
    run_store.SPOOL.mkdir(parents=True)
    (run_store.SPOOL / "empty.jsonl").touch()
    carried(tracking.Recorder("run"))
    assert spools() == spool_uploader.refused() == []


def test_a_run_that_was_deleted_in_mlflow_holds_up_nothing(store):
    from mlflow import MlflowClient

    closed = tracking.Recorder("gone")
    spool_uploader.deliver()
    MlflowClient(f"sqlite:///{store}").delete_run(runs(store)["gone"].info.run_id)
    carried(closed, tracking.Recorder("after"))
    assert runs(store)["after"].info.status == "FINISHED"
    assert spools() == []
    assert not spool_uploader.outage()
    assert len(list(run_store.SPOOL.glob("*.refused"))) == 1


def test_an_experiment_that_was_deleted_is_an_outage_and_loses_nothing(store):
    from mlflow import MlflowClient

    carried(tracking.Recorder("before"))
    client = MlflowClient(f"sqlite:///{store}")
    number = client.get_experiment_by_name(run_store.NAME).experiment_id
    client.delete_experiment(number)
    carried(tracking.Recorder("after"))
    assert f"mlflow experiments restore -x {number}" in spool_uploader.outage()
    assert len(spools()) == 1
    client.restore_experiment(number)
    spool_uploader.upload()
    assert {"before", "after"} <= runs(store).keys()


def test_a_store_that_is_away_is_asked_once_and_not_for_every_run(away, monkeypatch):
    requests = []
    monkeypatch.setattr(
        run_store, "connect", lambda: requests.append(1) or (_ for _ in ()).throw(ConnectionError("away"))
    )
    for _ in range(3):
        tracking.Recorder("run").end("FINISHED")
    spool_uploader.deliver()
    assert len(requests) == 1
    assert spool_uploader.outage().endswith(" away")
    assert len(spools()) == 3


def test_a_run_that_has_ended_is_read_once_while_the_store_is_away(away, monkeypatch):
    reads, close = [], spool_uploader._close_if_ownerless
    monkeypatch.setattr(spool_uploader, "_close_if_ownerless", lambda path: reads.append(path) or close(path))
    monkeypatch.setattr(spool_uploader, "LINGER_S", 0.5)
    run = tracking.Recorder("run")
    carried(run)
    assert reads == [run._path]
