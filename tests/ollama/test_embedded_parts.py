"""The parts of the embedded server that need no model: names, files, grammars, requests, the line, the forms of replies."""

from __future__ import annotations

import asyncio
import json
import os
import struct
import threading
from contextlib import aclosing
from dataclasses import replace
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest

from analysis_kit.errors import ConfigurationError
from analysis_kit.ollama.embedded import asks, is_demo_model, openai, requantize, runner
from analysis_kit.ollama.embedded.asks import ApiError
from analysis_kit.ollama.embedded.catalog import Model, load_catalog
from analysis_kit.ollama.embedded.generation import Generation
from analysis_kit.ollama.embedded.gguf import Header, read_header, read_layout
from analysis_kit.ollama.embedded.grammar import checked_grammar, compact_grammar
from analysis_kit.ollama.embedded.inner import Inner
from analysis_kit.ollama.embedded.llama import LlamaError, Shape
from analysis_kit.ollama.embedded.replies import Answer, join_native, to_json
from analysis_kit.ollama.embedded.runner import LoadQueue, Runner
from analysis_kit.ollama.names import short_name
from analysis_kit.settings import reset_settings

# --- names


@pytest.mark.parametrize(
    ("name", "short"),
    [
        ("llama3.2", "llama3.2:latest"),
        (" llama3.2:1b\n", "llama3.2:1b"),
        ("library/x:y", "x:y"),
        ("registry.ollama.ai/library/x", "x:latest"),
        ("me/x", "me/x:latest"),
        ("hf.co/me/x:Q4", "hf.co/me/x:Q4"),
        ("localhost:5000/me/x", "localhost:5000/me/x:latest"),
        ("", None),
        ("-x", None),
        ("x:", None),
        ("a b", None),
        ("a/b/c/d", None),
        ("x" * 81, None),
        ("../x", None),
    ],
)
def test_names_have_ollamas_forms(name, short):
    """Defaults are left out, the tag is always there, and what is no name is None."""
    assert short_name(name) == short


def test_the_demo_model_is_known_by_any_form_of_its_name():
    """Case, host and namespace do not hide it; another tag is another model."""
    assert is_demo_model("SmolLM2:135m")
    assert is_demo_model("registry.ollama.ai/library/smollm2:135m")
    assert not is_demo_model("smollm2:1.7b")
    assert not is_demo_model("")


# --- GGUF files


def gguf(path, *, tensors=(), **metadata):
    """Write a GGUF file: metadata by underscore-dot names, tensors as (name, dims, type, data)."""

    def text(value):
        raw = value.encode()
        return struct.pack("<Q", len(raw)) + raw

    body = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(metadata))
    for key, value in metadata.items():
        body += text(key.replace("__", "."))
        if isinstance(value, str):
            body += struct.pack("<I", 8) + text(value)
        elif isinstance(value, list):
            body += struct.pack("<IIQ", 9, 8, len(value)) + b"".join(text(item) for item in value)
        else:
            body += struct.pack("<II", 4, value)
    data = b""
    for name, dims, kind, raw in tensors:
        body += text(name) + struct.pack(f"<I{len(dims)}QIQ", len(dims), *dims, kind, len(data))
        data += raw + bytes(-len(raw) % 32)
    path.write_bytes(body + bytes(-len(body) % 32) + data)
    return path


def test_a_header_says_what_the_model_is(tmp_path):
    """Family, size, format and numbers come from the header; vocabularies are passed over, short lists are not."""
    path = gguf(
        tmp_path / "m.gguf",
        general__architecture="llama",
        general__file_type=7,
        llama__context_length=4096,
        tokenizer__ggml__tokens=["x"] * 100,
        general__languages=["en"],
        tensors=[("w", (32, 50_000), 0, b"")],
    )
    header = read_header(path)
    assert (header.family, header.quantization, header.parameter_size) == ("llama", "Q8_0", "1.60M")
    assert header.number("context_length") == 4096
    assert header.number("none", 7) == 7
    assert header.metadata["tokenizer.ggml.tokens"] is None
    assert header.metadata["general.languages"] == ["en"]


@pytest.mark.parametrize("cut", [3, 20, 30, 60])
def test_a_cut_header_is_one_sentence(tmp_path, cut):
    """A file that ends early is no model, wherever it ends."""
    path = gguf(tmp_path / "m.gguf", general__architecture="llama", general__name="x" * 50)
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(ConfigurationError, match="no usable GGUF model file"):
        read_header(path)


def test_weights_are_kept_within_their_step(tmp_path):
    """Q4_1 blocks become Q8_0 blocks of the same values, to within 1/254 of the block's largest; the rest is untouched."""
    random = np.random.default_rng(0)
    blocks, scales = 6, random.uniform(0.01, 2, 6).astype("<f2")
    least = random.uniform(-3, 3, 6).astype("<f2")
    scales[0] = least[0] = 0
    nibbles = random.integers(0, 16, (blocks, 32), dtype=np.uint8)
    packed = nibbles[:, :16] | (nibbles[:, 16:] << 4)
    raw = b"".join(scales[at].tobytes() + least[at].tobytes() + packed[at].tobytes() for at in range(blocks))
    other = random.standard_normal(64).astype("<f4").tobytes()
    source = gguf(
        tmp_path / "a.gguf",
        general__file_type=3,
        tensors=[("q", (32, blocks), 3, raw), ("f", (64,), 0, other)],
    )
    target = tmp_path / "b.gguf"
    requantize.write_q8_0(source, target)
    layout = read_layout(target)
    quantized, plain = layout.tensors
    assert (quantized.kind, plain.kind, layout.header.quantization) == (8, 0, "Q8_0")
    data = target.read_bytes()[layout.data :]
    found = np.frombuffer(data[: blocks * 34], np.uint8).reshape(blocks, 34)
    values = found[:, 2:].view(np.int8) * found[:, :2].copy().view("<f2").astype(np.float32)
    wanted = nibbles * scales[:, None].astype(np.float32) + least[:, None].astype(np.float32)
    largest = np.abs(wanted).max(axis=1, keepdims=True)
    assert np.all(np.abs(values - wanted) <= largest * (1 / 254 + 1 / 1024) + 1e-6)
    assert data[plain.offset : plain.offset + 256] == other
    assert {path.name for path in tmp_path.iterdir()} == {"a.gguf", "b.gguf"}


