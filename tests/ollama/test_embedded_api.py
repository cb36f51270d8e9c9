"""The embedded server's endpoints, texts and statuses, on the real model."""

from __future__ import annotations

import json
import re
import socket
import struct
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime
from typing import Literal

import pydantic
import pytest
import requests

from analysis_kit.errors import ConfigurationError
from analysis_kit.ollama.embedded import MODEL_NAME, EmbeddedOllama

pytestmark = pytest.mark.llama
GREEDY = {"temperature": 0, "seed": 1}


@pytest.fixture(scope="module")
def url():
    try:
        server = EmbeddedOllama().start()
    except ConfigurationError as exc:
        pytest.skip(str(exc))
    yield server.url
    server.stop()


@pytest.fixture
def post(url):
    with requests.Session() as session:

        def ask(path, body=None, **more):
            if isinstance(body, dict):
                body = {"model": MODEL_NAME, **body}
                body = {key: value for key, value in body.items() if value is not ...}
            return session.post(
                url + path, data=body if isinstance(body, bytes | str) else json.dumps(body), **more
            )

        yield ask


def chat(text, **more):
    return {"messages": [{"role": "user", "content": text}], "stream": False, **more}


def lines(reply):
    return [json.loads(line) for line in reply.text.splitlines()]


# --- who is there


def test_root_version_and_tags_answer_get_and_head(url):
    """The three that clients probe with answer GET and HEAD alike, HEAD without a body."""
    assert requests.get(url).text == "Ollama is running"
    assert re.fullmatch(r"\d+\.\d+\.\d+", requests.get(f"{url}/api/version").json()["version"])
    for path in ("/", "/api/version", "/api/tags"):
        head = requests.head(url + path)
        assert (head.status_code, head.content) == (200, b"")
        assert int(head.headers["content-length"]) > 0


def test_tags_item_has_the_fields_of_the_sheet(url):
    """The one model is listed under its name with tag, with size, digest and details."""
    (item,) = requests.get(f"{url}/api/tags").json()["models"]
    assert item["name"] == item["model"] == MODEL_NAME
    assert item["size"] > 90_000_000
    assert re.fullmatch("[0-9a-f]{64}", item["digest"])
    assert datetime.fromisoformat(item["modified_at"]).tzinfo is not None
    assert item["details"]["family"] == "llama"
    assert item["details"]["format"] == "gguf"
    assert item["details"]["parameter_size"] == "134.52M"
    assert item["capabilities"] == ["completion"]


def test_show_gives_the_card_by_model_or_name(post):
    """The card holds template, details, model_info and capabilities; the older key works; vocabularies stay out."""
    card = post("/api/show", {}).json()
    assert "{{" in card["template"]
    assert card["details"]["family"] == card["model_info"]["general.architecture"] == "llama"
    assert card["model_info"]["llama.context_length"] == 8192
    assert card["model_info"]["general.name"]
    assert card["capabilities"] == ["completion"]
    assert card["license"] == "apache-2.0"
    assert "tokenizer.ggml.tokens" not in card["model_info"]
    assert post("/api/show", {"model": ..., "name": MODEL_NAME}).json() == card
    assert post("/api/show", {"verbose": True}).json()["model_info"]["tokenizer.ggml.tokens"] is None


@pytest.mark.parametrize(
    ("method", "path", "status", "text"),
    [
        ("GET", "/nowhere", 404, "404 page not found"),
        ("GET", "/api/chat", 405, "405 method not allowed"),
        ("HEAD", "/api/ps", 405, ""),
        ("DELETE", "/api/tags", 405, "405 method not allowed"),
        ("GET", "/v1/chat/completions", 405, "405 method not allowed"),
        ("POST", "/v1/models", 405, "405 method not allowed"),
        ("GET", "/v1/nowhere", 404, "404 page not found"),
    ],
)
def test_unknown_paths_and_methods(url, method, path, status, text):
    """What does not exist is 404, a wrong method 405, both in plain text."""
    reply = requests.request(method, url + path)
    assert (reply.status_code, reply.text) == (status, text)
    assert ("allow" in reply.headers) == (status == 405)


@pytest.mark.parametrize("path", ["pull", "push", "create", "copy", "delete", "me", "blobs/sha256:00"])
def test_what_ollama_has_and_this_server_has_not_is_404_with_a_text(url, path):
    """An endpoint that is not served says so, and names what is."""
    reply = requests.request(
        "DELETE" if path == "delete" else "POST", f"{url}/api/{path}", json={"model": "x"}
    )
    assert reply.status_code == 404
    assert f"/api/{path} is not served here" in reply.json()["error"]
    for unserved in ("embeddings", "completions", "responses", "messages", "audio/transcriptions"):
        reply = requests.post(f"{url}/v1/{unserved}", json={})
        assert reply.status_code == 404
        assert f"/v1/{unserved} is not served here" in reply.json()["error"]["message"]


# --- answers


@pytest.mark.parametrize("path", ["/api/chat", "/api/generate"])
def test_stream_and_whole_answer_agree(post, path):
    """A stream is NDJSON, one token a line, done only in the last, and joins to what stream: false gives."""
    ask = {"messages": [{"role": "user", "content": "Count: one, two,"}], "prompt": "Count: one, two,"}
    ask["options"] = {**GREEDY, "num_predict": 6}
    streamed = post(path, ask)
    assert streamed.headers["content-type"] == "application/x-ndjson"
    assert streamed.headers["transfer-encoding"] == "chunked"
    *parts, last = lines(streamed)
    whole = post(path, {**ask, "stream": False})
    assert whole.headers["content-type"] == "application/json; charset=utf-8"
    final = whole.json()

    def text(piece):
        return piece["message"]["content"] if path == "/api/chat" else piece["response"]

    assert "".join(text(part) for part in parts) == text(final)
    assert text(final)
    assert [part["done"] for part in parts] == [False] * len(parts)
    assert len(parts) == last["eval_count"] == 6
    assert last["done"] is True
    assert last["done_reason"] == final["done_reason"] == "length"
    assert {part["model"] for part in [*parts, last, final]} == {MODEL_NAME}
    assert not any(key in part for part in parts for key in ("total_duration", "eval_count", "context"))
    for piece in [*parts, last]:
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d*[1-9])?Z", piece["created_at"])


