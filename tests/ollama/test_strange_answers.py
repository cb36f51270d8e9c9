"""What servers, old and new, and things between send besides the plain case: read where it can be meant, else a typed error."""

from __future__ import annotations

import gzip
import json
import pickle
import time
import traceback
from email.utils import formatdate

import pytest
from fakes.ollama import BUSY, FakeOllama, Play

from analysis_kit.errors import (
    AnswerError,
    ConfigurationError,
    EmptyAnswerError,
    InvalidAnswerError,
    ModelNotFoundError,
    OllamaError,
    ServerBusyError,
    StreamBrokenError,
    TruncatedAnswerError,
)
from analysis_kit.ollama.client import OllamaClient
from analysis_kit.ollama.faults import Faults
from analysis_kit.retry import is_transient

HI = {"response": "hi", "done": False}
LAST = {"response": "", "done": True, "done_reason": "stop"}
ASKED = [{"role": "user", "content": "x"}]


def line(value):
    """Return one line of NDJSON."""
    return json.dumps(value, ensure_ascii=False).encode() + b"\n"


@pytest.fixture
def fake():
    """Serve with four slots."""
    with FakeOllama(slots=4) as server:
        yield server


@pytest.fixture
def client(fake):
    """Talk to the fake."""
    with OllamaClient(fake.url, model="fake") as asking:
        yield asking


@pytest.mark.parametrize(
    "lines",
    [
        [b"\xef\xbb\xbf" + line(HI), LAST],
        [line(HI).replace(b"\n", b"\r\n"), line(LAST).replace(b"\n", b"\r\n")],
        [b"\n\r\n  \n", HI, b"\n\n", LAST, b"\n"],
        [HI, line(LAST).rstrip()],
        [line(HI) + line(LAST)],
        [HI, {"done": True, "done_reason": "stop"}],
        [{**LAST, "response": "hi"}],
        [HI, LAST, LAST],
        [HI, LAST, {"response": " and more", "done": False}],
        [{**HI, "error": None}, {**LAST, "error": None}],
        [HI, {**LAST, "done_reason": "of a later version", "new_field": {"a": 1}}],
        [HI, {"response": None, "done": True}],
        [{**HI, "tool_calls": None, "logprobs": None, "thinking": None}, LAST],
    ],
)
def test_an_answer_is_read_in_every_form_that_it_may_come_in(fake, client, lines):
    """Marks, blank lines, either line end, none at the end, a last object with text or without, or twice: one answer."""
    fake.script("/api/generate", Play(lines=lines), Play(lines=lines, chunk_bytes=1))
    assert client.generate("x").text == "hi"
    assert "".join(piece.text for piece in client.generate("x", stream=True)) == "hi"


def test_lines_may_be_cut_anywhere_inside_a_letter_or_a_line_end(fake, client):
    """Every cut of a CRLF stream with letters of two, three and four bytes gives the same text."""
    said = line({"response": "é売🙂", "done": False}).replace(b"\n", b"\r\n")
    for cut in range(1, len(said)):
        fake.script("/api/generate", Play(lines=[said[:cut], said[cut:], LAST], mid_gate=None))
        assert client.generate("x").text == "é売🙂"


def test_a_compressed_answer_is_unpacked(fake, client):
    """A proxy that compresses though it was not asked to is understood, in streams, listings and errors."""
    packed = {"headers": {"Content-Encoding": "gzip"}}
    fake.script("/api/generate", Play(body=gzip.compress(line(HI) + line(LAST)), **packed))
    assert client.generate("x").text == "hi"
    fake.script("/api/version", Play(body=gzip.compress(b'{"version": "9"}'), **packed))
    assert client.version() == "9"
    fake.script("/api/version", Play(status=500, body=gzip.compress(b'{"error": "boom"}'), **packed))
    with pytest.raises(OllamaError, match="boom"):
        client.version()
    fake.script("/api/version", Play(body=b"not gzip", **packed))
    with pytest.raises(OllamaError):
        client.version()