def test_the_fetched_file_is_served_where_the_faster_one_cannot_be_written(tmp_path, monkeypatch, caplog):
    """No room for the faster form costs speed and a line in the log, nothing else, and leaves no half file."""
    source = gguf(tmp_path / "SmolLM2-135M-Instruct.Q4_1.gguf", general__file_type=3)
    monkeypatch.setattr(requantize.model_file, "ensure_model", lambda: source)

    def full(old, layout):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(requantize, "_front", full)
    assert requantize.served_path() == source
    assert "could not be written" in caplog.text
    assert list(tmp_path.iterdir()) == [source]


def test_files_get_names_of_ollamas_form(tmp_path):
    """A file name becomes a model name, whatever is in it."""
    paths = [tmp_path / name for name in ("Llama 3.2 (1B).Q4_K_M.gguf", "ünï.gguf", "---.gguf")]
    for path in paths:
        gguf(path, general__architecture="llama")
    assert list(load_catalog(paths)) == ["llama-3.2-1b-.q4_k_m:latest", "n-:latest", "model:latest"]


def test_digests_of_own_files_are_kept_until_the_file_changes(tmp_path, monkeypatch):
    """The second look at a file reads no byte of it; a changed file has another digest."""
    monkeypatch.setenv("ANALYSIS_KIT_CACHE_DIR", str(tmp_path / "cache"))
    reset_settings()
    path = gguf(tmp_path / "m.gguf", general__architecture="llama")
    (first,) = load_catalog([path]).values()
    digest = first.digest
    kept = tmp_path / "cache" / "digests.json"
    kept.write_text(kept.read_text().replace(digest, "f" * 64))
    (second,) = load_catalog([path]).values()
    assert second.digest == "f" * 64
    gguf(path, general__architecture="llama", general__name="other")
    (third,) = load_catalog([path]).values()
    assert third.digest not in {digest, "f" * 64}
    assert len(json.loads(kept.read_text())) == 1


@pytest.mark.parametrize(
    ("metadata", "capabilities"),
    [
        ({"general__architecture": "bert"}, ["embedding"]),
        ({"general__architecture": "qwen2", "qwen2__pooling_type": 3}, ["embedding"]),
        (
            {"tokenizer__chat_template": "{% if tools %}{{ tools }}{% endif %}<think>"},
            ["completion", "tools", "thinking"],
        ),
        ({"tokenizer__chat_template": "{{ messages }}"}, ["completion"]),
    ],
)
def test_capabilities_come_from_the_file(tmp_path, metadata, capabilities):
    """An embedding model embeds; tools and thinking are seen in the chat template."""
    (model,) = load_catalog(
        [gguf(tmp_path / "m.gguf", **{"general__architecture": "llama", **metadata})]
    ).values()
    assert model.capabilities == capabilities


# --- grammars


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object", "properties": {"a": {"type": "string"}}},
        {"type": "object", "additionalProperties": {"type": "integer"}},
        {"type": "array", "items": {"anyOf": [{"type": "null"}, {"enum": ["x", 1]}]}, "maxItems": 3},
        {
            "$defs": {"S": {"type": "number", "exclusiveMinimum": 0, "maximum": 1}},
            "type": "object",
            "properties": {"s": {"$ref": "#/$defs/S"}},
        },
        {"type": "string", "minLength": 1, "maxLength": 5, "title": "t", "description": "d"},
        {"const": "x"},
    ],
)
def test_schemas_known_to_be_right_get_a_grammar_without_blanks(schema):
    """Pydantic's usual schemas are among what the compact grammar is known to keep."""
    grammar = compact_grammar(schema)
    assert '"whitespace_flexible": false' in grammar


def test_objects_are_closed_where_the_schema_does_not_say():
    """As with Ollama, an object has the properties of its schema and no others, at any depth."""
    schema = {"type": "object", "properties": {"a": {"type": "object", "properties": {}}}}
    grammar = json.loads(compact_grammar(schema).partition("%json ")[2])
    assert grammar["additionalProperties"] is False
    assert grammar["properties"]["a"]["additionalProperties"] is False
    assert (
        json.loads(compact_grammar({**schema, "additionalProperties": True}).partition("%json ")[2])[
            "additionalProperties"
        ]
        is True
    )
    assert (
        json.loads(compact_grammar({"type": "object"}).partition("%json ")[2])["additionalProperties"] is True
    )


def nested(depth):
    """A schema of lists in lists."""
    schema = {"type": "integer"}
    for _ in range(depth):
        schema = {"type": "array", "items": schema}
    return schema


