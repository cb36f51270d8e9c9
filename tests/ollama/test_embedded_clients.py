"""The official clients, Python and JavaScript, on the embedded server: every call they have for its endpoints."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
from pathlib import Path

import ollama
import pytest

from analysis_kit.errors import ConfigurationError
from analysis_kit.ollama.embedded import MODEL_NAME, EmbeddedOllama

pytestmark = pytest.mark.llama
SCHEMA = {
    "type": "object",
    "properties": {"tone": {"type": "string", "enum": ["up", "down"]}},
    "required": ["tone"],
}
OPTIONS = {"temperature": 0, "seed": 3, "num_predict": 8}
MESSAGES = [{"role": "user", "content": "Say hi"}]
JS_CLIENT = "ollama@0.6.3"
TOUR = Path(__file__).with_name("tour.mjs")


@pytest.fixture(scope="module")
def url():
    try:
        server = EmbeddedOllama().start()
    except ConfigurationError as exc:
        pytest.skip(str(exc))
    yield server.url
    server.stop()


@pytest.fixture
def client(url):
    made = ollama.Client(url)
    yield made
    made._client.close()


def test_python_lists_shows_and_counts_models(client):
    """list, ps and show parse, and name the model."""
    assert [model.model for model in client.list().models] == [MODEL_NAME]
    card = client.show(MODEL_NAME)
    assert card.capabilities == ["completion"]
    assert card.details.family == "llama"
    assert card.modelinfo["llama.context_length"] == 8192
    client.generate(MODEL_NAME, "")
    (loaded,) = client.ps().models
    assert loaded.model == MODEL_NAME
    assert loaded.context_length == 2048
    assert loaded.size > loaded.size_vram == 0


def test_python_chat_plain_and_streaming(client):
    """Chat answers whole and in parts, the parts make the whole."""
    whole = client.chat(MODEL_NAME, MESSAGES, options=OPTIONS)
    assert whole.done
    assert whole.message.role == "assistant"
    assert whole.eval_count
    parts = list(client.chat(MODEL_NAME, MESSAGES, options=OPTIONS, stream=True))
    assert "".join(part.message.content for part in parts) == whole.message.content
    assert [part.done for part in parts] == [False] * (len(parts) - 1) + [True]


def test_python_generate_plain_and_streaming(client):
    """Generate answers whole and in parts, takes system, context, raw, keep_alive and suffix' refusal."""
    whole = client.generate(MODEL_NAME, "Say hi", system="Be brief.", options=OPTIONS, keep_alive="5m")
    parts = list(client.generate(MODEL_NAME, "Say hi", system="Be brief.", options=OPTIONS, stream=True))
    assert "".join(part.response for part in parts) == whole.response
    assert client.generate(MODEL_NAME, "And again", context=whole.context, options=OPTIONS).response
    assert client.generate(MODEL_NAME, "One, two,", raw=True, options=OPTIONS).context is None
    with pytest.raises(ollama.ResponseError, match="does not support insert") as caught:
        client.generate(MODEL_NAME, "def f(", suffix="return 1")
    assert caught.value.status_code == 400


def test_python_structured_outputs_and_logprobs(client):
    """Format as json and as a schema, and logprobs with alternatives, arrive parsed."""
    told = client.chat(MODEL_NAME, MESSAGES, format=SCHEMA, options={"temperature": 0})
    assert json.loads(told.message.content)["tone"] in {"up", "down"}
    assert client.generate(
        MODEL_NAME, "A cat as JSON", format="json", options={**OPTIONS, "num_predict": 40}
    ).response.startswith("{")
    scored = client.chat(MODEL_NAME, MESSAGES, logprobs=True, top_logprobs=2, options=OPTIONS)
    assert len(scored.logprobs) == scored.eval_count
    assert all(len(item.top_logprobs) == 2 for item in scored.logprobs)


