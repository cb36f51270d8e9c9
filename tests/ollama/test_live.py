"""The client on a real Ollama: ``LIVE_OLLAMA_HOST`` names it, its only (or smallest) model is asked. Met on v0.24.0."""

from __future__ import annotations

import asyncio
import json
import threading
import time

import pytest
import requests
from pydantic import BaseModel

from analysis_kit.cancellation import CancelToken, current_token
from analysis_kit.errors import (
    AnalysisError,
    AnswerError,
    ConfigurationError,
    ModelNotFoundError,
    OllamaError,
    TruncatedAnswerError,
)
from analysis_kit.ollama.client import OllamaClient
from analysis_kit.ollama.pool import OllamaConnectionPool
from analysis_kit.ollama.questions import SENTIMENT
from analysis_kit.retry import is_transient

pytestmark = pytest.mark.live

FEW = {"num_predict": 4}
STORY = "Tell me a story. " * 60


class Fruit(BaseModel):
    """A small answer."""

    name: str
    red: bool


@pytest.fixture
def host(live_server):
    """Name the server."""
    return live_server[0]


@pytest.fixture
def client(live_server):
    """Talk to the server about its smallest completion model."""
    with OllamaClient(live_server[0], model=live_server[1]) as asking:
        yield asking


def lacks(client, capability):
    """Skip where the model can what the test needs it not to."""
    if capability in client.show()["capabilities"]:
        pytest.skip(f"{client.model} has {capability}")


def until(true, seconds=20.0):
    """Ask until ``true()``; the server tells nobody when it is."""
    end = time.monotonic() + seconds
    while not true() and time.monotonic() < end:
        pass
    return true()


def test_the_server_is_read_as_the_sheet_says(client):
    """Version, listing, card, digest and what is loaded come in the sheet's form."""
    assert client.version()[0].isdigit()
    assert len(client.digest(client.model)) == 64
    assert "completion" in client.show()["capabilities"]
    client.load()
    (loaded,) = [info for info in client.ps() if info.name == client.model]
    assert loaded.loaded
    assert loaded.context_length > 0
    (listed,) = [info for info in client.tags() if info.name == client.model]
    assert listed.digest == loaded.digest
    assert listed.size_bytes > 0
    assert listed.family
    assert listed.parameter_size


def test_every_name_that_the_server_takes_is_its_model(client):
    """Case, tag, default host and namespace, and the word local name one model, to the server and to us."""
    if "/" in client.model:
        pytest.skip(f"{client.model} has another namespace")
    for name in (
        client.model.upper(),
        f" {client.model} ",
        f"library/{client.model}",
        f"registry.ollama.ai/library/{client.model}",
        f"{client.model}:local",
    ):
        assert client.generate("Say hi.", name, options={"num_predict": 1}).model == name
        assert client.digest(name) == client.digest(client.model)


def test_durations_add_up(client):
    """The parts of an answer's time never exceed its total, which never exceeds our clock's."""
    reply = client.generate("Count to five.", options={"num_predict": 16})
    assert reply.load_s + reply.prompt_s + reply.generate_s + reply.queue_s <= reply.total_s * 1.02
    assert reply.total_s <= reply.elapsed_s
    assert 0 < reply.first_token_s <= reply.elapsed_s
    assert reply.prompt_tokens > 0
    assert 0 < reply.generated_tokens <= 16


@pytest.mark.parametrize("way", ["generate", "chat"])
def test_a_stream_and_a_whole_answer_are_alike(client, way):
    """Pieces joined are the text; last object and counts come with both, whichever endpoint is asked."""
    said = {"generate": "Say hi.", "chat": [{"role": "user", "content": "Say hi."}]}[way]
    whole = getattr(client, way)(said, options=FEW)
    with getattr(client, way)(said, stream=True, options=FEW) as pieces:
        parts = [piece.text for piece in pieces]
    assert len(parts) > 1
    assert "".join(parts) == pieces.reply.text == whole.text
    for reply in (whole, pieces.reply):
        assert (reply.done_reason, reply.generated_tokens, reply.flags) == ("length", 4, ("truncated",))
        assert reply.prompt_tokens == whole.prompt_tokens > 0