@pytest.mark.parametrize(
    "schema",
    [
        {},
        {"type": "strin"},
        {"type": ["string", "null"]},
        {"type": "string", "pattern": "a"},
        {"type": "string", "format": "date"},
        {"not": {"type": "string"}},
        {"allOf": [{"type": "string"}]},
        {"type": "string", "enum": [1]},
        {"enum": []},
        {"enum": [{"a": 1}]},
        {"type": "number", "minimum": 2, "maximum": 1},
        {"type": "number", "exclusiveMinimum": 1, "maximum": 1},
        {"type": "integer", "exclusiveMinimum": 1, "exclusiveMaximum": 2},
        {"type": "integer", "minimum": 0.5},
        {"type": "number", "minimum": True},
        {"type": "number", "multipleOf": 2},
        {"type": "number", "minimum": 1e308},
        {"type": "integer", "minimum": 10**30},
        nested(300),
        {"type": "string", "minLength": 3, "maxLength": 2},
        {"type": "array", "minItems": -1},
        {"type": "array", "maxItems": 10**6},
        {"type": "object", "properties": {"a": {}}, "required": ["a"]},
        {"type": "object", "properties": {}, "required": ["a"]},
        {"type": "object", "patternProperties": {}},
        {"$ref": "#/$defs/none"},
        {"$ref": "https://example.com"},
        {"$defs": {"A": {"type": "object", "properties": {"a": {"$ref": "#/$defs/A"}}}}, "$ref": "#/$defs/A"},
        {"type": "string", "anyOf": [{"type": "string"}]},
        {"anyOf": []},
        {"type": "object", "properties": {"a": 5}},
    ],
)
def test_everything_else_goes_llama_cpps_own_way(schema):
    """Unknown keywords, contradictions, circles and nonsense get no compact grammar: it would constrain nothing."""
    assert compact_grammar(schema) is None


def test_other_schemas_keep_what_llguidance_knows():
    """Unknown keywords go, as llama.cpp leaves them out; objects are closed where closing cannot contradict."""

    def seen(schema):
        grammar = json.loads(checked_grammar(schema).partition("%json ")[2])
        assert grammar.pop("x-guidance") == {"whitespace_flexible": False}
        return grammar

    inner = {"type": "object", "properties": {"b": {"type": "string", "pattern": "x"}}}
    done = {**inner, "additionalProperties": False}
    assert seen({"properties": {"title": inner}, "items": [inner], "$defs": {"c": inner}, "default": inner}) == {
        "properties": {"title": done}, "items": [done], "$defs": {"c": done}, "additionalProperties": False,
    }  # fmt: skip
    both = {"allOf": [inner], "properties": {}}
    assert seen(both) == both
    assert seen({"oneOf": [inner], "discriminator": {"propertyName": "b"}}) == {"anyOf": [done]}
    assert seen({"type": "array", "items": {"type": "integer"}, "uniqueItems": True}) == {
        "type": "array",
        "items": {"type": "integer"},
    }
    assert seen({"type": "string", "format": "color"}) == {"type": "string"}
    assert seen({"type": "string", "format": "date"}) == {"type": "string", "format": "date"}


# --- requests


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (0, 0),
        (2.5, 2.5),
        (-1, float("inf")),
        ("0", 0),
        ("90s", 90),
        ("1h30m", 5400),
        ("1.5h", 5400),
        ("-5m", float("inf")),
        ("100ms", 0.1),
        (None, None),
    ],
)
def test_keep_alive_forms(value, seconds):
    """Numbers, Go durations and negatives are read as Ollama reads them."""
    assert asks.keep_alive_s({"keep_alive": value}) == pytest.approx(seconds)


SHAPE = Shape(ctx=2048, parallel=2, threads=2)


@pytest.mark.parametrize(
    ("options", "changed"),
    [
        ({}, {}),
        ({"num_ctx": 4096}, {"ctx": 4096}),
        ({"num_ctx": 1}, {}),
        ({"num_ctx": 10**7}, {"ctx": 8192}),
        ({"num_thread": 1}, {"threads": 1}),
        ({"num_thread": 0}, {}),
        ({"num_gpu": 0}, {"gpu_layers": 0}),
        ({"num_batch": 64}, {"batch": 64}),
        ({"num_batch": 0}, {"batch": 2}),
        ({"num_batch": 10**9}, {"batch": 2048}),
        ({"num_thread": 10**9}, {"threads": max(2, os.cpu_count() or 1)}),
    ],
)
def test_only_what_must_change_changes_the_shape(options, changed):
    """The model is loaded anew for a larger context, other threads, batch or layers, and for nothing else."""
    wanted = asks.shape_for(asks.options_of({"options": options}), SHAPE, trained_ctx=8192, shift=True)
    assert wanted == replace(SHAPE, **changed)


def test_sampling_is_llama_cpps_with_ollamas_defaults():
    """Every sampling option arrives under llama.cpp's name; no limit is ten contexts; a random seed stays random."""
    sampling = asks.sampling_of(asks.options_of({}), 2048)
    assert sampling["max_tokens"] == 20480
    assert sampling["seed"] == 0xFFFFFFFF
    assert (sampling["temperature"], sampling["top_k"], sampling["top_p"], sampling["repeat_last_n"]) == (
        0.8,
        40,
        0.9,
        64,
    )
    rest = ("n_keep", "min_p", "typical_p", "repeat_penalty", "presence_penalty", "frequency_penalty")
    assert [sampling[key] for key in rest] == [4, 0.0, 1.0, 1.0, 0.0, 0.0]
    mine = asks.sampling_of(
        asks.options_of(
            {
                "options": {
                    "num_predict": 7,
                    "seed": 5,
                    "num_keep": 9,
                    "min_p": 0.1,
                    "stop": ["a", ""],
                    "repeat_penalty": 1.3,
                    "repeat_last_n": -1,
                }
            }
        ),
        2048,
    )
    assert {key: mine[key] for key in ("max_tokens", "seed", "n_keep", "min_p", "timings_per_token", "repeat_penalty", "repeat_last_n")} == {
        "max_tokens": 7, "seed": 5, "n_keep": 9, "min_p": 0.1, "timings_per_token": True, "repeat_penalty": 1.3, "repeat_last_n": 2048,
    }  # fmt: skip


