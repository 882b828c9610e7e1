"""Links to MLflow's pages."""

from tasks.io.runs import run_links, run_store


def test_a_link_leads_to_the_stages_run_and_holds_no_password(store, monkeypatch):
    client, experiment = run_store.connect()
    run = client.create_run(experiment, tags={"ratchet.parent": "flow", "dvc.stage": "tune@r0"}).info.run_id
    monkeypatch.setattr(run_store, "connect", lambda: (client, experiment))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://somebody:secret@host/ml/")
    assert run_links.of_stages("flow") == {
        "tune@r0": f"https://host/ml/#/experiments/{experiment}/runs/{run}?workflowType=machine_learning"
    }


def test_a_local_store_is_shown_by_the_workspaces_own_pages(store):
    client, experiment = run_store.connect()
    run = client.create_run(experiment, tags={"ratchet.parent": "flow", "dvc.stage": "fetch"}).info.run_id
    assert run_links.of_stages("flow") == {
        "fetch": f"http://127.0.0.1:5000/#/experiments/{experiment}/runs/{run}?workflowType=machine_learning"
    }


def test_a_flow_has_a_page_and_places_on_it_once_mlflow_has_its_run(store):
    client, experiment = run_store.connect()
    assert run_links.of_flow("flow") is None
    run = client.create_run(experiment, tags={"ratchet.run": "flow"}).info.run_id
    page = f"http://127.0.0.1:5000/#/experiments/{experiment}/runs/{run}"
    assert run_links.of_flow("flow") == f"{page}?workflowType=machine_learning"
    assert run_links.of_flow("flow", "artifacts/report/index.html") == (
        f"{page}/artifacts/report/index.html?workflowType=machine_learning"
    )