def test_a_question_is_answered_in_its_form(client):
    """The schema is kept, and label probabilities, where the server gives them, sum to 1."""
    answer = client.ask(SENTIMENT, "Revenue fell 20 % and we cut our guidance.", options={"num_ctx": 2048})
    assert answer.value.label in {"positive", "neutral", "negative"}
    assert not answer.probabilities or sum(answer.probabilities.values()) == pytest.approx(1)


def test_a_pydantic_model_is_a_format(client):
    """The answer to either endpoint is JSON of the model's schema."""
    ask = "Name a fruit as JSON."
    for reply in (
        client.generate(ask, format=Fruit, options={"num_predict": 60}),
        client.chat([{"role": "user", "content": ask}], format=Fruit, options={"num_predict": 60}),
    ):
        assert isinstance(Fruit.model_validate_json(reply.text).red, bool)


def test_logprobs_come_with_the_tokens(client):
    """One entry a token, with the alternatives asked for; joined they are the text."""
    reply = client.generate("Say hi.", logprobs=True, top_logprobs=2, options=FEW)
    if not reply.logprobs and tuple(map(int, client.version().split(".")[:2])) < (0, 12):
        pytest.skip("an Ollama before 0.12.11 gives none")
    assert "".join(entry["token"] for entry in reply.logprobs) == reply.text
    for entry in reply.logprobs:
        assert entry["logprob"] <= 0
        assert len(entry["top_logprobs"]) == 2


def test_what_the_model_cannot_do_is_refused_by_name(client):
    """Thinking, tools and insertion are the server's 400; images, which it would leave out, are ours; no thinking is fine."""
    chat = [{"role": "user", "content": "x", "images": ["aGk="]}]
    tools = [{"type": "function", "function": {"name": "f", "description": "", "parameters": {}}}]
    for capability, ask in (
        ("thinking", lambda: client.generate("x", think=True)),
        ("tools", lambda: client.chat([{"role": "user", "content": "x"}], tools=tools)),
        ("insert", lambda: client.generate("x", suffix="y")),
    ):
        lacks(client, capability)
        with pytest.raises(OllamaError, match=f"does not support {capability}") as caught:
            ask()
        assert (caught.value.status, caught.value.model, caught.value.host) == (
            400,
            client.model,
            client.base_url,
        )
        assert not is_transient(caught.value)
    lacks(client, "vision")
    for ask in (lambda: client.chat(chat), lambda: client.generate("x", images=["aGk="])):
        with pytest.raises(ConfigurationError, match="sees no images"):
            ask()
    assert client.generate("Say hi.", think=False, options=FEW).text


@pytest.mark.parametrize(
    "fields",
    [
        {"options": {"num_ctx": "many"}},
        {"options": {"stop": "x"}},
        {"format": "xml"},
        {"format": {"type": "nonsense"}},
        {"template": "{{ .Prompt"},
        {"keep_alive": "300"},
        {"think": "perhaps"},
        {"logprobs": True, "top_logprobs": 21},
        {"raw": True, "template": "x"},
    ],
    ids=str,
)
def test_a_wrong_field_is_a_typed_error_that_is_not_repeated(client, host, fields):
    """Whatever the status, the error has host, model and the server's words, and neither retry nor pool blames the host."""
    with OllamaConnectionPool(1, 0, 60, hosts=host, model=client.model) as pool:
        with pytest.raises(OllamaError) as caught, pool.get_connection() as slot:
            slot.generate("x", **fields)
        (member,) = pool.get_stats()["hosts"]
    error = caught.value
    assert (error.host, error.model) == (client.base_url, client.model)
    assert error.status in {400, 500}
    assert error.server_text
    assert error.server_text in str(error)
    assert not is_transient(error)
    assert (member["up"], member["failed"]) == (True, 0)