def test_durations_are_integer_nanoseconds_that_add_up(post):
    """Each duration is an integer; together they are no more than the total."""
    post("/api/chat", chat("x", options={"num_predict": 1}))
    final = post(
        "/api/chat", chat("Tell me a story about rain.", options={**GREEDY, "num_predict": 12})
    ).json()
    names = ("total_duration", "load_duration", "prompt_eval_duration", "eval_duration")
    assert all(isinstance(final[name], int) and final[name] > 0 for name in names)
    parts = [final[name] for name in names[1:]]
    assert sum(parts) <= final["total_duration"]
    assert final["prompt_eval_count"] > 20
    assert final["eval_count"] == 12


def test_total_duration_holds_the_wait_in_line(url, post):
    """With more requests than places, what is left of the total after load, prompt and eval is the wait."""
    post("/api/chat", chat("x", options={"num_predict": 1}))
    ask = chat("Tell me a story.", options={**GREEDY, "num_predict": 24}, model=MODEL_NAME)

    def run(number):
        return requests.post(f"{url}/api/chat", json=ask).json()

    with ThreadPoolExecutor(6) as threads:
        answers = list(threads.map(run, range(6)))
    names = ("load_duration", "prompt_eval_duration", "eval_duration")
    waits = sorted(each["total_duration"] - sum(each[name] for name in names) for each in answers)
    work = min(each["eval_duration"] for each in answers)
    assert waits[-1] > work  # the last two waited for two pairs before them
    assert waits[0] < work


def test_context_goes_on_where_the_last_answer_ended(post):
    """Generate gives the tokens so far, takes them back, and has none in raw mode."""
    first = post(
        "/api/generate", {"prompt": "My name is Ada.", "stream": False, "options": {"num_predict": 4}}
    ).json()
    assert first["context"]
    assert all(isinstance(token, int) for token in first["context"])
    ask = {"prompt": "What is my name?", "stream": False, "options": {"num_predict": 2}}
    second = post("/api/generate", {**ask, "context": first["context"]}).json()
    alone = post("/api/generate", ask).json()
    assert second["prompt_eval_count"] >= alone["prompt_eval_count"] + len(first["context"]) - 2
    assert second["context"][: len(first["context"])] == first["context"]
    assert "context" not in post("/api/generate", {**ask, "raw": True}).json()
    ask = {"prompt": "Count: 1 2 3, é, 日本", "stream": False, "options": {**GREEDY, "num_predict": 20}}
    once, again = (post("/api/generate", ask).json() for _ in range(2))
    assert once["context"] == again["context"]
    assert len(once["context"]) == once["prompt_eval_count"] + once["eval_count"] - (
        once["done_reason"] == "stop"
    )


def test_same_seed_same_answer_other_seed_other_answer(post):
    """Sampling is repeatable by seed, and differs without one."""

    def ask(seed):
        return post("/api/chat", chat("Write a line.", options={"seed": seed, "num_predict": 12})).json()[
            "message"
        ]["content"]

    assert ask(5) == ask(5)
    assert len({ask(seed) for seed in (5, 6, 7, 8)}) > 1


def test_stop_ends_the_answer_before_the_word(post):
    """A stop text ends the answer, is not part of it, and the reason is stop."""
    ask = chat("Say: alpha beta gamma delta", options={**GREEDY, "num_predict": 40})
    text = post("/api/chat", ask).json()["message"]["content"]
    word = text.split()[2]
    ask["options"]["stop"] = [word]
    cut = post("/api/chat", ask).json()
    assert cut["message"]["content"] == text[: text.index(word)]
    assert cut["done_reason"] == "stop"


@pytest.mark.parametrize("stop", ["🙂", "b ", " ", "é🙂", "ü", "c日", "z"])
def test_stop_texts_are_found_among_characters_of_several_tokens(post, stop):
    """Where a character's bytes are several tokens, a stop text before, in and after it is found, streamed or whole."""
    text = "aé🙂b ünï c日本z"
    ask = {"prompt": "x", "format": {"enum": [text]}, "options": {**GREEDY, "stop": [stop]}}
    whole = post("/api/generate", {**ask, "stream": False}).json()
    assert (whole["response"], whole["done_reason"]) == ('"' + text[: text.index(stop)], "stop")
    assert whole["eval_count"] > 0
    streamed = lines(post("/api/generate", ask))
    assert "".join(piece["response"] for piece in streamed) == whole["response"]


def test_what_only_looked_like_a_stop_text_is_not_lost(post):
    """An answer that ends with the first characters of a stop text keeps them."""
    ask = {"prompt": "x", "format": {"enum": ["a]"]}, "stream": False, "options": {**GREEDY, "stop": [']"]']}}
    assert post("/api/generate", ask).json()["response"] == '"a]"'


def test_system_and_raw_change_the_prompt(post):
    """System stands in the rendered prompt, raw goes in untouched, and nothing runs when only rendering is asked."""
    ask = {"prompt": "Hi", "stream": False, "_debug_render_only": True}
    rendered = post("/api/generate", {**ask, "system": "You are a clock."}).json()["_debug_info"][
        "rendered_template"
    ]
    assert "You are a clock." in rendered
    assert rendered.endswith("<|im_start|>assistant\n")
    assert post("/api/generate", {**ask, "raw": True}).json()["_debug_info"] == {"rendered_template": "Hi"}


