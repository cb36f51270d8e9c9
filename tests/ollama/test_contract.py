"""One contract: the scripted fake that other tests lean on, the embedded server with a real model, a real Ollama (`live`)."""

from __future__ import annotations

import json
import math
import re
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime

import ollama
import pytest
import requests
from fakes.ollama import FakeOllama

from analysis_kit.errors import ConfigurationError, ModelNotFoundError
from analysis_kit.ollama.client import OllamaClient
from analysis_kit.ollama.embedded import MODEL_NAME, EmbeddedOllama

SCHEMA = {
    "type": "object",
    "properties": {"tone": {"type": "string", "enum": ["up", "down"]}},
    "required": ["tone"],
}
FEW = {"temperature": 0, "seed": 1, "num_predict": 6}
MESSAGES = [{"role": "user", "content": "Say hi"}]


SERVERS = [
    "fake",
    pytest.param("embedded", marks=pytest.mark.llama),
    pytest.param("live", marks=pytest.mark.live),
]


@pytest.fixture(scope="module", params=SERVERS)
def server(request):
    """A running server: its base URL and the name of its model."""
    if request.param == "fake":
        with FakeOllama(models=["fake:latest"]) as fake:
            yield fake.url, "fake:latest"
        return
    if request.param == "live":
        yield request.getfixturevalue("live_server")
        return
    try:
        running = EmbeddedOllama().start()
    except ConfigurationError as exc:
        pytest.skip(str(exc))
    yield running.url, MODEL_NAME
    running.stop()


@pytest.fixture
def post(server):
    url, model = server
    return lambda path, **body: requests.post(url + path, json={"model": model, **body}, timeout=60)


@pytest.mark.parametrize("path", ["/", "/api/version", "/api/tags"])
def test_get_and_head(server, path):
    """Both answer what clients probe with; HEAD has no body."""
    got, head = requests.get(server[0] + path, timeout=5), requests.head(server[0] + path, timeout=5)
    assert got.status_code == head.status_code == 200
    assert head.content == b""
    assert got.content


def test_the_model_is_listed_shown_and_loaded(server, post):
    """Tags, show and ps name one model by one digest, with what the sheet says of it."""
    url, model = server
    listed = requests.get(f"{url}/api/tags", timeout=30).json()["models"]
    (item,) = [each for each in listed if each["name"] == model]
    assert item["model"] == model
    assert re.fullmatch("[0-9a-f]{64}", item["digest"])
    assert item["size"] > 0
    assert item["details"]["family"]
    assert datetime.fromisoformat(item["modified_at"]).tzinfo
    card = post("/api/show").json()
    assert "completion" in card["capabilities"]
    assert isinstance(card["model_info"], dict)
    assert card["details"]["family"] == item["details"]["family"]
    assert post("/api/chat", messages=[]).json()["done_reason"] == "load"
    running = requests.get(f"{url}/api/ps", timeout=30).json()["models"]
    (loaded,) = [each for each in running if each["name"] == model]
    assert loaded["digest"] == item["digest"]
    assert loaded["context_length"] > 0
    assert datetime.fromisoformat(loaded["expires_at"]).tzinfo


@pytest.mark.parametrize(
    ("path", "ask"), [("/api/chat", {"messages": MESSAGES}), ("/api/generate", {"prompt": "Say hi"})]
)
def test_streamed_and_whole_answers_have_one_form(server, post, path, ask):
    """A stream is the default and NDJSON; its parts make the whole; metrics stand in the last object alone."""

    def text(piece):
        return piece["message"]["content"] if path == "/api/chat" else piece["response"]

    streamed = post(path, options=FEW, **ask)
    assert streamed.headers["content-type"] == "application/x-ndjson"
    *parts, last = (json.loads(line) for line in streamed.text.splitlines())
    whole = post(path, options=FEW, stream=False, **ask).json()
    assert "".join(map(text, [*parts, last])) == text(whole) != ""
    assert [piece["done"] for piece in [*parts, last]] == [False] * len(parts) + [True]
    for final in (last, whole):
        assert final["model"] == server[1]
        assert final["done_reason"] in {"stop", "length"}
        assert final["created_at"].endswith("Z")
        assert final["eval_count"] > 0
        assert final["prompt_eval_count"] > 0
        durations = [final.get(f"{name}_duration", 0) for name in ("load", "prompt_eval", "eval")]
        assert all(isinstance(duration, int) for duration in durations)
        assert 0 < sum(durations) <= final["total_duration"]


@pytest.mark.parametrize("path", ["/api/chat", "/api/generate"])
def test_nothing_to_answer_loads_or_unloads(post, path):
    """One plain object even where a stream is the default, without text and metrics."""
    for more, reason in (({}, "load"), ({"keep_alive": 0}, "unload")):
        reply = post(path, **more)
        assert reply.headers["content-type"].startswith("application/json")
        body = reply.json()
        assert (body["done"], body["done_reason"]) == (True, reason)
        assert "eval_count" not in body