def test_lone_surrogates_become_the_replacement_character_O16():
    """Half a pair in a body is replaced, in keys and lists too; whole pairs stay."""
    body = asks.parse_body(
        rb'{"model":"m","prompt":"\ud83d x \ud83d\ude00","options":{"stop":["\udc00"]}}', "GenerateRequest"
    )
    assert body["prompt"] == "� x 😀"
    assert body["options"]["stop"] == ["�"]


# --- the line, with a llama.cpp that is played


class PlayedLlama:
    """Stands in for llama.cpp: notes what happens to it, and answers with what the test scripts."""

    loads: ClassVar[list] = []
    active = most = closed = 0
    lock = threading.Lock()
    hold: threading.Event | None = None
    started = threading.Semaphore(0)
    script: ClassVar[list] = [
        {"choices": [{"delta": {"content": "x"}}]},
        {"choices": [{"delta": {}, "finish_reason": "stop"}]},
    ]

    def __init__(self, model, shape):
        if model.name == "broken:latest":
            raise LlamaError("llama.cpp cannot load it")
        type(self).loads.append(shape)

    def complete(self, body, on_chunk, *, chat):
        cls = type(self)
        self.body = body
        with cls.lock:
            cls.active += 1
            cls.most = max(cls.most, cls.active)
        cls.started.release()
        try:
            for chunk in cls.script:
                if on_chunk(chunk):
                    return
            while cls.hold is not None and not cls.hold.wait(0.002):
                if on_chunk({"choices": [{"delta": {"content": "."}}]}):
                    return
        finally:
            with cls.lock:
                cls.active -= 1

    def close(self):
        type(self).closed += 1


class PlayedInner:
    """Stands in for llama.cpp's own listener: a token a character."""

    def __init__(self, llama):
        pass

    async def render(self, body):
        return json.dumps(body["messages"])

    async def tokenize(self, text, *, special=True):
        return [ord(char) for char in text]

    async def prompt_tokens(self, body):
        return await self.tokenize(await self.render(body))

    def close(self):
        pass


@pytest.fixture
def played(monkeypatch):
    fresh = type(
        "Played", (PlayedLlama,), {"loads": [], "lock": threading.Lock(), "started": threading.Semaphore(0)}
    )
    monkeypatch.setattr(runner, "Llama", fresh)
    monkeypatch.setattr(runner, "Inner", PlayedInner)
    return fresh


def model(tmp_path, name="m", template="{{ messages }}", **more):
    path = gguf(
        tmp_path / f"{name}.gguf",
        general__architecture="llama",
        llama__context_length=8192,
        tokenizer__chat_template=template,
        **more,
    )
    return Model(f"{name}:latest", path, read_header(path))


def ask(**more):
    return {"model": "m", "messages": [{"role": "user", "content": "hi"}], **more}


async def collect(one, request, *, chat=True):
    async with aclosing(Generation(request, one, chat=chat).pieces()) as pieces:
        return [piece async for piece in pieces]


async def until_unloading(one):
    """Wait for the unloading that a life of 0 s begins when its timer fires."""
    fired = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_later(
        0.01, fired.set_result, None
    )  # timers fire in the order of their times
    await fired
    await one._unloading


def finish(one):
    one.threads.shutdown()


def test_no_more_than_parallel_requests_are_in_llama_cpp(tmp_path, played):
    """Twenty requests at two places: never three at once, one load, all answered."""

    async def run():
        one = Runner(model(tmp_path), SHAPE)
        answers = await asyncio.gather(*(collect(one, ask()) for _ in range(20)))
        await one.unload()
        finish(one)
        return answers

    answers = asyncio.run(run())
    assert {join_native(answer)["message"]["content"] for answer in answers} == {"x"}
    assert played.most <= 2
    assert len(played.loads) == played.closed == 1


def test_the_line_is_first_come_first_served(tmp_path, played):
    """With one place, requests begin in the order they came, even where one of them must load the model anew."""

    async def run():
        order = []
        one = Runner(model(tmp_path), replace(SHAPE, parallel=1))

        async def each(number):
            await collect(one, ask(options={"num_ctx": 4096} if number == 3 else {}))
            order.append(number)

        await asyncio.gather(*(each(number) for number in range(8)))
        await one.unload()
        finish(one)
        return order

    assert asyncio.run(run()) == list(range(8))
    assert [shape.ctx for shape in played.loads] == [2048, 4096]


def test_a_request_that_is_given_up_frees_its_place_when_llama_cpp_lets_go(tmp_path, played):
    """Two endless requests are cancelled: the third gets a place, and only after one of the two is out of llama.cpp."""
    played.hold = threading.Event()

    async def run():
        one = Runner(model(tmp_path), SHAPE)
        endless = [asyncio.ensure_future(collect(one, ask())) for _ in range(2)]
        for _ in endless:
            await asyncio.to_thread(played.started.acquire)
        third = asyncio.ensure_future(collect(one, ask()))
        await asyncio.sleep(0)
        assert not third.done()
        for each in endless:
            each.cancel()
        await asyncio.to_thread(played.started.acquire)
        played.hold.set()
        await third
        await asyncio.gather(*endless, return_exceptions=True)
        await one.unload()
        finish(one)

    asyncio.run(run())
    assert played.most == 2