def test_a_compressed_answer_may_come_byte_by_byte_and_cut_short(fake, client):
    """Packed text is unpacked however it is cut; one that ends early, by its own length, is never a whole answer."""
    packed = gzip.compress(line({"response": "é売🙂", "done": False}) + line(LAST))
    headers = {"Content-Encoding": "gzip"}
    fake.script("/api/generate", Play(body=packed, headers=headers, chunk_bytes=1))
    assert client.generate("x").text == "é売🙂"
    for end in range(1, len(packed)):
        fake.script("/api/generate", Play(body=packed[:end], headers=headers))
        try:
            assert client.generate("x").text == "é売🙂"
        except OllamaError:
            assert end < len(packed) - 8  # what is missing is more than the checksum


def test_a_line_of_eight_megabytes_is_read(fake, client):
    """What the official client takes is taken: a line of just under 8 MiB, in one piece of answer."""
    text = "y" * (8 * 2**20 - 60)
    fake.script("/api/generate", Play(lines=[{"response": text, "done": False}, LAST]))
    assert client.generate("x").text == text


def test_a_host_with_a_path_is_asked_below_it(fake):
    """What stands behind the port comes before every endpoint's own path, for answers and listings."""
    with OllamaClient(f"{fake.url}/lab/ollama/", model="fake") as below:
        fake.script("/lab/ollama/api/generate", Play(lines=[HI, LAST]))
        fake.script("/lab/ollama/api/version", Play(body={"version": "1"}))
        assert below.generate("x").text == "hi"
        assert below.version() == "1"


@pytest.mark.parametrize("path", ["/v1", "/v1/", "/api", "/api/chat"])
def test_an_endpoint_pasted_with_the_address_is_said(fake, path):
    """The address that OpenAI's clients want, or an endpoint's own, is named as what to shorten."""
    with (
        OllamaClient(fake.url + path, model="fake") as client,
        pytest.raises(OllamaError, match=f"address ends before {path.rstrip('/')}$"),
    ):
        client.generate("x")


@pytest.mark.parametrize(
    ("host", "status", "shortened"),
    [
        ("http://gw:80/lab/v1", 404, "/v1"),
        ("http://gw:80/api/chat", 405, "/api/chat"),
        ("http://gw:80/v1", 502, ""),
        ("http://api.example.com:11434", 404, ""),
        ("https://v1.ollama.corp", 404, ""),
        ("http://gw:80/api-gw/ollama", 404, ""),
        ("http://gw:80/ollama/v1.2", 404, ""),
        ("http://gpu/apiserver", 404, ""),
    ],
)
def test_only_an_endpoint_behind_the_address_is_named_as_too_much(host, status, shortened):
    """Hosts and folders that merely begin with its letters are not, nor is it where the path was found."""
    faults = Faults(host, connect_timeout_s=1, read_timeout_s=1, api_key=None)
    said = str(faults.refused(status, b"", headers={}, model="m"))
    assert said.endswith(
        f"address ends before {shortened}" if shortened else "; is an Ollama server at this address?"
    )


@pytest.mark.parametrize(
    ("reason", "flags"),
    [("stop", ()), ("length", ("truncated",)), ("of a later version", ()), (None, ()), ("", ())],
)
def test_every_reason_to_end_is_kept(fake, client, reason, flags):
    """The reason is on the reply as the server gave it, and only the token limit is a flag; in chat as in generate."""
    last = {"done": True, "done_reason": reason}
    fake.script("/api/generate", Play(lines=[HI, {**last, "response": ""}]))
    fake.script(
        "/api/chat", Play(lines=[{"message": {"content": "hi"}, "done": False}, {**last, "message": None}])
    )
    for reply in (client.generate("x"), client.chat(ASKED)):
        assert (reply.text, reply.done_reason, reply.flags) == ("hi", reason or "", flags)


BODIES = [
    {"error": "boom"},
    {"error": {"message": "boom", "type": "api_error", "param": None, "code": None}},
    {"error": {"error": "boom"}},
    {"error": ["boom"]},
    {"message": "boom"},
    {"detail": "boom"},
    ["boom"],
    "boom",
    "<!DOCTYPE html><p>boom</p>",
    b"\xff boom",
    json.dumps({"error": json.dumps({"error": {"message": "boom"}})}),
]