def test_html_characters_are_escaped_on_the_wire_and_whole_after_decoding(post):
    """<, > and & travel as Go writes them."""
    schema = {"enum": ["<b>&"]}
    reply = post("/api/chat", chat("x", format=schema))
    assert b"\\u003cb\\u003e\\u0026" in reply.content
    assert json.loads(reply.json()["message"]["content"]) == "<b>&"


@pytest.mark.parametrize("text", ["\ud83d", "a\x00b", "\u202egnp", "🙂" * 5, "</s><|im_end|>"])
def test_any_text_is_answered(post, text):
    """Half a surrogate pair, NUL, direction marks, emoji and control words are data."""
    reply = post("/api/chat", chat(text, options={"num_predict": 2}))
    assert reply.status_code == 200
    assert reply.json()["done"]


def test_a_null_is_as_good_as_nothing(post):
    """Null fields, of the request and of its messages, count as left out."""
    messages = [{"role": None, "content": None, "tool_calls": None}, {"role": "user", "content": "x"}]
    body = {
        "messages": messages,
        "stream": False,
        "think": None,
        "format": None,
        "keep_alive": None,
        "tools": None,
    }
    body["options"] = {"num_predict": 1, "stop": None}
    assert post("/api/chat", body).json()["done"]


# --- format


def test_format_json_gives_an_object(post):
    """The word json asks for any object; it is valid as far as it goes."""
    answer = post(
        "/api/chat", chat("Describe a cat as JSON.", format="json", options={**GREEDY, "num_predict": 120})
    ).json()
    assert answer["message"]["content"].startswith("{")
    if answer["done_reason"] == "stop":
        assert isinstance(json.loads(answer["message"]["content"]), dict)


def test_schema_is_kept_with_its_bounds_and_without_blanks(post):
    """Numbers stay in their bounds, the order is the schema's, and no token is spent on blanks."""
    schema = {
        "type": "object",
        "properties": {
            "label": {"type": "string", "enum": ["positive", "neutral", "negative"]},
            "score": {"type": "number", "minimum": -1, "maximum": 1},
            "count": {"type": "integer", "minimum": 3, "maximum": 9},
        },
        "required": ["label", "score", "count"],
    }
    for seed in range(4):
        options = {"temperature": 1.5, "seed": seed, "num_predict": 100}
        answer = post(
            "/api/generate",
            {"prompt": "Sales fell. JSON:", "format": schema, "options": options, "stream": False},
        )
        text = answer.json()["response"]
        value = json.loads(text)
        assert list(value) == ["label", "score", "count"]
        assert -1 <= value["score"] <= 1
        assert 3 <= value["count"] <= 9
        assert " " not in text


class One(pydantic.BaseModel):
    kind: Literal["one"]
    size: int = pydantic.Field(ge=1, le=3)


class Two(pydantic.BaseModel):
    kind: Literal["two"]


class Odd(pydantic.BaseModel):
    """Pydantic's schema of this has what the compact grammar does not take."""

    either: One | Two = pydantic.Field(discriminator="kind")
    several: set[Literal["a", "b"]] = pydantic.Field(max_length=2)
    day: date


def test_schema_with_what_only_llama_cpp_translates_is_kept_too(post):
    """A pattern, a union told apart by a field, a set: outside the compact grammar, and held to all the same."""
    answer = post("/api/chat", chat("Give one.", format=Odd.model_json_schema(), options=GREEDY)).json()
    Odd.model_validate_json(answer["message"]["content"])
    schema = {
        "type": "object",
        "properties": {"code": {"type": "string", "pattern": "^[A-C]{3}$"}},
        "required": ["code"],
    }
    answer = post("/api/chat", chat("Give a code.", format=schema, options=GREEDY)).json()
    assert re.fullmatch("[A-C]{3}", json.loads(answer["message"]["content"])["code"])


def test_a_format_holds_in_raw_mode_and_with_a_long_prompt(post):
    """A prompt that goes past the chat template is held to any schema, its objects are closed, and a bad one is refused."""
    pattern = {
        "type": "object",
        "properties": {"c": {"type": "string", "pattern": "^[A-C]{3}$"}},
        "required": ["c"],
    }
    for ask in (
        {"raw": True},
        {"options": {**GREEDY, "num_ctx": 64}, "prompt": "word " * 300},
        {"context": [1, 2]},
    ):
        body = {"prompt": "x", "stream": False, "options": GREEDY, **ask}
        value = json.loads(post("/api/generate", {**body, "format": pattern}).json()["response"])
        assert re.fullmatch("[A-C]{3}", value.pop("c"))
        assert value == {}
        assert (
            json.loads(post("/api/generate", {**body, "format": {"enum": ["y"]}}).json()["response"]) == "y"
        )
        assert post("/api/generate", {**body, "format": {"type": "strin"}}).status_code == 400
        odd = Odd.model_json_schema()
        assert {"oneOf", "discriminator"} <= odd["properties"]["either"].keys()
        odd_answer = post("/api/generate", {**body, "format": odd}).json()
        Odd.model_validate_json(odd_answer["response"])


@pytest.mark.parametrize(
    ("form", "status"),
    [(5, 500), ("yaml", 500), ([], 500), ({"type": "strin"}, 400), ({"$ref": "#/$defs/none"}, 400)],
)
def test_bad_formats_are_refused(post, form, status):
    """A format that is none is an error, never an answer without it."""
    reply = post("/api/chat", chat("x", format=form))
    assert reply.status_code == status
    if status == 500:
        assert reply.json()["error"].startswith("invalid format: ")