def test_a_request_given_up_in_line_never_begins(tmp_path, played):
    """Whoever leaves the line is not served, and does not hold up those behind."""
    played.hold = threading.Event()

    async def run():
        one = Runner(model(tmp_path), replace(SHAPE, parallel=1))
        first = asyncio.ensure_future(collect(one, ask()))
        await asyncio.to_thread(played.started.acquire)
        waiting = [asyncio.ensure_future(collect(one, ask())) for _ in range(3)]
        await asyncio.sleep(0)
        waiting[0].cancel()
        waiting[1].cancel()
        played.hold.set()
        await asyncio.gather(first, *waiting, return_exceptions=True)
        assert waiting[2].result()
        await one.unload()
        finish(one)

    asyncio.run(run())
    assert played.started.acquire(blocking=False)
    assert not played.started.acquire(blocking=False)


def test_the_time_to_load_is_told_apart_from_the_time_in_line(tmp_path, played):
    """Those who wait for a load have it in load_duration; those who wait for a place do not."""
    gate = threading.Event()
    began = threading.Event()

    class Slow(played):
        def __init__(self, model, shape):
            began.set()
            gate.wait()
            super().__init__(model, shape)

    runner.Llama = Slow  # the fixture restores it

    async def run():
        one = Runner(model(tmp_path), replace(SHAPE, parallel=1))
        both = [asyncio.ensure_future(collect(one, ask())) for _ in range(2)]
        await asyncio.to_thread(began.wait)
        await asyncio.sleep(0.05)  # the load takes this long
        gate.set()
        answers = [join_native(answer) for answer in await asyncio.gather(*both)]
        later = join_native(await collect(one, ask()))
        await one.unload()
        finish(one)
        return answers, later

    answers, later = asyncio.run(run())
    assert all(answer["load_duration"] >= 45_000_000 for answer in answers)
    assert later["load_duration"] < 45_000_000


def test_a_load_goes_to_its_end_when_the_request_is_given_up_O13(tmp_path, played):
    """The cancelled request's load serves the next one, and its life is counted from then on."""
    gate, began = threading.Event(), threading.Event()

    class Slow(played):
        def __init__(self, model, shape):
            began.set()
            gate.wait()
            super().__init__(model, shape)

    runner.Llama = Slow

    async def run():
        one = Runner(model(tmp_path), SHAPE)
        given_up = asyncio.ensure_future(collect(one, ask()))
        await asyncio.to_thread(began.wait)
        given_up.cancel()
        await asyncio.sleep(0)
        gate.set()
        with pytest.raises(asyncio.CancelledError):
            await given_up
        assert one.loaded
        assert one._timer is not None
        await collect(one, ask())
        await one.unload()
        finish(one)

    asyncio.run(run())
    assert len(played.loads) == 1


def test_a_load_that_fails_is_500_and_can_be_tried_again(tmp_path, played):
    """The reason is in the error, the line goes on, and nothing counts as loaded."""

    async def run():
        one = Runner(model(tmp_path, "broken"), SHAPE)
        for _ in range(2):
            with pytest.raises(ApiError, match="cannot load it") as caught:
                await collect(one, ask())
            assert caught.value.status == 500
        assert not one.loaded
        finish(one)

    asyncio.run(run())


def test_the_end_of_a_models_life_waits_for_its_requests(tmp_path, played):
    """keep_alive 0 ends it after the request; one that comes in the meantime keeps it."""

    async def run():
        one = Runner(model(tmp_path), SHAPE)
        await collect(one, ask(keep_alive=0))
        await until_unloading(one)
        assert not one.loaded
        await collect(one, ask(keep_alive=60))
        since = one._idle_since
        await collect(one, ask())
        await one._unload_if_idle(since)  # a timer that had already fired when the second request came
        assert one.loaded
        await one.unload()
        finish(one)

    asyncio.run(run())
    assert len(played.loads) == 2


def test_unloading_a_busy_model_holds_nobody_up(tmp_path, played):
    """Told to go while it answers, the model goes after its last request; those that come meanwhile are served."""
    played.hold = threading.Event()

    async def run():
        one = Runner(model(tmp_path), SHAPE)
        first = asyncio.ensure_future(collect(one, ask(keep_alive=60)))
        await asyncio.to_thread(played.started.acquire)
        await one.expire()
        assert one.loaded
        second = asyncio.ensure_future(collect(one, ask()))
        await asyncio.to_thread(played.started.acquire)
        played.hold.set()
        await asyncio.gather(first, second)
        await until_unloading(one)
        await collect(one, ask())
        lasts_s = one._keep_alive_s
        await one.expire()
        assert not one.loaded
        finish(one)
        return lasts_s

    assert asyncio.run(run()) == runner.DEFAULT_KEEP_ALIVE_S  # a new load begins a new life
    assert len(played.loads) == 2


def test_more_than_the_queue_holds_are_turned_away_while_a_model_loads(tmp_path, played):
    """OLLAMA_MAX_QUEUE bounds those who wait for a load, of all models together, and nobody who waits for a place."""
    gate, began = threading.Event(), threading.Event()

    class Slow(played):
        def __init__(self, model, shape):
            began.set()
            gate.wait()
            super().__init__(model, shape)

    runner.Llama = Slow

    async def run():
        queue = LoadQueue(2)
        one, other = (Runner(model(tmp_path, name), SHAPE, queue=queue) for name in ("one", "other"))
        loading = asyncio.ensure_future(collect(one, ask()))
        await asyncio.to_thread(began.wait)
        waiting = [asyncio.ensure_future(collect(each, ask())) for each in (one, other)]
        await asyncio.sleep(0)
        for each in (one, other):
            with pytest.raises(ApiError, match="maximum pending requests exceeded") as caught:
                await collect(each, ask())
            assert caught.value.status == 503
        waiting.pop(0).cancel()  # whoever leaves makes room
        await asyncio.sleep(0)
        waiting.append(asyncio.ensure_future(collect(one, ask())))
        await asyncio.sleep(0)
        gate.set()
        await asyncio.gather(loading, *waiting)
        many = await asyncio.gather(*(collect(one, ask()) for _ in range(10)))
        for each in (one, other):
            await each.unload()
            finish(each)
        return many

    assert len(asyncio.run(run())) == 10


