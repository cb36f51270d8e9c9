"""The client and the pool on a real Ollama: ``LIVE_OLLAMA_HOST`` names it, its only (or smallest) model is asked."""

from __future__ import annotations

import asyncio
import os
import threading

import pytest

from analysis_kit.cancellation import CancelToken, current_token
from analysis_kit.errors import AnswerError, ModelNotFoundError, OllamaError, TruncatedAnswerError
from analysis_kit.ollama.client import OllamaClient
from analysis_kit.ollama.pool import OllamaConnectionPool
from analysis_kit.ollama.questions import SENTIMENT

pytestmark = pytest.mark.live


@pytest.fixture
def host():
    """Name the server."""
    return os.environ["LIVE_OLLAMA_HOST"]


@pytest.fixture
def client(host):
    """Talk to the server about its smallest completion model."""
    with OllamaClient(host) as asking:
        able = [info for info in asking.tags() if "completion" in (info.capabilities or ("completion",))]
        asking.model = min(able, key=lambda info: info.size_bytes).name
        yield asking


def test_the_server_is_read_as_the_sheet_says(client):
    """Version, listing, card, digest and what is loaded come in the sheet's form."""
    assert client.version()[0].isdigit()
    assert len(client.digest(client.model)) == 64
    assert "completion" in client.show()["capabilities"]
    client.load()
    assert client.model in [info.name for info in client.ps()]


def test_durations_add_up(client):
    """The parts of an answer's time never exceed its total, which never exceeds our clock's."""
    reply = client.generate("Count to five.", options={"num_predict": 16})
    assert reply.load_s + reply.prompt_s + reply.generate_s + reply.queue_s <= reply.total_s * 1.02
    assert reply.total_s <= reply.elapsed_s
    assert reply.prompt_tokens > 0
    assert 0 < reply.generated_tokens <= 16


def test_a_question_is_answered_in_its_form(client):
    """The schema is kept, and label probabilities, where the server gives them, sum to 1."""
    answer = client.ask(SENTIMENT, "Revenue fell 20 % and we cut our guidance.", options={"num_ctx": 2048})
    assert answer.value.label in {"positive", "neutral", "negative"}
    assert not answer.probabilities or sum(answer.probabilities.values()) == pytest.approx(1)


def test_a_cut_answer_and_a_clipped_prompt_are_noticed(client):
    """Too few tokens for the answer is an error; too small a context for the prompt is an error or a flag."""
    with pytest.raises(TruncatedAnswerError):
        client.ask(SENTIMENT, "Revenue grew.", options={"num_predict": 3})
    said = []
    try:
        said += client.generate("Tell me a story. " * 600, options={"num_ctx": 512, "num_predict": 4}).flags
    except (OllamaError, AnswerError) as exc:
        said.append(str(exc))
    assert any(word in " ".join(said) for word in ("prompt clipped", "context"))


def test_a_missing_model_is_known(client):
    """The server's 404 becomes the typed error."""
    with pytest.raises(ModelNotFoundError, match="ollama pull"):
        client.generate("x", "no-such-model:1b")


def test_a_cancel_ends_a_generation(client):
    """A cancelled call returns at once, and the server is free for the next."""
    token = CancelToken()
    box = []

    def work():
        current_token.set(token)
        try:
            client.generate("Write a very long story.", options={"num_predict": 4000})
        except BaseException as exc:
            box.append(exc)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(1.0)
    token.cancel()
    thread.join(5)
    assert not thread.is_alive()
    assert isinstance(box[0], asyncio.CancelledError)
    assert client.generate("Say hi.", options={"num_predict": 4}).text


def test_a_pool_keeps_callers_apart(host, client):
    """Eight threads through three slots all get an answer."""
    with OllamaConnectionPool(2, 1, 600, hosts=host, model=client.model) as pool:
        texts = []

        def work():
            with pool.get_connection() as slot:
                texts.append(slot.generate("Say hi.", options={"num_predict": 4}).text)

        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(texts) == 8
        assert pool.get_stats()["active_connections"] == 0