@pytest.mark.parametrize("form", [None, ""])
def test_empty_formats_mean_none(post, form):
    """Null and the empty text are no format."""
    assert post("/api/chat", chat("x", format=form, options={"num_predict": 1})).status_code == 200


# --- logprobs


@pytest.mark.parametrize("top", [0, 3])
def test_logprobs_come_per_token(post, top):
    """Each token has its logprob and bytes, streamed or whole; top_logprobs only where asked, best first."""
    ask = chat("Say hi", logprobs=True, top_logprobs=top, options={**GREEDY, "num_predict": 4})
    whole = post("/api/chat", ask).json()
    assert len(whole["logprobs"]) == whole["eval_count"] == 4
    assert "".join(item["token"] for item in whole["logprobs"]) == whole["message"]["content"]
    for item in whole["logprobs"]:
        assert item["logprob"] <= 0
        assert bytes(item["bytes"]).decode() == item["token"]
        assert len(item.get("top_logprobs", [])) == top
        probabilities = [each["logprob"] for each in item.get("top_logprobs", [])]
        assert probabilities == sorted(probabilities, reverse=True)
    streamed = lines(post("/api/chat", {**ask, "stream": True}))
    assert [item["token"] for piece in streamed for item in piece.get("logprobs", [])] == [
        item["token"] for item in whole["logprobs"]
    ]


def test_logprobs_are_complete_under_a_format(post):
    """No token's logprob is lost when the answer is constrained."""
    ask = chat("Tone?", format={"enum": ["positive", "negative"]}, logprobs=True, options=GREEDY)
    whole = post("/api/chat", ask).json()
    assert "".join(item["token"] for item in whole["logprobs"]).startswith(whole["message"]["content"])


# --- load, keep alive, ps


def ps(url):
    return requests.get(f"{url}/api/ps").json()["models"]


def gone(url):
    return any(not ps(url) for _ in range(500))


@pytest.mark.parametrize(
    ("path", "empty"), [("/api/chat", {"messages": []}), ("/api/generate", {"prompt": ""})]
)
def test_load_and_unload(url, post, path, empty):
    """Nothing to answer only loads; with keep_alive 0 it unloads; both are one plain object even when streaming."""
    loaded = post(path, {**empty, "stream": True})
    assert loaded.headers["content-type"] == "application/json; charset=utf-8"
    assert loaded.json()["done_reason"] == "load"
    assert loaded.json()["done"] is True
    assert "total_duration" not in loaded.json()
    (item,) = ps(url)
    assert item["name"] == item["model"] == MODEL_NAME
    assert item["context_length"] == 2048
    assert item["size"] > 145_000_000
    assert item["size_vram"] == 0
    left = datetime.fromisoformat(item["expires_at"]) - datetime.now(UTC)
    assert 290 < left.total_seconds() <= 300
    unloaded = post(path, {**empty, "keep_alive": 0})
    assert unloaded.json()["done_reason"] == "unload"
    assert ps(url) == []


@pytest.mark.parametrize(
    ("keep_alive", "low", "high"),
    [(60, 55, 60), ("1m30s", 85, 90), (-1, 1e9, 1e10), ("-1s", 1e9, 1e10), (1.5e3, 1490, 1500)],
)
def test_keep_alive_sets_the_end(url, post, keep_alive, low, high):
    """Numbers are seconds, texts Go durations, negatives for ever; the next request without one keeps it."""
    for _ in range(2):
        post("/api/chat", chat("x", keep_alive=keep_alive, options={"num_predict": 1}))
        (item,) = ps(url)
        left = (datetime.fromisoformat(item["expires_at"]) - datetime.now(UTC)).total_seconds()
        assert low < left <= high
        keep_alive = None
    post("/api/chat", {"messages": [], "keep_alive": "5m"})


def test_keep_alive_zero_unloads_after_the_answer(url, post):
    """The answer comes, then the model goes."""
    assert (
        post("/api/chat", chat("x", keep_alive=0, options={"num_predict": 1})).json()["done_reason"]
        == "length"
    )
    assert gone(url)
    post("/api/chat", {"messages": [], "keep_alive": 300})


@pytest.mark.parametrize(
    ("keep_alive", "text"),
    [
        ("300", 'time: missing unit in duration "300"'),
        ("soon", 'time: invalid duration "soon"'),
        (True, "Unsupported type: 'bool'"),
        ([], "Unsupported type: '[]interface {}'"),
    ],
)
def test_bad_keep_alive_is_refused(post, keep_alive, text):
    """A keep_alive that says nothing is 400 in Go's words."""
    reply = post("/api/chat", chat("x", keep_alive=keep_alive))
    assert (reply.status_code, reply.json()) == (400, {"error": text})


# --- options and context


def test_larger_num_ctx_loads_anew_and_a_smaller_one_is_served_by_it():
    """num_ctx grows the context up to the trained length; asked for less, the larger stays, and no prompt is cut by it."""
    with EmbeddedOllama(ctx=256, parallel=1) as small:

        def ask(text, **options):
            body = {"model": MODEL_NAME, **chat(text), "options": {**options, "num_predict": 1}}
            return requests.post(f"{small.url}/api/chat", json=body).json()

        assert "exceeds the available context size (256 tokens)" in ask("word " * 300)["error"]
        assert ps(small.url)[0]["context_length"] == 256
        assert ask("x", num_ctx=512)["load_duration"] > 50_000_000
        assert ps(small.url)[0]["context_length"] == 512
        assert ask("x", num_ctx=128)["load_duration"] < 50_000_000
        assert ps(small.url)[0]["context_length"] == 512
        assert ask("word " * 300)["prompt_eval_count"] > 300
        ask("x", num_ctx=10**9)
        assert ps(small.url)[0]["context_length"] == 8192
        requests.post(f"{small.url}/api/chat", json={"model": MODEL_NAME, "keep_alive": 0})
        ask("x")
        assert ps(small.url)[0]["context_length"] == 256