def test_a_models_life_is_the_servers_where_no_request_says_otherwise(tmp_path, played):
    """OLLAMA_KEEP_ALIVE is the life of a load; a request's own holds until the model is loaded anew."""

    async def run():
        one = Runner(model(tmp_path), SHAPE, keep_alive_s=7.0)
        lives = []
        for more in ({}, {"keep_alive": 60}, {}):
            await collect(one, ask(**more))
            lives.append(one._keep_alive_s)
        await one.unload()
        await collect(one, ask())
        lives.append(one._keep_alive_s)
        await one.unload()
        finish(one)
        return lives

    assert asyncio.run(run()) == [7, 60, 60, 7]


def test_a_token_that_comes_over_thirty_times_more_ends_the_answer(tmp_path, played):
    """As Ollama ends it: no last object, streamed or whole, so that nobody takes the answer for a finished one."""
    end = [{"choices": [{"delta": {}, "finish_reason": "stop"}]}]

    def said(*texts):
        played.script = [{"choices": [{"delta": {"content": text}}]} for text in texts] + end

        async def run():
            one = Runner(model(tmp_path), SHAPE)
            pieces = await collect(one, ask())
            await one.unload()
            finish(one)
            return pieces

        return asyncio.run(run())

    for texts, kept in ((["a", " ha"] + ["ha "] * 40, 32), (["\n", " "] * 20, 30), (["x"] * 31, 31)):
        pieces = said(*texts)
        finished = len(texts) == kept
        assert [piece["done"] for piece in pieces] == [False] * kept + [True] * finished
        whole = join_native(pieces)
        assert whole["message"]["content"] == "".join(texts[:kept])
        assert ("done_reason" in whole) == finished
    assert not any(piece["done"] for piece in said(*["ha"] * 32))
    assert said(*["ha", "he"] * 40)[-1]["done"]
    pieces = said(*["ha"] * 40)
    converter = openai.Converter("m", include_usage=False)
    assert converter.completion(join_native(pieces))["choices"][0]["finish_reason"] is None

    async def stream():
        async def again():
            for piece in pieces:
                yield piece

        return [openai.line(chunk) async for chunk in converter.chunks(again())]

    events = asyncio.run(stream())
    assert len(events) == 31
    assert not any(b"[DONE]" in event or b'"finish_reason":"' in event for event in events)


@pytest.mark.parametrize(
    "stop", [["c"], ["bc"], ["🙂b"], [" "], ["é🙂", "zz"], ["b ü"], ["ï c"], ["a"], ["z!"], ["", "c"]]
)
def test_a_stop_text_is_found_wherever_its_characters_come_apart(tmp_path, played, stop):
    """The answer is what comes before the first stop text, for any cut of it into tokens; what only looked like one stays."""
    text = "aé🙂b ünï cz"
    ends = [text.index(each) for each in stop if each and each in text]
    wanted = text[: min(ends)] if ends else text
    for size in (1, 2, 3, 5, 20):
        tokens = [text[at : at + size] for at in range(0, len(text), size)]
        played.script = [
            {
                "choices": [{"delta": {"content": token}}],
                "timings": {"predicted_n": at + 1, "predicted_ms": 1},
            }
            for at, token in enumerate(tokens)
        ] + [{"choices": [{"delta": {}, "finish_reason": "length"}], "timings": {"predicted_n": 99}}]

        async def run():
            one = Runner(model(tmp_path), SHAPE)
            pieces = await collect(one, ask(options={"stop": stop}))
            sent = one._llama.body
            await one.unload()
            finish(one)
            return pieces, sent

        pieces, sent = asyncio.run(run())
        whole = join_native(pieces)
        assert whole["message"]["content"] == wanted
        assert (whole["done"], whole["done_reason"]) == (True, "stop" if ends else "length")
        assert 0 < whole["eval_count"] <= (len(tokens) if ends else 99)
        assert "stop" not in sent
        assert all(piece["message"]["content"] for piece in pieces[:-1])


# --- llama.cpp's own listener


class Listener:
    """A listener that answers each question with a scripted reply, and lets go of the connection after some of them."""

    def __init__(self, *replies):
        self.replies, self.asked, self.connections = list(replies), [], 0

    async def serve(self, reader, writer):
        self.connections += 1
        while self.replies:
            try:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
            except asyncio.IncompleteReadError:
                break
            self.asked.append(
                (head, await reader.readexactly(int(head.partition("Content-Length: ")[2].split()[0])))
            )
            body, leave = self.replies.pop(0)
            if body is not None:
                data = json.dumps(body).encode()
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(data) + data)
            if leave:
                break
        writer.close()

    def ask(self, questions):
        """Run ``questions`` with an `Inner` on this listener."""

        async def run():
            server = await asyncio.start_server(self.serve, "127.0.0.1", 0)
            async with server:
                llama = SimpleNamespace(
                    address=f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", key="k"
                )
                inner = Inner(llama)
                try:
                    return await questions(inner)
                finally:
                    inner.close()

        return asyncio.run(run())