def test_an_unknown_option_is_passed_over(client):
    """An option of another name reaches the server, which says nothing."""
    assert client.generate("Say hi.", options={**FEW, "own_invention": 1}).text


def test_a_missing_model_is_known(client):
    """The server's 404 becomes the typed error, from every endpoint; a pull's failure comes with the server's words."""
    name = "no-such-model:1b"
    for ask in (
        lambda: client.generate("x", name),
        lambda: client.chat([{"role": "user", "content": "x"}], name),
        lambda: client.show(name),
        lambda: client.embed("x", name),
        lambda: client.load(name),
    ):
        with pytest.raises(ModelNotFoundError, match="ollama pull") as caught:
            ask()
        assert (caught.value.status, caught.value.model) == (404, name)
        assert "not found" in caught.value.server_text
    with pytest.raises(ModelNotFoundError, match="ollama pull"):
        client.digest(name)
    with pytest.raises(OllamaError) as caught:
        client.pull(name)
    assert "pull model manifest" in caught.value.server_text
    with pytest.raises(OllamaError, match="invalid model name") as caught:
        client.generate("x", "no//name")
    assert not is_transient(caught.value)


def test_a_cut_answer_and_a_clipped_prompt_are_noticed(client):
    """Too few tokens for the answer is an error; too small a context for the prompt is an error or a flag, in every way."""
    with pytest.raises(TruncatedAnswerError):
        client.ask(SENTIMENT, "Revenue grew.", options={"num_predict": 3})
    small = {"num_ctx": 64, "num_predict": 4}
    for ask in (
        lambda: client.generate(STORY, options=small),
        lambda: client.generate(STORY, shift=False, options=small),
        lambda: client.generate(STORY, truncate=False, options=small),
        lambda: client.chat([{"role": "user", "content": STORY}], options=small),
        lambda: client.chat([{"role": "user", "content": STORY}], truncate=False, options=small),
        lambda: client.chat([{"role": "user", "content": f"Message {n}"} for n in range(40)], options=small),
    ):
        try:
            said = ask().flags
        except (OllamaError, AnswerError) as exc:
            said = (str(exc),)
        assert any(word in " ".join(said) for word in ("prompt clipped", "context"))


def test_an_answer_in_a_loop_is_noticed(client):
    """The server ends a loop in silence; that is a typed error with the text, which nobody repeats."""
    with pytest.raises(TruncatedAnswerError, match="over and over") as caught:
        client.generate("Say x.", format={"type": "string", "enum": ["x " * 60]})
    assert caught.value.text.endswith("x x x")


def test_a_prompt_dropped_while_answering_is_noticed(client):
    """An answer longer than the context makes the server drop prompt, or stop: both are flagged."""
    options = {"num_ctx": 64, "num_predict": 100}
    reply = client.generate("Write a long story about a dog.", options=options)
    if reply.done_reason == "stop" and reply.prompt_tokens + reply.generated_tokens <= 64:
        pytest.skip("the model had nothing more to say")
    assert set(reply.flags) & {"prompt clipped", "truncated"}
    assert ("prompt clipped" in reply.flags) == (reply.prompt_tokens + reply.generated_tokens > 65)


def test_a_context_that_nobody_asked_for_is_noticed(client, host):
    """A model's own num_ctx clips a prompt whose words alone do not tell it."""
    name = "analysis-kit-live-test"
    made = {"model": name, "from": client.model, "parameters": {"num_ctx": 1030}, "stream": False}
    assert requests.post(f"{host}/api/create", json=made, timeout=60).json() == {"status": "success"}
    try:
        try:
            said = client.generate("incontrovertibly " * 400 + "Say hi.", name, options=FEW).flags
        except AnswerError as exc:
            said = (str(exc),)
        assert "prompt clipped" in " ".join(said)
    finally:
        client.generate("Say hi.", name, options={"num_predict": 1}, keep_alive=0)
        requests.delete(f"{host}/api/delete", json={"model": name}, timeout=60).raise_for_status()