def test_chat_drops_the_oldest_messages_to_fit(post):
    """System and last message stay, as many of the newest as fit stay, and the rendered prompt fits num_ctx."""
    old = [{"role": ("user", "assistant")[at % 2], "content": f"note {at} " * 12} for at in range(30)]
    messages = [{"role": "system", "content": "KEEP ME"}, *old, {"role": "user", "content": "LAST"}]
    ask = {"messages": messages, "stream": False, "options": {"num_ctx": 256, "num_predict": 1}}
    rendered = post("/api/chat", {**ask, "_debug_render_only": True}).json()["_debug_info"][
        "rendered_template"
    ]
    assert "KEEP ME" in rendered
    assert "LAST" in rendered
    assert "note 29" in rendered
    assert "note 0 " not in rendered
    answer = post("/api/chat", ask).json()
    assert 128 < answer["prompt_eval_count"] < 256
    refused = post("/api/chat", {**ask, "truncate": False})
    assert refused.status_code == 400
    assert "exceeds the available context size (256 tokens)" in refused.json()["error"]


def test_chat_with_one_message_too_long_is_refused(post):
    """What cannot be dropped is not cut: 400 in llama.cpp's words."""
    reply = post("/api/chat", chat("word " * 600, options={"num_ctx": 256}))
    assert reply.status_code == 400
    assert re.fullmatch(
        r"request \(\d+ tokens\) exceeds the available context size \(256 tokens\), try increasing it",
        reply.json()["error"],
    )


def test_generate_cuts_a_long_prompt_as_ollama_does(post):
    """First num_keep tokens, then the last: about half the room; refused without shift or truncate."""
    ask = {"prompt": "word " * 200, "stream": False, "options": {"num_ctx": 64, "num_predict": 1}}
    answer = post("/api/generate", ask).json()
    assert answer["prompt_eval_count"] == 4 + (64 - 4) // 2
    kept_all = post("/api/generate", {**ask, "options": {**ask["options"], "num_keep": -1}}).json()
    assert kept_all["prompt_eval_count"] == 63
    assert post("/api/generate", {**ask, "truncate": False}).status_code == 400
    refused = post("/api/generate", {**ask, "shift": False})
    assert refused.status_code == 400
    assert refused.json()["error"].startswith(
        "the prompt is longer than the context length currently available"
    )


def test_without_shift_the_answer_ends_at_the_context(post):
    """shift: false ends with length where num_ctx is full, though a larger context is loaded; with shift it goes on."""
    ask = {
        "prompt": "a b c",
        "raw": True,
        "stream": False,
        "format": {
            "type": "array",
            "items": {"enum": [1, 2]},
            "minItems": 200,
        },  # an answer that does not end
        "options": {**GREEDY, "num_predict": 80, "num_ctx": 32},
    }
    ended = post("/api/generate", {**ask, "shift": False}).json()
    assert ended["done_reason"] == "length"
    assert ended["prompt_eval_count"] + ended["eval_count"] == 32
    assert post("/api/generate", ask).json()["eval_count"] == 80


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"num_ctx": "big"}, 'option "num_ctx" must be of type integer'),
        ({"temperature": "hot"}, 'option "temperature" must be of type float32'),
        ({"stop": "x"}, 'option "stop" must be of type array'),
        ({"stop": [1]}, 'option "stop" must be of an array of strings'),
        ({"use_mmap": 1}, 'option "use_mmap" must be of type boolean'),
        ({"seed": 10**400}, 'option "seed" must be of type integer'),
    ],
)
def test_options_of_a_wrong_type_are_named(post, options, text):
    """The option and the type it needs are named, with status 500."""
    reply = post("/api/chat", chat("x", options=options))
    assert (reply.status_code, reply.json()) == (500, {"error": text})


@pytest.mark.parametrize(
    "options",
    [
        {"num_batch": 0},
        {"num_batch": 2**31},
        {"num_thread": 10**6},
        {"repeat_last_n": 2**31, "repeat_penalty": 1.1},
        {"num_ctx": 1},
        {"temperature": 1e39, "frequency_penalty": -1e39},
        {"stop": ["y" * 100_000] * 50},
    ],
)
def test_no_option_ends_the_server(url, post, options):
    """What llama.cpp would abort on, or run out of memory with, is brought into its bounds."""
    reply = post("/api/generate", {"prompt": "x", "stream": False, "options": {"num_predict": 2, **options}})
    assert reply.status_code == 200
    assert requests.get(url).status_code == 200


def test_unknown_and_null_options_are_ignored_and_floats_are_cut(post):
    """A key nobody knows, a null, and 3.9 for an integer do no harm."""
    answer = post(
        "/api/chat", chat("x", options={"mirror": 1, "top_k": None, "num_predict": 3.9, "repeat_last_n": -1})
    )
    assert answer.json()["eval_count"] == 3


# --- names


@pytest.mark.parametrize(
    "name",
    [" smollm2:135m ", "SmolLM2:135M", "library/smollm2:135m", "registry.ollama.ai/library/smollm2:135m"],
)
def test_names_are_matched_as_ollama_matches_them(post, name):
    """Blanks, case, namespace and host do not matter; the reply gives the name as it was sent."""
    reply = post("/api/chat", chat("x", model=name, options={"num_predict": 1}))
    assert reply.json()["model"] == name