def test_a_kept_connection_is_used_again_and_a_lost_one_replaced():
    """Two questions share a connection; one that the listener let go of is asked anew on a fresh one, with the key."""
    listener = Listener(({"tokens": [1]}, False), ({"tokens": [2]}, True), ({"tokens": [3]}, False))

    async def questions(inner):
        return [await inner.tokenize(text) for text in "abc"]

    assert listener.ask(questions) == [[1], [2], [3]]
    assert listener.connections == 2
    assert all("Authorization: Bearer k" in head for head, _ in listener.asked)


def test_a_piece_that_was_met_before_is_not_asked_about_again():
    """Each piece of an answer is asked about once, one at a time, and again only where that failed."""
    refused = {"error": {"code": 500, "message": "busy"}}
    listener = Listener(
        *((reply, False) for reply in ({"tokens": [1]}, refused, {"tokens": [2]}, {"tokens": [3]}))
    )

    async def questions(inner):
        first, *rest = await asyncio.gather(*map(inner.piece_tokens, "aba"), return_exceptions=True)
        assert isinstance(rest[0], LlamaError)
        return [
            first,
            rest[1],
            await inner.piece_tokens("b"),
            await inner.piece_tokens("c"),
            await inner.piece_tokens("b"),
        ]

    assert listener.ask(questions) == [[1], [1], [2], [3], [2]]
    assert listener.connections == 1
    assert len(listener.asked) == 4


@pytest.mark.parametrize(
    ("replies", "status", "words"),
    [
        ([({"error": {"code": 400, "message": "no such schema"}}, False)], 400, "no such schema"),
        ([(None, True)], 500, "did not answer /apply-template"),
    ],
)
def test_what_llama_cpp_refuses_or_does_not_answer_is_an_error(replies, status, words):
    """Its status and words come through; silence is one, and is not asked twice."""
    listener = Listener(*replies)
    with pytest.raises(LlamaError, match=words) as caught:
        listener.ask(lambda inner: inner.render({"messages": []}))
    assert caught.value.status == status
    assert len(listener.asked) == 1


# --- forms of replies


def test_openais_fields_become_ollamas():
    """Limits, penalties, stops, forms, effort, tools and images are renamed; what OpenAI has no word for stays out."""
    said = {"model": "m", "messages": [{"role": "user", "content": "x"}]}
    plain = openai.to_native({**said, "keep_alive": "1h", "num_ctx": 4, "options": {"num_ctx": 4}})
    assert plain == {**said, "options": {"temperature": 1.0, "top_p": 1.0}, "stream": False}
    renamed = {"seed": 3, "presence_penalty": 0.1, "frequency_penalty": 0.2, "temperature": 0, "top_p": 0.5}
    tools = [{"type": "function", "function": {"name": "f"}}]
    more = {
        "max_tokens": 7,
        "stop": "end",
        "tools": tools,
        "logprobs": True,
        "top_logprobs": 2,
        "stream": True,
    }
    native = openai.to_native({**said, **renamed, **more})
    assert native["options"] == {**renamed, "num_predict": 7, "stop": ["end"]}
    assert (native["tools"], native["logprobs"], native["top_logprobs"], native["stream"]) == (
        tools,
        True,
        2,
        True,
    )
    assert openai.to_native({**said, "stop": ["a", "b"]})["options"]["stop"] == ["a", "b"]
    assert openai.to_native({**said, "response_format": {"type": "json_object"}})["format"] == "json"
    assert openai.to_native({**said, "response_format": {"type": "text"}}).get("format") is None
    for effort, think in (("none", False), ("low", "low"), ("high", "high")):
        assert openai.to_native({**said, "reasoning_effort": effort})["think"] == think
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}}
    parts = [{"type": "text", "text": "a"}, image, {"type": "text", "text": "b"}]
    (message,) = openai.to_native({**said, "messages": [{"role": "user", "content": parts}]})["messages"]
    assert message == {"role": "user", "content": "ab", "images": ["aGk="]}


def test_thinking_tools_and_text_have_their_own_fields(tmp_path, played):
    """Reasoning is thinking, tool calls come whole in the last object with their arguments as an object."""
    played.script = [
        {"choices": [{"delta": {"role": "assistant", "content": None}}], "prompt_progress": {}},
        {"choices": [{"delta": {"reasoning_content": "hm"}}]},
        {"choices": [{"delta": {"content": "Let me look."}}]},
        {
            "choices": [
                {"delta": {"tool_calls": [{"index": 0, "function": {"name": "look", "arguments": '{"at":'}}]}}
            ]
        },
        {"choices": [{"delta": {"tool_calls": [{"index": 0, "function": {"arguments": "1}"}}]}}]},
        {
            "choices": [{"delta": {}, "finish_reason": "tool_calls"}],
            "timings": {"cache_n": 3, "prompt_n": 4, "prompt_ms": 1.5, "predicted_n": 5, "predicted_ms": 2},
        },
    ]
    request = ask(think=True, tools=[{"type": "function", "function": {"name": "look"}}])

    async def run():
        one = Runner(model(tmp_path, template="{{ tools }}<think>"), SHAPE)
        pieces = await collect(one, request)
        chunks = [
            chunk async for chunk in openai.Converter("m", include_usage=True).chunks(collect_again(pieces))
        ]
        sent = one._llama.body
        await one.unload()
        finish(one)
        return pieces, chunks, sent

    async def collect_again(pieces):
        for piece in pieces:
            yield piece

    pieces, chunks, sent = asyncio.run(run())
    whole = join_native(pieces)
    assert whole["message"]["thinking"] == "hm"
    assert whole["message"]["content"] == "Let me look."
    (call,) = whole["message"]["tool_calls"]
    assert call["function"] == {"index": 0, "name": "look", "arguments": {"at": 1}}
    assert call["id"].startswith("call_")
    assert whole["done_reason"] == "stop"
    assert (whole["prompt_eval_count"], whole["prompt_eval_duration"], whole["eval_count"]) == (
        7,
        1_500_000,
        5,
    )
    assert sent["chat_template_kwargs"] == {"enable_thinking": True}
    assert sent["tools"] == request["tools"]
    assert "message" not in chunks[0]
    assert chunks[0]["choices"][0]["delta"] == {"role": "assistant", "content": "", "reasoning": "hm"}
    assert chunks.pop() == {}
    assert chunks[-3]["choices"][0]["delta"]["tool_calls"][0]["function"]["arguments"] == '{"at": 1}'
    assert chunks[-2]["choices"][0]["finish_reason"] == "tool_calls"
    assert chunks[-1]["usage"]["total_tokens"] == 12


