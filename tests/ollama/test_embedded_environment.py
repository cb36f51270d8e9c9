"""Ollama's variables for a server, as the embedded server reads them."""

from __future__ import annotations

import logging
import signal
import subprocess
import sys

import pytest
import requests

from analysis_kit.errors import ConfigurationError
from analysis_kit.ollama import model_file
from analysis_kit.ollama.durations import duration_s
from analysis_kit.ollama.embedded import MODEL_NAME, EmbeddedOllama
from analysis_kit.ollama.embedded.environment import ServerVariables, listen_address, server_variables

DEFAULTS = ServerVariables(parallel=2, ctx=2048, keep_alive_s=300.0, max_queue=512, origins=())
NAMES = {
    "OLLAMA_NUM_PARALLEL": "parallel",
    "OLLAMA_CONTEXT_LENGTH": "ctx",
    "OLLAMA_KEEP_ALIVE": "keep_alive_s",
    "OLLAMA_MAX_QUEUE": "max_queue",
    "OLLAMA_ORIGINS": "origins",
}


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch):
    for name in (*NAMES, "OLLAMA_HOST"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("OLLAMA_NUM_PARALLEL", " '4' ", 4),
        ("OLLAMA_NUM_PARALLEL", "0", 2),
        ("OLLAMA_CONTEXT_LENGTH", "8192", 8192),
        ("OLLAMA_CONTEXT_LENGTH", "0", 2048),
        ("OLLAMA_CONTEXT_LENGTH", "2", 4),
        ("OLLAMA_KEEP_ALIVE", "90", 90),
        ("OLLAMA_KEEP_ALIVE", "1h30m", 5400),
        ("OLLAMA_KEEP_ALIVE", "0", 0),
        ("OLLAMA_KEEP_ALIVE", "-1", float("inf")),
        ("OLLAMA_KEEP_ALIVE", "-1s", float("inf")),
        ("OLLAMA_MAX_QUEUE", "0", 0),
        ("OLLAMA_MAX_QUEUE", "7", 7),
        ("OLLAMA_ORIGINS", "https://a.example, chrome-extension://*,", ("https://a.example", "chrome-extension://*")),
    ],
)  # fmt: skip
def test_each_variable_is_read_as_ollama_reads_it(monkeypatch, caplog, name, text, value):
    """Blanks and quotes are stripped, 0 means the default where Ollama has it so, a negative life is for ever."""
    assert server_variables() == DEFAULTS
    monkeypatch.setenv(name, text)
    assert getattr(server_variables(), NAMES[name]) == value
    assert not caplog.records


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("OLLAMA_NUM_PARALLEL", "many"),
        ("OLLAMA_CONTEXT_LENGTH", "-1"),
        ("OLLAMA_MAX_QUEUE", "1.5"),
        ("OLLAMA_KEEP_ALIVE", "soon"),
    ],
)
def test_a_value_that_cannot_be_used_is_named_and_left_out(monkeypatch, caplog, name, text):
    """As Ollama does it: the default, and a warning with the variable and its value."""
    monkeypatch.setenv(name, text)
    assert server_variables() == DEFAULTS
    assert f"{name}={text}" in caplog.text


@pytest.mark.parametrize(
    ("text", "address", "said"),
    [
        ("", ("127.0.0.1", 11434), ""),
        ("embedded", ("127.0.0.1", 11434), ""),
        ("localhost", ("localhost", 11434), ""),
        (' "127.0.0.1:1234" ', ("127.0.0.1", 1234), ""),
        ("http://127.0.0.1", ("127.0.0.1", 80), ""),
        ("http://127.0.0.1:8080/ollama", ("127.0.0.1", 8080), ""),
        ("[::1]", ("::1", 11434), ""),
        ("[::1]:1337", ("::1", 1337), ""),
        ("::1", ("::1", 11434), ""),
        ("localhost:0", ("localhost", 0), ""),
        ("localhost:66000", ("localhost", 11434), "'66000' in OLLAMA_HOST is no port"),
        (":1234", ("127.0.0.1", 1234), "--listen 0.0.0.0 opens it"),
        ("0.0.0.0", ("127.0.0.1", 11434), "--listen 0.0.0.0 opens it"),
        ("[::]:99", ("127.0.0.1", 99), "--listen 0.0.0.0 opens it"),
        ("https://gpu1.example", ("127.0.0.1", 11434), "is no address of loopback"),
        ("192.168.1.5:1234", ("127.0.0.1", 11434), "is no address of loopback"),
    ],
)
def test_where_serve_listens_by_ollama_host(monkeypatch, caplog, text, address, said):
    """Every form of the variable is read; it is a client's variable too, so it alone never opens the network."""
    monkeypatch.setenv("OLLAMA_HOST", text)
    assert listen_address() == address
    assert said in caplog.text
    assert bool(caplog.records) == bool(said)