@pytest.mark.parametrize(
    ("path", "model", "status", "text"),
    [
        ("/api/chat", "none", 404, "model 'none' not found"),
        ("/api/generate", "none:7b", 404, "model 'none:7b' not found"),
        ("/api/show", "none", 404, "model 'none:latest' not found"),
        ("/api/embed", "none", 404, 'model "none" not found, try pulling it first'),
        ("/api/embeddings", "none", 404, 'model "none" not found, try pulling it first'),
        ("/api/chat", "smollm2", 404, "model 'smollm2' not found"),
        ("/api/chat", ..., 400, "model is required"),
        ("/api/show", ..., 400, "model is required"),
        ("/api/generate", ..., 404, "model '' not found"),
        ("/api/embed", ..., 404, "model '' not found"),
        ("/api/chat", "a b", 400, "invalid model name"),
        ("/api/generate", "a/b/c/d", 400, "invalid model name"),
    ],
)
def test_missing_and_unknown_models(post, path, model, status, text):
    """Each endpoint answers a model it does not have as the sheet says."""
    reply = post(
        path, {"model": model, "prompt": "x", "input": "x", "messages": [{"role": "user", "content": "x"}]}
    )
    assert (reply.status_code, reply.json()) == (status, {"error": text})


# --- bad requests


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"", "missing request body"),
        (b"  \n", "missing request body"),
        (b'{"model": ', "unexpected EOF"),
        (b'{"model": "x"', "unexpected EOF"),
        (b"nonsense", "invalid character 'n' looking for beginning of value"),
        (b"[]", "json: cannot unmarshal array into Go value of type api.ChatRequest"),
        (b'{"model": 5}', "json: cannot unmarshal number into Go struct field ChatRequest.model of type string"),
        (b'{"model":"m","stream":"yes"}', "json: cannot unmarshal string into Go struct field ChatRequest.stream of type bool"),
        (b'{"model":"m","messages":[{"role":"user","content":5}]}',
         "json: cannot unmarshal number into Go struct field ChatRequest.messages.content of type string"),
        (b'{"model":"m","top_logprobs":21}', "top_logprobs must be between 0 and 20"),
        (b"null", "model is required"),
        (b'{"a":' + b"[" * 100_000, "exceeded max depth"),
        (b'{"a"}', "invalid character '}' after object key"),
        (b"{'a':1}", r"invalid character '\'' looking for beginning of object key string"),
        (b'{"a":1,}', "invalid character '}' looking for beginning of object key string"),
        (b'{"a":[1, ]}', "invalid character ']' looking for beginning of value"),
        (b'{"a":[1,"]{"}', "invalid character '}' after array element"),
        (b'{"a":[1],"b":{} "c"', "invalid character '\"' after object key:value pair"),
        (b'{"a":"b\nc"}', r"invalid character '\n' in string literal"),
        (b'{"a":"\\x"}', "invalid character 'x' in string escape code"),
        (b'{"model":1e5}', "json: cannot unmarshal number into Go struct field ChatRequest.model of type string"),
        (b'{"model":"m","top_logprobs":1.5}',
         "json: cannot unmarshal number 1.5 into Go struct field ChatRequest.top_logprobs of type int"),
        (b'{"model":"m","tools":[5]}', "json: cannot unmarshal number into Go struct field ChatRequest.tools of type api.Tool"),
        (b'{"model":"m","messages":{}}',
         "json: cannot unmarshal object into Go struct field ChatRequest.messages of type []api.Message"),
        (b'{"model":"m","messages":[{"role":"assistant","tool_calls":[5]}]}',
         "json: cannot unmarshal number into Go struct field ChatRequest.messages.tool_calls of type api.ToolCall"),
        (b'{"model":"m","messages":[{"role":"assistant","tool_calls":[{"function":{"name":5}}]}]}',
         "json: cannot unmarshal number into Go struct field ChatRequest.messages.tool_calls.function.name of type string"),
    ],
)  # fmt: skip
def test_bad_bodies_are_400_in_gos_words(post, body, text):
    """A body that cannot be read is refused with the decoder's words and no other key."""
    reply = post("/api/chat", body)
    assert (reply.status_code, reply.json()) == (400, {"error": text})


def test_a_context_holds_whole_numbers(post):
    """Anything else in it is refused before the model is asked."""
    reply = post("/api/generate", {"prompt": "x", "context": [1, "x"]})
    text = "json: cannot unmarshal string into Go struct field GenerateRequest.context of type int"
    assert (reply.status_code, reply.json()) == (400, {"error": text})


def test_only_the_first_json_value_counts_and_the_content_type_does_not(post):
    """What follows the first value is ignored, as is what the body claims to be."""
    body = (
        json.dumps({"model": MODEL_NAME, **chat("x", options={"num_predict": 1}), "unknown": [1]})
        + "{garbage"
    )
    assert post("/api/chat", body, headers={"Content-Type": "text/plain"}).status_code == 200