@pytest.mark.parametrize(
    "status", [400, 401, 403, 404, 405, 408, 413, 418, 429, 499, 500, 502, 503, 504, 599]
)
def test_every_status_with_every_kind_of_body_is_one_typed_error(fake, client, status):
    """The words are found in every form that servers and gateways give them, the facts are there, and the line stays open."""
    for body in [*BODIES, "", None, {}, {"error": None}, {"error": ""}]:
        for path, ask in (("/api/chat", lambda: client.chat(ASKED)), ("/api/show", client.show)):
            fake.script(path, Play(status=status, body="null" if body is None else body))
            with pytest.raises(OllamaError) as caught:
                ask()
            error = caught.value
            assert (error.host, error.model, error.status) == (fake.url, "fake", status)
            assert isinstance(error, ServerBusyError) is (status in (429, 503))
            assert ("boom" in error.server_text and "boom" in str(error)) is (body in BODIES)
            assert str(status) in str(error)
            assert "None" not in error.server_text or isinstance(body, dict)
    assert fake.connections == 1


@pytest.mark.parametrize("error", ["boom", {"message": "boom", "code": 5}, ["boom"]])
def test_an_error_under_status_200_is_an_error_on_every_endpoint(fake, client, error):
    """``{"error": ...}`` with a good status is never an empty listing, an empty answer or no vectors."""
    calls = {
        "/api/generate": lambda: client.generate("x"),
        "/api/chat": lambda: client.chat(ASKED),
        "/api/embed": lambda: client.embed("x"),
        "/api/tags": client.tags,
        "/api/ps": client.ps,
        "/api/show": client.show,
        "/api/version": client.version,
        "/api/pull": lambda: client.pull("m"),
    }
    for path, call in calls.items():
        fake.script(path, Play(body={"error": error}))
        with pytest.raises(StreamBrokenError, match="boom") as caught:
            call()
        assert "boom" in caught.value.server_text


@pytest.mark.parametrize("key", ["logprobs", "tool_calls", "thinking", "content"])
@pytest.mark.parametrize("value", [5, {"a": 1}, [1, 2]])
def test_parts_of_a_strange_type_are_typed_errors(fake, client, key, value):
    """A number, or a list of numbers, where the protocol has another form is an invalid answer, never a TypeError."""
    message = {"role": "assistant", "content": "x", **({} if key == "logprobs" else {key: value})}
    extra = {"logprobs": value} if key == "logprobs" else {}
    fake.script("/api/chat", Play(lines=[{"message": message, "done": True, **extra}]))
    with pytest.raises(InvalidAnswerError, match=key):
        client.chat(ASKED)


def test_tool_calls_and_thoughts_come_in_any_chunk(fake, client):
    """Calls in the first, a middle or the last chunk are gathered in order, with or without text; thoughts apart from it."""
    call = {"function": {"name": "f", "arguments": {"n": 1}}}
    other = {"id": "call_2", "function": {"index": 1, "name": "g", "arguments": {}}}
    empty = {"role": "assistant", "content": ""}
    lines = [
        {"message": {**empty, "thinking": "hm "}, "done": False},
        {"message": {**empty, "tool_calls": [call]}, "done": False},
        {"message": {**empty, "thinking": "so"}, "done": False},
        {"message": {**empty, "tool_calls": [other]}, "done": True, "done_reason": "stop"},
    ]
    fake.script("/api/chat", Play(lines=lines))
    reply = client.chat(ASKED)
    assert (reply.text, reply.thinking, reply.tool_calls) == ("", "hm so", [call, other])
    lines[2]["message"]["content"] = "said"
    fake.script("/api/chat", Play(lines=lines))
    assert client.chat(ASKED).text == "said"


def test_a_thought_alone_is_no_answer(fake, client):
    """Reasoning with nothing after it is an empty answer, though the server calls it a stop."""
    fake.script("/api/generate", Play(lines=[{"response": "", "thinking": "hm", "done": False}, LAST]))
    with pytest.raises(EmptyAnswerError):
        client.generate("x")