def test_where_only_the_port_is_wanted_nothing_is_said_of_the_address(monkeypatch, caplog):
    """Beside --listen the variable's address does not count, and a warning about it would be wrong."""
    monkeypatch.setenv("OLLAMA_HOST", "0.0.0.0:1234")
    assert listen_address(say=False)[1] == 1234
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_a_list_of_servers_is_no_place_to_listen(monkeypatch):
    """Several addresses: one sentence with the way out."""
    monkeypatch.setenv("OLLAMA_HOST", "gpu1,gpu2")
    with pytest.raises(ConfigurationError, match="--listen and --port"):
        listen_address()


@pytest.mark.parametrize("text", ["", "5", "5 m", "5M", "1d", "-", "+", "--5m", "m", "5m3"])
def test_what_is_no_duration_is_refused(text):
    """Go's form and no other; its words name what was read."""
    with pytest.raises(ValueError, match="time: "):
        duration_s(text)


@pytest.fixture
def _model():
    try:
        model_file.ensure_model()
    except ConfigurationError as exc:
        pytest.skip(str(exc))


@pytest.mark.llama
@pytest.mark.usefixtures("_model")
def test_a_context_meant_for_larger_models_is_the_models_own(monkeypatch):
    """A machine-wide OLLAMA_CONTEXT_LENGTH beyond what the model was trained for takes no memory for nothing."""
    monkeypatch.setenv("OLLAMA_CONTEXT_LENGTH", "131072")
    with EmbeddedOllama(parallel=1) as server:
        ask = {"model": MODEL_NAME, "prompt": "Hi", "stream": False, "options": {"num_predict": 1}}
        assert requests.post(f"{server.url}/api/generate", json=ask, timeout=60).json()["done"]
        (loaded,) = requests.get(f"{server.url}/api/ps", timeout=30).json()["models"]
        assert loaded["context_length"] == 8192


@pytest.mark.llama
@pytest.mark.usefixtures("_model")
def test_the_variables_reach_the_server(monkeypatch):
    """Context, life and origins hold in the running server; a keyword wins over its variable."""
    monkeypatch.setenv("OLLAMA_CONTEXT_LENGTH", "512")
    monkeypatch.setenv("OLLAMA_NUM_PARALLEL", "3")
    monkeypatch.setenv("OLLAMA_KEEP_ALIVE", "-1")
    monkeypatch.setenv("OLLAMA_ORIGINS", "https://a.example,chrome-extension://*")
    with EmbeddedOllama(parallel=1) as server:
        assert server._config["shape"]["parallel"] == 1
        assert EmbeddedOllama()._config["shape"]["parallel"] == 3
        ask = {"model": MODEL_NAME, "prompt": "Hi", "stream": False, "options": {"num_predict": 1}}
        assert requests.post(f"{server.url}/api/generate", json=ask, timeout=60).json()["done"]
        (loaded,) = requests.get(f"{server.url}/api/ps", timeout=30).json()["models"]
        assert loaded["context_length"] == 512
        assert int(loaded["expires_at"][:4]) > 2200
        for origin, status in (
            ("https://A.example", 200),
            ("chrome-extension://abc", 200),
            ("https://a.example.evil", 403),
            ("http://localhost:1", 200),
        ):
            reply = requests.get(f"{server.url}/api/version", headers={"Origin": origin}, timeout=5)
            assert reply.status_code == status
            assert reply.headers.get("access-control-allow-origin") == (origin if status == 200 else None)


@pytest.mark.llama
@pytest.mark.usefixtures("_model")
def test_serve_listens_where_ollama_host_says(monkeypatch):
    """The command takes the address from the variable, as ``ollama serve`` does; --port wins over it."""
    monkeypatch.setenv("OLLAMA_HOST", "localhost:0")
    served = subprocess.Popen(
        [sys.executable, "-m", "analysis_kit.cli", "serve"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )  # fmt: skip
    line = served.stdout.readline()
    url = line.split()[2].rstrip(";")
    assert url.startswith("http://localhost:")
    assert requests.get(url, timeout=5).text == "Ollama is running"
    port = url.rpartition(":")[2]
    again = subprocess.run(
        [sys.executable, "-m", "analysis_kit.cli", "serve", "--port", port],
        capture_output=True,
        text=True,
        check=False,
    )
    assert again.returncode == 2
    assert f"cannot listen on localhost port {port}: the port is in use" in again.stderr
    served.send_signal(signal.SIGINT)
    assert served.wait() == 0
    served.stdout.close()
    served.stderr.close()


def test_nothing_is_said_where_nothing_is_set(caplog):
    """No variable, no warning."""
    with caplog.at_level(logging.WARNING):
        server_variables()
        listen_address()
    assert not caplog.records