@pytest.mark.parametrize(
    ("path", "more", "text"),
    [
        ("/api/chat", {"think": True}, f'"{MODEL_NAME}" does not support thinking'),
        ("/api/generate", {"think": "high"}, f'"{MODEL_NAME}" does not support thinking'),
        (
            "/api/chat",
            {"think": "loud"},
            'invalid think value: "loud" (must be "high", "medium", "low", "max", true, or false)',
        ),
        (
            "/api/chat",
            {"tools": [{"type": "function"}]},
            f"registry.ollama.ai/library/{MODEL_NAME} does not support tools",
        ),
        (
            "/api/generate",
            {"suffix": "x"},
            f"registry.ollama.ai/library/{MODEL_NAME} does not support insert",
        ),
        (
            "/api/generate",
            {"images": ["eA=="]},
            f"registry.ollama.ai/library/{MODEL_NAME} does not support vision",
        ),
        (
            "/api/generate",
            {"raw": True, "system": "x"},
            "raw mode does not support template, system, or context",
        ),
        ("/api/generate", {"template": "{{ .Prompt }}"}, "the embedded server takes no template"),
    ],
)
def test_what_the_model_cannot_do_is_400(post, path, more, text):
    """Thinking, tools, insertion and images are refused by name, not ignored."""
    reply = post(path, {**chat("x"), "prompt": "x", **more})
    assert reply.status_code == 400
    assert reply.json()["error"].startswith(text)


def test_think_false_and_empty_tools_are_fine(post):
    """The official client sends tools: [] with every chat; think false asks for nothing."""
    assert post("/api/chat", chat("x", think=False, tools=[], options={"num_predict": 1})).status_code == 200


# --- embeddings


def test_embed_gives_unit_vectors(post):
    """Vectors have norm 1, cut and renormalised where asked, equal texts are equal, and tokens are counted."""
    reply = post("/api/embed", {"input": ["revenue grew", "revenue grew", "the cat sat"]}).json()
    first, same, other = reply["embeddings"]
    assert len(first) == 576
    assert sum(value * value for value in first) == pytest.approx(1, abs=1e-5)
    assert first == pytest.approx(same, abs=1e-5)
    assert sum(a * b for a, b in zip(first, other, strict=True)) < 0.999
    assert reply["prompt_eval_count"] > 3
    assert isinstance(reply["total_duration"], int)
    short = post("/api/embed", {"input": "revenue grew", "dimensions": 16}).json()["embeddings"][0]
    assert len(short) == 16
    assert sum(value * value for value in short) == pytest.approx(1, abs=1e-5)
    old = post("/api/embeddings", {"prompt": "revenue grew"}).json()
    assert old["embedding"] == pytest.approx(first, abs=1e-5)


def test_embed_of_nothing_and_of_too_much(post):
    """No input is no vector; a long one is cut, or refused where cutting is off; other types are refused."""
    assert post("/api/embed", {"input": ""}).json()["embeddings"] == []
    assert post("/api/embed", {"input": []}).json()["embeddings"] == []
    assert post("/api/embeddings", {"prompt": ""}).json() == {"embedding": []}
    long = {"input": "word " * 100, "options": {"num_ctx": 64}}
    assert post("/api/embed", long).json()["prompt_eval_count"] == 64
    refused = post("/api/embed", {**long, "truncate": False})
    assert (refused.status_code, refused.json()) == (
        400,
        {"error": "the input length exceeds the context length"},
    )
    for bad in (5, [1], {"a": 1}):
        assert post("/api/embed", {"input": bad}).json() == {"error": "invalid input type"}


# --- Host and Origin


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "localhost:1"}, 200),
        ({"Host": "127.0.0.1"}, 200),
        ({"Host": "[::1]:11434"}, 200),
        ({"Host": "10.0.0.7"}, 200),
        ({"Host": "printer.local"}, 200),
        ({"Host": "app.localhost:1"}, 200),
        ({"Host": "gpu.internal"}, 200),
        ({"Host": "192.168.1.2:11434"}, 200),
        ({"Host": "local.evil.example"}, 403),
        ({"Host": "evil.example"}, 403),
        ({"Host": "93.184.216.34"}, 403),
        ({"Origin": "http://localhost:3000"}, 200),
        ({"Origin": "https://127.0.0.1"}, 200),
        ({"Origin": "vscode-webview://abc"}, 200),
        ({"Origin": "vscode-file://abc"}, 200),
        ({"Origin": "app://abc"}, 200),
        ({"Origin": "file://abc"}, 200),
        ({"Origin": "tauri://localhost"}, 200),
        ({"Origin": "http://0.0.0.0:5173"}, 200),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "http://localhost.evil.example"}, 403),
        ({"Origin": "https://same.local", "Host": "same.local"}, 200),
        ({"Origin": "null"}, 403),
    ],
)
def test_foreign_pages_are_turned_away(url, headers, status):
    """Only local hosts and origins are served on loopback; a refusal has no body; an allowed origin is echoed."""
    reply = requests.get(f"{url}/api/version", headers=headers)
    assert reply.status_code == status
    if status == 403:
        assert reply.content == b""
    elif "Origin" in headers and "Host" not in headers:
        assert reply.headers["access-control-allow-origin"] == headers["Origin"]


def test_preflight_is_204(url):
    """A browser on an allowed origin learns what it may send."""
    headers = {"Origin": "http://localhost:3000", "Access-Control-Request-Method": "POST"}
    reply = requests.options(f"{url}/api/chat", headers=headers)
    assert reply.status_code == 204
    assert "POST" in reply.headers["access-control-allow-methods"]
    assert "Content-Type" in reply.headers["access-control-allow-headers"]
    assert requests.options(f"{url}/api/chat", headers={"Origin": "https://evil.example"}).status_code == 403


# --- clients that leave