def test_embeddings_have_norm_one_and_are_never_cut(client):
    """One vector a text, of length 1; a text beyond the context, or a length that the model has not, is an error."""
    if tuple(map(int, client.version().split(".")[:2])) >= (0, 30):
        pytest.skip("from 0.30 a chat model gives no vectors")
    made = client.embed(["a", "b"])
    assert [sum(x * x for x in vector) for vector in made.vectors] == pytest.approx([1, 1], abs=1e-4)
    assert made.prompt_tokens > 0
    assert len(client.embed("a", dimensions=8).vectors[0]) == 8
    with pytest.raises(ConfigurationError, match="vectors of length"):
        client.embed("a", dimensions=100_000)
    with pytest.raises(OllamaError, match="exceeds the context length") as caught:
        client.embed(STORY, options={"num_ctx": 64})
    assert caught.value.status == 400
    assert client.embed(STORY, truncate=True, options={"num_ctx": 64}).prompt_tokens <= 64


def test_a_model_is_loaded_and_unloaded_without_an_answer(client, host):
    """load() loads; keep_alive=0 unloads after the answer; such replies have no stream, no newline, and are no answer of ours."""
    client.load()
    assert client.model in [info.name for info in client.ps()]
    assert client.generate("Say hi.", keep_alive=0, options=FEW).text
    assert until(lambda: client.model not in [info.name for info in client.ps()])
    body = {"model": client.model, "prompt": "", "stream": True}
    for more, reason in (({}, "load"), ({"keep_alive": 0}, "unload")):
        answer = requests.post(f"{host}/api/generate", json=body | more, timeout=300)
        assert answer.headers["content-type"].startswith("application/json")
        assert not answer.text.endswith("\n")
        said = json.loads(answer.text)
        assert (said["done"], said["done_reason"], said["response"]) == (True, reason, "")
    with pytest.raises(AnalysisError, match="empty"):
        client.generate(" \n")


def test_a_cancel_ends_a_generation(client):
    """A cancelled call returns at once, and the server is free for the next long before the first would have been done."""
    client.load()
    token = CancelToken()
    box, seen = [], threading.Event()
    tokens = 4000

    def work():
        current_token.set(token)
        try:
            options = {"num_predict": tokens, "num_ctx": 4096, "temperature": 1.5}
            for _ in client.generate("Write a very long story.", stream=True, options=options):
                seen.set()
        except BaseException as exc:
            box.append(exc)

    thread = threading.Thread(target=work)
    thread.start()
    assert seen.wait(300)
    token.cancel()
    thread.join(5)
    assert not thread.is_alive()
    assert isinstance(box[0], asyncio.CancelledError)
    reply = client.generate("Say hi.", options={**FEW, "num_ctx": 4096})
    assert reply.text
    assert reply.queue_s < tokens * reply.generate_s / reply.generated_tokens / 10


def test_a_cancel_while_the_model_loads_leaves_the_server_well(client):
    """The load is given up or goes on: the caller is free at once, and the next one gets an answer."""
    client.generate("Say hi.", keep_alive=0, options=FEW)
    assert until(lambda: client.model not in [info.name for info in client.ps()])
    token = CancelToken()
    box = []

    def work():
        current_token.set(token)
        try:
            client.generate("Say hi.", options=FEW)
        except BaseException as exc:
            box.append(exc)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(0.05)
    token.cancel()
    thread.join(5)
    assert not thread.is_alive()
    assert not box or isinstance(box[0], asyncio.CancelledError)
    assert client.generate("Say hi.", options=FEW).text
    assert client.model in [info.name for info in client.ps()]