@pytest.mark.parametrize(
    ("status", "body", "headers", "words", "again"),
    [
        (503, {"error": BUSY}, {}, BUSY, True),
        (429, {"error": "slow down"}, {"Retry-After": "7"}, "Retry-After: 7", True),
        (500, {"error": "llama-server process has terminated: exit status 2"}, {}, "exit status 2", True),
        (500, {"error": "timed out waiting for llama-server to start"}, {}, "timed out waiting", True),
        (500, {"error": "model runner has unexpectedly stopped, ..."}, {}, "unexpectedly stopped", True),
        (500, {"error": 'option "num_ctx" must be of type integer'}, {}, "must be of type integer", False),
        (
            500,
            {"error": 'invalid format: "3"; expected "json" or a valid JSON Schema'},
            {},
            "invalid format",
            False,
        ),
        (500, {"error": "invalid JSON schema in format"}, {}, "invalid JSON schema", False),
        (500, {"error": "template: :1: unclosed action"}, {}, "unclosed action", False),
        (502, "<html><h1>502 Bad Gateway</h1></html>", {}, "is an Ollama server at this address", True),
        (504, "", {}, "is an Ollama server at this address", True),
        (500, "\n\n  plain\nwords ", {}, "plain words", True),
        (400, {"error": '"fake" does not support thinking'}, {}, "does not support thinking", False),
        (400, {"error": "the input length exceeds the context length"}, {}, "exceeds the context", False),
        (
            401,
            {"error": "unauthorized"},
            {},
            "for a run: pool=OllamaConnectionPool(hosts=..., api_key=...)",
            False,
        ),
        (
            401,
            {"error": "unauthorized", "signin_url": "https://o/x?n=1"},
            {},
            "sign in at https://o/x?n=1 or",
            False,
        ),
        (401, {"error": "unauthorized", "signin_url": None}, {}, "; give the key", False),
        (401, "<html>login</html>", {}, "api_key=", False),
        (500, {"error": None, "message": "boom"}, {}, "500: boom", True),
        (500, {"error": {"message": None, "code": 7}}, {}, "'code': 7", True),
        (500, {"detail": "not here"}, {}, '"detail":"not here"', True),
        (500, [1, "two"], {}, '[1,"two"]', True),
        (500, b"\xff\xfe", {}, "status 500", True),
        (403, "", {}, "does not take requests from here", False),
        (404, "404 page not found", {}, "is an Ollama server at this address", False),
        (405, "405 method not allowed", {}, "405 method not allowed", False),
        (413, "<html>Request Entity Too Large</html>", {}, "shorten the text", False),
        (499, {"error": "request canceled"}, {}, "request canceled", False),
    ],
)
def test_each_refusal_says_what_to_do_and_whether_to_ask_again(
    fake, client, status, body, headers, words, again
):
    """By the sheet: busy, crashed, not loaded and lost in a gateway may pass; what the request or the key is to blame for not."""
    fake.script("/api/generate", Play(status=status, body=body, headers=headers))
    with pytest.raises(OllamaError) as caught:
        client.generate("x")
    assert words in str(caught.value)
    assert caught.value.status == status
    assert is_transient(caught.value) is again
    assert isinstance(caught.value, ServerBusyError) is (status in (429, 503))
    assert client.generate("x").text == "ok"


@pytest.mark.parametrize("said", ["response", "thinking"])
def test_an_answer_that_the_server_ended_in_a_loop_is_no_fault_of_the_host(fake, client, said):
    """Measured on a real server: over 30 like tokens end the stream without a last object; again would be the same."""
    lines = [{"response": "", "done": False} | {said: text} for text in ['"x', *[" x"] * 30]]
    fake.script("/api/generate", Play(lines=lines), Play(lines=lines[:-1]))
    with pytest.raises(TruncatedAnswerError, match="over and over") as caught:
        client.generate("x")
    assert not is_transient(caught.value)
    assert caught.value.text == ('"x' + " x" * 30 if said == "response" else "")
    with pytest.raises(StreamBrokenError, match="before its last line") as caught:
        client.generate("x")
    assert is_transient(caught.value)


def test_thoughts_that_were_alike_are_no_loop_once_the_answer_came(fake, client):
    """A stream that breaks after text is a broken stream, whatever was thought before."""
    thoughts = [{"response": "", "thinking": "-", "done": False}] * 30
    fake.script("/api/generate", Play(lines=[*thoughts, {"response": "It grew", "done": False}]))
    with pytest.raises(StreamBrokenError) as caught:
        client.generate("x")
    assert caught.value.text == "It grew"