def test_python_embeds(client):
    """Embed takes one text and several; the older call works."""
    assert len(client.embed(MODEL_NAME, "hello").embeddings) == 1
    assert len(client.embed(MODEL_NAME, ["hello", "there"], truncate=True, dimensions=8).embeddings[1]) == 8
    assert len(client.embeddings(MODEL_NAME, "hello").embedding) == 576


def test_python_errors(client):
    """A missing model is a ResponseError with its status; an endpoint that is not served too; streaming as well."""
    for call in (
        lambda: client.chat("none", MESSAGES),
        lambda: list(client.chat("none", MESSAGES, stream=True)),
        lambda: client.generate("none", "x"),
        lambda: client.embed("none", "x"),
        lambda: client.show("none"),
        lambda: client.pull("none"),
        lambda: list(client.pull("none", stream=True)),
        lambda: client.push("none"),
        lambda: client.create("none", from_=MODEL_NAME),
        lambda: client.delete("none"),
        lambda: client.copy("none", "other"),
    ):
        with pytest.raises(ollama.ResponseError) as caught:
            call()
        assert caught.value.status_code == 404
    with pytest.raises(ollama.ResponseError, match="does not support thinking"):
        client.chat(MODEL_NAME, MESSAGES, think=True)
    with pytest.raises(ollama.ResponseError, match="does not support tools"):
        client.chat(MODEL_NAME, MESSAGES, tools=[{"type": "function", "function": {"name": "f"}}])


def test_python_async_client(url):
    """The asynchronous client makes the same tour, two answers at once."""

    async def tour():
        async with ollama.AsyncClient(url) as client:
            assert (await client.list()).models
            assert (await client.show(MODEL_NAME)).capabilities
            both = await asyncio.gather(
                *(client.chat(MODEL_NAME, MESSAGES, options=OPTIONS) for _ in range(2))
            )
            parts = [
                part async for part in await client.chat(MODEL_NAME, MESSAGES, options=OPTIONS, stream=True)
            ]
            assert {each.message.content for each in both} == {
                "".join(part.message.content for part in parts)
            }
            made = [
                part async for part in await client.generate(MODEL_NAME, "Hi", options=OPTIONS, stream=True)
            ]
            assert made[-1].done
            assert (await client.generate(MODEL_NAME, "Hi", options=OPTIONS)).response
            assert (await client.embed(MODEL_NAME, "Hi")).embeddings
            assert (await client.embeddings(MODEL_NAME, "Hi")).embedding
            assert (await client.ps()).models
            with pytest.raises(ollama.ResponseError):
                await client.chat("none", MESSAGES)

    asyncio.run(tour())


def test_javascript_client(url, tmp_path):
    """The JavaScript client makes the same tour, and reports each call."""
    npm = shutil.which("npm")
    if not npm or not shutil.which("node"):
        pytest.skip("Node.js and npm are not on the PATH")
    install = [npm, "install", "--no-audit", "--no-fund", "--fetch-timeout=20000", "--fetch-retries=3"]
    try:
        installed = subprocess.run(
            [*install, "--prefix", str(tmp_path), JS_CLIENT],
            capture_output=True,
            text=True,
            check=False,
            timeout=240,
        )
    except subprocess.TimeoutExpired:
        pytest.skip(f"the npm registry did not give {JS_CLIENT} within 240 s")
    if installed.returncode:
        pytest.skip(f"npm cannot install {JS_CLIENT}: {installed.stderr.strip().splitlines()[-1:]}")
    shutil.copy(TOUR, tmp_path / "tour.mjs")
    done = subprocess.run(
        ["node", "tour.mjs", url, MODEL_NAME],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "NO_COLOR": "1"},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [
        "version", "list", "show", "chat", "chat-stream", "format", "generate", "generate-stream", "embed", "embeddings",
        "ps", "logprobs", "missing", "missing-stream", "unserved", "abort", "unload",
    ]  # fmt: skip