def leave(url, path, body, *, after_lines):
    """Send a request on a bare socket and reset the connection after so many lines of the answer."""
    host, port = url.removeprefix("http://").split(":")
    data = json.dumps({"model": MODEL_NAME, **body}).encode()
    with socket.create_connection((host, int(port))) as connection:
        head = f"POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len(data)}\r\n\r\n"
        connection.sendall(head.encode() + data)
        if after_lines:
            with connection.makefile("rb") as stream:
                seen = 0
                while seen < after_lines:
                    seen += b'"done":false' in stream.readline()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_leaves_frees_its_place(url, post, stream):
    """Both places taken by endless answers whose clients leave are free for the next request at once."""
    endless = {
        "options": {"num_predict": 15000, **GREEDY},
        "stream": stream,
        **chat("Tell an endless story."),
    }
    endless["stream"] = stream
    with ThreadPoolExecutor(4) as threads:
        list(
            threads.map(lambda _: leave(url, "/api/chat", endless, after_lines=2 if stream else 0), range(4))
        )
    answer = post("/api/chat", chat("x", options={"num_predict": 1})).json()
    assert answer["done"]
    waited = answer["total_duration"] - answer["prompt_eval_duration"] - answer["load_duration"]
    assert waited < 60e9  # 15,000 tokens take minutes


def test_a_client_that_leaves_in_the_middle_of_a_long_prompt_frees_its_place(url, post):
    """A prompt is cut between its batches, not only between tokens of the answer."""
    long = chat("word " * 7000, options={"num_ctx": 8192, "num_predict": 1})
    post("/api/chat", {"messages": [], "options": {"num_ctx": 8192}})
    for _ in range(2):
        leave(url, "/api/chat", long, after_lines=0)
    answer = post("/api/chat", chat("x", options={"num_predict": 1})).json()
    assert answer["done"]
    post("/api/chat", {"messages": [], "keep_alive": 0})


# --- OpenAI


def openai_chat(**more):
    return {"messages": [{"role": "user", "content": "Say hi"}], "temperature": 0, "max_tokens": 5, **more}


def test_openai_completion(post):
    """A completion has Ollama's form of id, fingerprint, choice and usage."""
    whole = post("/v1/chat/completions", openai_chat()).json()
    assert re.fullmatch(r"chatcmpl-\d{1,3}", whole["id"])
    assert whole["object"] == "chat.completion"
    assert whole["system_fingerprint"] == "fp_ollama"
    (choice,) = whole["choices"]
    assert choice["message"]["role"] == "assistant"
    assert choice["message"]["content"]
    assert choice["finish_reason"] == "length"
    assert whole["usage"]["completion_tokens"] == 5
    assert whole["usage"]["total_tokens"] == whole["usage"]["prompt_tokens"] + 5


def test_openai_stream(post):
    """Events: role first only, the reason in its own chunk, usage where asked, then [DONE]."""
    whole = post("/v1/chat/completions", openai_chat()).json()["choices"][0]["message"]["content"]
    reply = post("/v1/chat/completions", openai_chat(stream=True, stream_options={"include_usage": True}))
    assert reply.headers["content-type"].startswith("text/event-stream")
    *events, end, rest = reply.text.split("\n\n")
    assert (end, rest) == ("data: [DONE]", "")
    chunks = [json.loads(event.removeprefix("data: ")) for event in events]
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"]["completion_tokens"] == 5
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks[:-1]]
    assert [("role" in delta) for delta in deltas] == [True] + [False] * (len(deltas) - 1)
    assert "".join(delta["content"] for delta in deltas) == whole
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks[:-1]][-2:] == [None, "length"]


def test_openai_format_parts_and_stop(post):
    """Content parts, response_format and a stop text reach the native chat."""
    parts = [{"type": "text", "text": "Tone of: "}, {"type": "text", "text": "sales fell"}]
    form = {"type": "json_schema", "json_schema": {"name": "t", "schema": {"enum": ["up", "down"]}}}
    ask = openai_chat(messages=[{"role": "user", "content": parts}], response_format=form, stop="zzz")
    assert json.loads(post("/v1/chat/completions", ask).json()["choices"][0]["message"]["content"]) in {
        "up",
        "down",
    }


@pytest.mark.parametrize(
    ("body", "status", "kind", "text"),
    [
        ({"messages": []}, 400, "invalid_request_error", "[] is too short - 'messages'"),
        (openai_chat(model="none"), 404, "not_found_error", "model 'none' not found"),
        (openai_chat(response_format={"type": "json_schema", "json_schema": {"schema": 5}}), 500, "api_error", "invalid format"),
        (openai_chat(response_format={"type": "json_schema", "json_schema": 5}), 400, "invalid_request_error", "json_schema is to be"),
        (openai_chat(max_tokens="x"), 400, "invalid_request_error", "ChatCompletionRequest.max_tokens of type int"),
        (openai_chat(temperature="x"), 400, "invalid_request_error", "ChatCompletionRequest.temperature of type float64"),
        (openai_chat(messages=[{"role": "assistant", "tool_calls": 5}]), 400, "invalid_request_error", "of type []api.ToolCall"),
        (openai_chat(messages=[{"role": "assistant", "tool_calls": [{"function": 5}]}]), 400, "invalid_request_error", "function of type"),
        (openai_chat(messages=[{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://x"}}]}]),
         400, "invalid_request_error", "invalid image input"),
    ],
)  # fmt: skip
def test_openai_errors(post, body, status, kind, text):
    """Errors have OpenAI's form and the sheet's types."""
    reply = post("/v1/chat/completions", body)
    error = reply.json()["error"]
    assert (reply.status_code, error["type"], error["param"], error["code"]) == (status, kind, None, None)
    assert text in error["message"]


def test_openai_models(url):
    """The list and the single model are in OpenAI's form; an unknown one is 404."""
    listing = requests.get(f"{url}/v1/models").json()
    assert listing["object"] == "list"
    (item,) = listing["data"]
    assert (item["id"], item["object"], item["owned_by"]) == (MODEL_NAME, "model", "library")
    assert requests.get(f"{url}/v1/models/{MODEL_NAME}").json() == item
    assert requests.get(f"{url}/v1/models/none").json()["error"]["type"] == "not_found_error"