def test_a_403_with_a_reason_of_its_own_gets_no_other(fake, client):
    """Only a refused Origin or Host comes without a word; what is switched off says so, and nothing is added."""
    fake.script("/api/generate", Play(status=403, body={"error": "ollama cloud is disabled"}))
    with pytest.raises(OllamaError, match=r"with status 403: ollama cloud is disabled\Z"):
        client.generate("x")


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(
    ("header", "low", "high"),
    [
        ("7", 7, 7),
        (" 0 ", 0, 0),
        ("1.5", 1.5, 1.5),
        (formatdate(time.time() + 86_400, usegmt=True), 43_200, 86_400),
        (formatdate(time.time() - 90, usegmt=True), 0, 0),
        *((junk, None, None) for junk in ("", "soon", "-3", "nan", "1e999", "Mon, 99 Foo 2026", "7;8")),
    ],
)
def test_the_time_that_a_busy_server_asks_for_is_read(fake, client, status, header, low, high):
    """Retry-After in seconds or as a date is on the error, also after pickling; anything else is nothing, never a failure."""
    fake.script("/api/generate", Play(status=status, body={"error": BUSY}, headers={"Retry-After": header}))
    with pytest.raises(ServerBusyError) as caught:
        client.generate("x")
    for error in (caught.value, pickle.loads(pickle.dumps(caught.value))):
        assert error.retry_after_s == low if low is None else low <= error.retry_after_s <= high
        assert (error.status, error.server_text) == (status, BUSY)


@pytest.mark.parametrize(
    "text",
    [
        "model 'fake' not found",
        'model "fake" not found, try pulling it first',
        "Model 'fake:1b' not found",
    ],
)
def test_both_wordings_of_a_missing_model_are_known(fake, client, text):
    """Generate quotes the name once, embed twice: either is a ModelNotFoundError, which is not asked again."""
    fake.script("/api/generate", Play(status=404, body={"error": text}))
    with pytest.raises(ModelNotFoundError, match="ollama pull fake") as caught:
        client.generate("x")
    assert not is_transient(caught.value)


def test_listings_in_other_words_are_empty_or_errors_never_guessed(fake, client):
    """``null`` is a Go server's empty list; no list at all, or a version that is no text, is no Ollama."""
    fake.script("/api/tags", Play(body={"models": None}))
    assert client.tags() == ()
    for path, body, ask in (
        ("/api/tags", {"version": "1"}, client.tags),
        ("/api/tags", {"models": {}}, client.tags),
        ("/api/ps", {}, client.ps),
        ("/api/version", {"version": None}, client.version),
        ("/api/version", {}, client.version),
    ):
        fake.script(path, Play(body=body))
        with pytest.raises(OllamaError, match="is another server there"):
            ask()


def test_a_pull_that_fails_half_way_says_where(fake, client):
    """Progress up to the failure was told; an error, an end without success, and a refusal before the start all raise."""
    half = [{"status": "pulling manifest"}, {"status": "pulling 0a1b", "total": 10, "completed": 4}]
    for plays, words in (
        (Play(lines=[*half, {"error": "max retries exceeded"}]), "max retries exceeded"),
        (Play(lines=half), "without success .*pulling 0a1b"),
        (Play(lines=half, cut_at=150), "ended the connection"),
        (Play(status=500, body={"error": "file does not exist"}), "file does not exist"),
    ):
        told = []
        fake.script("/api/pull", plays)
        with pytest.raises(OllamaError, match=words):
            client.pull("m", progress=lambda *step, told=told: told.append(step))
        assert told in ([], [("pulling manifest", None, None)], [*map(_step, half)])
    fake.script("/api/pull", Play(body={"status": "success"}))
    client.pull("m")


def _step(item):
    return item["status"], item.get("completed"), item.get("total")


def test_a_callers_own_error_in_a_progress_callback_ends_the_pull(fake, client):
    """What the callback raises comes out as it is, and the client can be used on."""

    def stop(*_):
        raise KeyError("enough")

    with pytest.raises(KeyError, match="enough"):
        client.pull("m", progress=stop)
    assert client.generate("x").text == "ok"