def test_earlier_tool_calls_and_results_reach_the_template(tmp_path, played):
    """Ollama's messages become llama.cpp's: arguments as text, names and ids in their places, roles in small letters."""
    messages = [
        {"role": "USER", "content": "look"},
        {
            "role": "assistant",
            "thinking": "hm",
            "tool_calls": [{"function": {"name": "look", "arguments": {"at": 1}}}],
        },
        {"role": "tool", "content": "seen", "tool_name": "look"},
    ]

    async def run():
        one = Runner(model(tmp_path, template="{{ tools }}<think>"), SHAPE)
        await collect(one, ask(messages=messages, think=False))
        sent = one._llama.body
        await one.unload()
        finish(one)
        return sent

    sent = asyncio.run(run())
    first, second, third = sent["messages"]
    assert first == {"role": "user", "content": "look"}
    assert second["tool_calls"][0]["function"] == {"name": "look", "arguments": '{"at": 1}'}
    assert second["reasoning_content"] == "hm"
    assert third == {"role": "tool", "content": "seen", "name": "look"}
    assert sent["chat_template_kwargs"] == {"enable_thinking": False}


def test_a_thinking_models_format_is_left_to_llama_cpp(tmp_path, played):
    """A grammar from the first token on would forbid the thinking; with think false the compact one is used."""
    schema = {"enum": ["a"]}

    async def run(think):
        one = Runner(model(tmp_path, template="<think>"), SHAPE)
        await collect(one, ask(think=think, format=schema))
        sent = one._llama.body
        await one.unload()
        finish(one)
        return sent

    assert asyncio.run(run(None))["json_schema"] == schema
    assert "grammar" in asyncio.run(run(False))


@pytest.mark.parametrize(("begins_with_bos", "kept"), [(0, 4), (1, 5)])
def test_the_beginning_of_text_is_kept_besides_num_keep(tmp_path, played, begins_with_bos, kept):
    """A prompt that is cut keeps num_keep tokens, and one more where the model begins every text with a token of its own."""

    async def run():
        one = Runner(model(tmp_path, tokenizer__ggml__add_bos_token=begins_with_bos), SHAPE)
        text = "".join(map(chr, range(100, 400)))
        await collect(
            one, {"model": "m", "prompt": text, "raw": True, "options": {"num_ctx": 64}}, chat=False
        )
        sent = one._llama.body
        await one.unload()
        finish(one)
        return sent["prompt"]

    tokens = asyncio.run(run())
    assert tokens[: kept + 1] == [*range(100, 100 + kept), 400 - (64 - kept) // 2]


@pytest.mark.parametrize(("after", "status", "lines"), [(0, 502, 1), (2, 200, 3)])
def test_an_error_is_a_status_before_the_first_piece_and_a_line_after_it(after, status, lines):
    """A stream that fails keeps its 200, ends with the error alone on a line, and has no last object."""

    async def pieces():
        for at in range(after):
            yield {"response": str(at), "done": False}
        raise ApiError(502, "gone wrong")

    async def run():
        sent = []

        async def receive():
            await asyncio.Event().wait()

        async def send(message):
            sent.append(message)

        await Answer(pieces(), stream=True, join=join_native)({"type": "http"}, receive, send)
        return sent

    start, *parts = asyncio.run(run())
    assert start["status"] == status
    body = b"".join(part.get("body", b"") for part in parts).splitlines()
    assert len(body) == lines
    assert json.loads(body[-1]) == {"error": "gone wrong"}
    assert not parts[-1].get("more_body")


def test_json_is_written_as_go_writes_it():
    """No blanks, UTF-8, and the characters that matter in HTML escaped."""
    assert to_json({"a": ["<é>&", "\u2028"]}) == '{"a":["\\u003cé\\u003e\\u0026","\\u2028"]}'.encode()


def test_an_embedding_model_neither_chats_nor_generates(tmp_path):
    """Each is refused in the sheet's words."""
    path = gguf(tmp_path / "m.gguf", general__architecture="bert")
    one = Runner(Model("m:latest", path, read_header(path)), SHAPE)
    for chat, word in ((True, "chat"), (False, "generate")):
        with pytest.raises(ApiError, match=f'"m" does not support {word}') as caught:
            Generation(ask(prompt="x"), one, chat=chat)
        assert caught.value.status == 400
    finish(one)


def test_parameter_sizes_read_as_ollama_writes_them():
    """Millions have two digits, billions one."""
    assert [Header({}, count).parameter_size for count in (134_515_008, 3_212_749_888, 950)] == [
        "134.52M",
        "3.2B",
        "950",
    ]
