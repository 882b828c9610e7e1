"""`ratchet up`, and a deployment run, which leaves what any other driver leaves."""

from flows import server


def test_a_deployment_run_leaves_the_lock_of_a_plain_repro(up, finished):
    said = up.run("prefect", "deployment", "run", "pipeline/workstation", "--watch").stdout  # nothing names the server
    assert "finished successfully" in said, said
    assert "prefect.artifact.created" in said
    assert up.lock == (finished / "dvc.lock").read_bytes()
    assert list(up.home.iterdir()) == []


def test_a_second_one_is_refused_with_the_number_of_the_first(up):
    refused = up.run("flows.commands", "up")
    assert refused.returncode == 1
    assert (
        f"another `ratchet up` (process {up.path('.ratchet/locks/up.lock').read_text().split()[0]})" in refused.stderr
    )


def test_a_busy_port_is_told_with_who_has_it(workspace, prefect):
    port = prefect.split(":")[2].split("/")[0]
    refused = workspace.run("flows.commands", "up", PREFECT_SERVER_API_PORT=port)
    assert refused.returncode == 1
    assert f"port {port} is taken by process" in refused.stderr
    assert "PREFECT_SERVER_API_PORT=4300" in refused.stderr


def test_a_free_port_has_no_listener():
    assert server.listener(server.free_port()) is None