def test_embeddings_are_as_many_as_texts_or_an_error(fake, client):
    """An empty list asks for nothing and gets nothing; blank texts are refused; too few or no numbers are an error."""
    assert client.embed([]).vectors == ()
    for blank in ("", ["a", " "]):
        with pytest.raises(Exception, match="empty"):
            client.embed(blank)
    for rows in ([], None, [[1.0, "x"]], [[1.0], [2.0]], 5, "x", [[]], [None], [[float("nan")]], [[10**400]]):
        fake.script("/api/embed", Play(body={"embeddings": rows}))
        with pytest.raises(StreamBrokenError, match="1 text"):
            client.embed("a")
    fake.script("/api/embed", Play(body={"embeddings": [[1.0]], "prompt_eval_count": "many"}))
    assert client.embed("a").prompt_tokens == 0


@pytest.mark.parametrize("messages", ["hello", ["hello"], 5, [None]])
def test_messages_of_another_form_are_one_sentence(client, messages):
    """A text, or a list of texts, for chat is refused with the form to write."""
    with pytest.raises(ConfigurationError, match='"role": "user"'):
        client.chat(messages)


@pytest.mark.parametrize("seconds", [float("inf"), 1e10, 1e300])
def test_a_limit_without_end_is_one(fake, seconds):
    """Limits beyond what the system can count, infinity included, are as good as none."""
    with OllamaClient(
        fake.url, model="fake", connect_timeout_s=seconds, read_timeout_s=seconds, load_timeout_s=seconds
    ) as client:
        assert client.generate("x").text == "ok"
        assert client.version()


@pytest.mark.parametrize("limit", ["connect_timeout_s", "read_timeout_s", "load_timeout_s"])
@pytest.mark.parametrize("value", [None, "3", -1, float("nan"), True])
def test_impossible_limits_are_refused_by_name(limit, value):
    """What is no number of seconds is refused at once."""
    with pytest.raises(ConfigurationError, match=f"{limit}=.*seconds"):
        OllamaClient("gpu1", **{limit: value})


@pytest.mark.parametrize("key", ["ge\nheim", "geh\u20acim", "ge\x00heim", b"geheim", "gehéim"])
def test_a_key_that_no_header_can_carry_is_refused_and_not_shown(key, monkeypatch):
    """A key with a line end or a strange letter fails at once; neither message nor traceback, nor what it wraps, holds it."""
    for make in (lambda: OllamaClient("gpu1", api_key=key), lambda: _from_environment(key, monkeypatch)):
        if isinstance(key, bytes) or "\x00" in key:
            make = lambda: OllamaClient("gpu1", api_key=key)  # noqa: E731 - no environment holds these
        with pytest.raises(ConfigurationError, match="(?i)api_key") as caught:
            make()
        assert "heim" not in str(caught.value)
        assert "heim" not in "".join(traceback.format_exception(caught.value)).replace(
            "_from_environment", ""
        )
        assert b"heim" not in pickle.dumps(caught.value)


def _from_environment(key, monkeypatch):
    monkeypatch.setenv("OLLAMA_API_KEY", key)
    OllamaClient("ollama.com").tags()


def test_an_answer_error_never_holds_the_key(fake):
    """A server that echoes the key in its answer, its error or its redirect gets it struck out of what we say."""
    with OllamaClient(fake.url, model="fake", api_key="geheim-77") as client:
        for play in (
            Play(lines=[{"error": "key geheim-77 is bad"}]),
            Play(status=401, body={"error": "bad key geheim-77"}),
            Play(status=429, body="", headers={"Retry-After": "geheim-77"}),
            Play(status=302, body="", headers={"Location": "http://h/?key=geheim-77"}),
            Play(body="<p>geheim-77</p>"),
        ):
            fake.script("/api/generate", play)
            with pytest.raises((OllamaError, AnswerError)) as caught:
                client.generate("x")
            assert b"geheim" not in pickle.dumps(caught.value)
            assert "geheim" not in "".join(traceback.format_exception(caught.value))