def test_a_schema_is_kept(post):
    """Format as a schema gives JSON of that form; null and the empty text are no format."""
    for _ in range(2):
        reply = post("/api/chat", messages=MESSAGES, format=SCHEMA, stream=False).json()
        assert json.loads(reply["message"]["content"])["tone"] in {"up", "down"}
    assert post("/api/generate", prompt="x", format="", options=FEW, stream=False).status_code == 200


def test_logprobs_come_token_by_token(post):
    """Each generated token has one entry, with as many alternatives as asked for."""
    reply = post(
        "/api/chat", messages=MESSAGES, logprobs=True, top_logprobs=2, options=FEW, stream=False
    ).json()
    assert "".join(item["token"] for item in reply["logprobs"]) == reply["message"]["content"]
    assert all(len(item["top_logprobs"]) == 2 for item in reply["logprobs"])


def test_embeddings_have_norm_one(post):
    """A list of texts gives as many vectors, of norm 1."""
    vectors = post("/api/embed", input=["a", "b"]).json()["embeddings"]
    assert [sum(value * value for value in vector) for vector in vectors] == pytest.approx([1, 1], abs=1e-4)


@pytest.mark.parametrize("nothing", ["", []])
def test_nothing_has_no_vector(post, nothing):
    """The empty text and the empty list give an empty list of embeddings."""
    assert post("/api/embed", input=nothing).json()["embeddings"] == []


@pytest.mark.parametrize(
    ("path", "body", "status", "text"),
    [
        ("/api/chat", {"model": "none:7b", "messages": MESSAGES}, 404, "model 'none:7b' not found"),
        ("/api/generate", {"model": "none:7b", "prompt": "x"}, 404, "model 'none:7b' not found"),
        ("/api/show", {"model": "none:7b"}, 404, "model 'none:7b' not found"),
        ("/api/chat", {"model": "", "messages": MESSAGES}, 400, "model is required"),
        ("/api/generate", {"model": "", "prompt": "x"}, 404, "model '' not found"),
        ("/api/embed", {"model": "none", "input": "x"}, 404, 'model "none" not found, try pulling it first'),
        ("/api/embed", {"model": "", "input": "x"}, 404, "model '' not found"),
        (
            "/api/chat",
            {"messages": MESSAGES, "top_logprobs": 21},
            400,
            "top_logprobs must be between 0 and 20",
        ),
        ("/api/generate", {"prompt": "x", "top_logprobs": -1}, 400, "top_logprobs must be between 0 and 20"),
    ],
)
def test_errors_have_the_sheets_status_and_words(post, path, body, status, text):
    """A native error is one key, with its status, before any stream begins."""
    reply = post(path, **body)
    assert (reply.status_code, reply.json()) == (status, {"error": text})
    assert reply.headers["content-type"].startswith("application/json")


@pytest.mark.parametrize(
    ("method", "path", "status", "text"),
    [("GET", "/nowhere", 404, "404 page not found"), ("GET", "/api/chat", 405, "405 method not allowed")],
)
def test_what_does_not_exist(server, method, path, status, text):
    """Unknown paths and wrong methods are plain text."""
    reply = requests.request(method, server[0] + path, timeout=5)
    assert (reply.status_code, reply.text) == (status, text)


def test_more_requests_than_places_are_all_answered(server, post):
    """Those that wait have the wait in their total, and nobody is turned away."""
    with ThreadPoolExecutor(8) as threads:
        replies = list(
            threads.map(lambda _: post("/api/chat", messages=MESSAGES, options=FEW, stream=False), range(8))
        )
    assert [reply.status_code for reply in replies] == [200] * 8
    assert len({reply.json()["message"]["content"] for reply in replies}) == 1


def test_the_kits_client_reads_both_alike(server):
    """Every call of our own client parses, and its time split has no gap."""
    url, model = server
    with OllamaClient(url, model=model) as client:
        assert client.default_model() == model
        assert client.digest(model)
        assert client.version()
        assert model in [item.name for item in client.tags()]
        assert client.show(model)
        generated = client.generate("Say hi", options=FEW)
        chatted = client.chat(MESSAGES, options=FEW)
        for reply in (generated, chatted):
            assert reply.text
            assert reply.generated_tokens > 0
            for part in (reply.queue_s, reply.prompt_s, reply.generate_s, reply.total_s):
                assert math.isfinite(part)
                assert part >= 0
            assert reply.total_s <= reply.elapsed_s
        assert client.ps()
        told = client.analyze_sentiment("Revenue grew 12% and we raise our guidance.")
        assert told["label"] in {"positive", "neutral", "negative"}
        assert -1 <= told["score"] <= 1
        with pytest.raises(ModelNotFoundError):
            client.generate("x", model="none:7b")


def test_the_official_client_reads_both_alike(server):
    """Ollama's own client lists, chats whole and in parts, and raises its error with the status."""
    url, model = server
    client = ollama.Client(url)
    assert model in [item.model for item in client.list().models]
    whole = client.chat(model, MESSAGES, options=FEW)
    parts = list(client.chat(model, MESSAGES, options=FEW, stream=True))
    assert "".join(part.message.content for part in parts) == whole.message.content
    with pytest.raises(ollama.ResponseError) as caught:
        client.chat("none:7b", MESSAGES)
    assert caught.value.status_code == 404
    client._client.close()
