"""What the environment says to libraries, whatever a user has set."""

import http.server
import os
import threading
import urllib.request

import pytest

from tasks.core import environment


@pytest.mark.parametrize(
    ("lower", "upper", "wanted"),
    [
        (None, None, ["127.0.0.1,localhost"] * 2),
        (None, "example.org", ["example.org,127.0.0.1,localhost"] * 2),
        ("localhost, a.org", "b.org", ["localhost,a.org,127.0.0.1", "b.org,127.0.0.1,localhost"]),
        ("*", None, ["*"] * 2),
    ],
)
def test_hosts_that_a_user_reaches_without_a_proxy_stay_and_this_machine_is_added_once(
    monkeypatch, lower, upper, wanted
):
    for name, value in (("no_proxy", lower), ("NO_PROXY", upper), ("http_proxy", "http://proxy.example.org")):
        monkeypatch.setenv(name, value or "")
    for _ in range(2):
        environment.bypass_proxies()
        assert [os.environ[name] for name in ("no_proxy", "NO_PROXY")] == wanted


def test_nothing_is_set_where_the_environment_names_no_proxy(monkeypatch):
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    environment.bypass_proxies()
    assert not urllib.request.getproxies_environment(), "on macOS it would hide those of the system"


def test_a_server_of_this_machine_is_reached_past_a_proxy_that_is_away(monkeypatch):
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.setenv(name, "")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        environment.bypass_proxies()
        urllib.request.urlopen(f"http://127.0.0.1:{server.server_address[1]}/", timeout=5).close()
        server.shutdown()
