"""Every form of OLLAMA_HOST becomes the base URL that the server itself would mean."""

from __future__ import annotations

import logging

import pytest

from analysis_kit.errors import ConfigurationError
from analysis_kit.ollama.host import api_key_for, is_loopback, parse_host, resolve_hosts
from analysis_kit.settings import override_settings


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("", "http://127.0.0.1:11434"),
        ("1.2.3.4", "http://1.2.3.4:11434"),
        ("example.com:1234", "http://example.com:1234"),
        (":1234", "http://127.0.0.1:1234"),
        (":0", "http://127.0.0.1:11434"),
        (":66000", "http://127.0.0.1:11434"),
        ("h:abc", "http://h:11434"),
        ("h:", "http://h:11434"),
        ("[::1]", "http://[::1]:11434"),
        ("[::1]:1337", "http://[::1]:1337"),
        ("::1", "http://[::1]:11434"),
        ("http://1.2.3.4", "http://1.2.3.4:80"),
        ("https://1.2.3.4", "https://1.2.3.4:443"),
        ("1.2.3.4:80", "http://1.2.3.4:80"),
        ("HTTP://1.2.3.4", "http://1.2.3.4:11434"),
        ("https://example.com/ollama", "https://example.com:443/ollama"),
        ("example.com:56789/path/", "http://example.com:56789/path"),
        ("ollama.com", "https://ollama.com:443"),
        ("  gpu1  ", "http://gpu1:11434"),
        ('"gpu1:1"', "http://gpu1:1"),
        ("'gpu1:1'", "http://gpu1:1"),
        ("GPU1", "http://gpu1:11434"),
        ("http://", "http://127.0.0.1:80"),
        (":", "http://127.0.0.1:11434"),
        ("[::1]:", "http://[::1]:11434"),
        ("[::1]:66000", "http://[::1]:11434"),
        ("http://[::1]", "http://[::1]:80"),
        ("https://h:abc", "https://h:443"),
        ("h:65535", "http://h:65535"),
        ("h:65536", "http://h:11434"),
        ("h:-1", "http://h:11434"),
        ("http://ollama.com", "http://ollama.com:80"),
        ("https://ollama.com", "https://ollama.com:443"),
        ("ollama.com:443", "http://ollama.com:443"),
        ("h:1/a/b//", "http://h:1/a/b"),
        ('" gpu1 "', "http://gpu1:11434"),
        ("embedded", "embedded"),
        (" Embedded ", "embedded"),
    ],
)
def test_a_host_is_read_as_the_server_reads_it(given, meant):
    """Each form of the protocol sheet's table gives its base URL."""
    assert parse_host(given) == meant


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("0.0.0.0", "http://127.0.0.1:11434"),
        ("0.0.0.0:11434", "http://127.0.0.1:11434"),
        ("localhost", "http://localhost:11434"),
        ("localhost:11434", "http://localhost:11434"),
        ("[::]", "http://[::1]:11434"),
        ("::", "http://[::1]:11434"),
        ("http://0.0.0.0:11434", "http://127.0.0.1:11434"),
    ],
)
def test_O10_an_address_to_listen_on_is_connected_to_by_loopback(given, meant):
    """O10: what a server binds to is no address to connect to, and ``localhost`` is no scheme."""
    assert parse_host(given) == meant
    assert is_loopback(meant)


@pytest.mark.parametrize(
    "given", ["ftp://h", "http://a b", "h h", "http://h?x=1", "a:b:c", "http://h/p q", "<h>"]
)
def test_what_is_no_host_is_one_sentence(given):
    """An address that cannot be one is refused with the value and what to write."""
    with pytest.raises(ConfigurationError, match="host"):
        parse_host(given)


@pytest.mark.parametrize("given", ["http://user:geheim@h:1", "user:geheim@h", "http://user:geheim@h"])
def test_a_password_in_an_address_is_refused_and_never_shown(given, caplog):
    """User and password in an address are refused, and neither the message nor the log holds the password."""
    with caplog.at_level(logging.DEBUG), pytest.raises(ConfigurationError) as caught:
        parse_host(given)
    assert "geheim" not in str(caught.value)
    assert "geheim" not in caplog.text


def test_a_list_of_hosts_keeps_its_order_and_drops_doubles():
    """Commas, lists and quotes give the same hosts, each once, in order."""
    hosts = ("http://gpu1:11434", "http://gpu2:8080")
    assert resolve_hosts("gpu1, gpu2:8080,,gpu1:11434") == hosts
    assert resolve_hosts(['"gpu1"', "gpu2:8080"]) == hosts
    assert resolve_hosts('"gpu1,gpu2:8080"') == hosts
    assert resolve_hosts("embedded") == ("embedded",)
    assert resolve_hosts([]) == ("http://127.0.0.1:11434",)


def test_without_hosts_the_settings_decide():
    """None means OLLAMA_HOST, and an empty OLLAMA_HOST the local default."""
    with override_settings(OLLAMA_HOST="gpu7"):
        assert resolve_hosts(None) == ("http://gpu7:11434",)
    with override_settings(OLLAMA_HOST=""):
        assert resolve_hosts(None) == ("http://127.0.0.1:11434",)


@pytest.mark.parametrize(
    ("url", "local"),
    [
        ("http://127.0.0.1:1", True),
        ("http://127.9.9.9:1", True),
        ("http://localhost:1", True),
        ("http://localhost.:1", True),
        ("http://127.1:1", True),
        ("http://126.1:1", False),
        ("http://127.example:1", False),
        ("http://app.localhost:1", True),
        ("http://[::1]:1", True),
        ("http://[::ffff:127.0.0.1]:1", True),
        ("embedded", True),
        ("http://10.0.0.1:1", False),
        ("http://localhost.example.com:1", False),
        ("http://[fe80::1]:1", False),
    ],
)
def test_loopback_is_told_from_the_rest(url, local):
    """What stays on this machine is known by its address, in both families."""
    assert is_loopback(url) is local


def test_the_cloud_key_goes_to_the_cloud_alone(monkeypatch):
    """OLLAMA_API_KEY is for https://ollama.com; a key given for a host is that host's."""
    monkeypatch.setenv("OLLAMA_API_KEY", "k")
    assert api_key_for("https://ollama.com:443", None) == "k"
    assert api_key_for("http://ollama.com:11434", None) is None
    assert api_key_for("https://ollama.com.example.org:443", None) is None
    assert api_key_for("http://127.0.0.1:11434", None) is None
    assert api_key_for("http://127.0.0.1:11434", "mine") == "mine"
