"""The embedded server's bars: time added over llama.cpp's own listener, a storm of clients, the first answer, the speed."""

from __future__ import annotations

import contextlib
import json
import os
import random
import statistics
import subprocess
import sys
import textwrap
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest
import requests

from analysis_kit.ollama.embedded import MODEL_NAME, EmbeddedOllama
from analysis_kit.ollama.questions import SENTIMENT

pytestmark = pytest.mark.llama
REPEATS = 30
PROMPT = "Say something about revenue and margins in one sentence."

OWN_LISTENER = """
    import sys
    from analysis_kit.ollama.embedded.catalog import load_catalog
    from analysis_kit.ollama.embedded.llama import Llama, Shape
    (model,) = load_catalog().values()
    llama = Llama(model, Shape(ctx=2048, parallel=2, threads={threads}))
    print(llama.address, llama.key, flush=True)
    sys.stdin.read()
    llama.close()
"""


@pytest.fixture
def server():
    with EmbeddedOllama() as running:
        yield running


@pytest.fixture
def own_listener():
    """llama.cpp's own HTTP listener, loaded exactly as the embedded server loads it: its address and headers."""
    code = textwrap.dedent(OWN_LISTENER).format(threads=2)
    env = {**os.environ, "OMP_WAIT_POLICY": "PASSIVE"}
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env, text=True
    )
    address, key = process.stdout.readline().split()
    yield address, {"Authorization": f"Bearer {key}"}
    process.stdin.close()
    process.stdout.close()
    process.wait()


def added_ms(call):
    """What a call takes beyond llama.cpp's own prompt and generation time, in milliseconds, and its tokens."""
    started = time.perf_counter()
    worked_s, tokens = call()
    return (time.perf_counter() - started - worked_s) * 1e3, tokens


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("path", ["/api/chat", "/api/generate"])
def test_added_time_per_request(server, own_listener, path, stream):
    """Over llama.cpp's own listener, same requests, interleaved: at most 5 ms, and 0.3 ms a streamed token, in the median."""
    address, headers = own_listener
    ours, own = requests.Session(), requests.Session()
    messages = [{"role": "user", "content": PROMPT}]

    def ask_us(count):
        body = {"model": MODEL_NAME, "stream": stream, "options": {"num_predict": count, "temperature": 0}}
        body |= {"messages": messages} if path == "/api/chat" else {"prompt": PROMPT}
        reply = ours.post(server.url + path, json=body, stream=stream)
        last = json.loads([*reply.iter_lines(chunk_size=None)][-1]) if stream else reply.json()
        return (last["prompt_eval_duration"] + last.get("eval_duration", 0)) / 1e9, last["eval_count"]

    def ask_llama(count):
        body = {
            "messages": messages,
            "max_tokens": count,
            "temperature": 0,
            "stream": stream,
            "cache_prompt": True,
        }
        reply = own.post(f"{address}/v1/chat/completions", json=body, stream=stream, headers=headers)
        events = (
            [line for line in reply.iter_lines(chunk_size=None) if line.startswith(b"data: {")]
            if stream
            else []
        )
        timings = (json.loads(events[-1][6:]) if stream else reply.json())["timings"]
        return (timings["prompt_ms"] + timings["predicted_ms"]) / 1e3, timings["predicted_n"]

    ask_us(2), ask_llama(2)
    for count in (1, 24):
        pairs = [
            (added_ms(partial(ask_us, count)), added_ms(partial(ask_llama, count))) for _ in range(REPEATS)
        ]
        over = statistics.median(mine[0] - theirs[0] for mine, theirs in pairs)
        tokens = pairs[0][0][1]
        print(
            f"{path} stream={stream} {tokens} tokens: median {over:.2f} ms over llama.cpp's own, {REPEATS} pairs"
        )
        assert over <= 5 + (0.3 * tokens if stream else 0)
    ours.close()
    own.close()


def test_two_hundred_requests_at_sixteen_clients_a_third_of_them_cut(server):
    """The others are right, each with its own answer, and the server's memory is flat after the first fifty."""

    def resident():
        return int(Path(f"/proc/{server.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def one(number):
        cut = number % 3 == 0
        body = {
            "model": MODEL_NAME,
            "prompt": f"Request {number}. " + "word " * random.randrange(5, 60),
            "options": {"seed": number},
        }
        body |= (
            {"options": {"num_predict": 2000}}
            if cut
            else {"format": {"const": f"answer {number}"}, "stream": False}
        )
        with requests.post(f"{server.url}/api/generate", json=body, stream=cut, timeout=300) as reply:
            if not cut:
                return reply.status_code == 200 and json.loads(reply.json()["response"]) == f"answer {number}"
            with contextlib.closing(reply.iter_lines(chunk_size=None)) as lines:
                return next(lines) and None

    with ThreadPoolExecutor(16) as threads:
        list(threads.map(one, range(50)))
        early = resident()
        started = time.perf_counter()
        results = list(threads.map(one, range(200)))
    late = resident()
    print(
        f"200 requests in {time.perf_counter() - started:.1f} s; resident {early / 1e6:.0f} -> {late / 1e6:.0f} MB"
    )
    assert results.count(None) == 67
    assert results.count(True) == 133
    assert late < 1.1 * early


def test_start_to_first_answer():
    """With the model on disk, the first answer is there within 3 s of the start, in the median."""
    took = []
    for _ in range(5):
        started = time.perf_counter()
        with EmbeddedOllama() as server:
            body = {"model": MODEL_NAME, "prompt": "Hi", "stream": False, "options": {"num_predict": 8}}
            assert requests.post(f"{server.url}/api/generate", json=body).json()["done"]
            took.append(time.perf_counter() - started)
    print(
        f"start to first answer: median {statistics.median(took):.2f} s of {sorted(round(each, 2) for each in took)}"
    )
    assert statistics.median(took) < 3


def test_thirteen_sentiment_requests_at_two_clients(server):
    """Prints the speed of the kit's main job: prompts of some 350 tokens, answers by schema, two at a time."""
    words = [
        "revenue",
        "margin",
        "guidance",
        "quarter",
        "growth",
        "decline",
        "cost",
        "demand",
        "backlog",
        "cash",
        "supply",
        "pricing",
        "outlook",
        "strong",
        "weak",
    ]
    draw = random.Random(1)
    texts = [" ".join(draw.choice(words) for _ in range(draw.randint(180, 320))) for _ in range(13)]
    schema = SENTIMENT.schema.model_json_schema()

    def one(text, form):
        body = {"model": MODEL_NAME, "prompt": SENTIMENT.render(text), "stream": False, "format": form}
        return requests.post(
            f"{server.url}/api/generate", json={**body, "options": {"temperature": 0, "num_predict": 64}}
        ).json()

    one("x", schema)
    walls = {}
    for name, form in (
        ("compact", schema),
        ("plain", {**schema, "$comment": "not for the compact grammar"}),
    ) * 3:
        started = time.perf_counter()
        with ThreadPoolExecutor(2) as threads:
            replies = list(threads.map(lambda text: one(text, form), sorted(texts, key=len, reverse=True)))
        wall = time.perf_counter() - started
        walls.setdefault(name, []).append(wall)
        prompt, made = (sum(reply[f"{key}_count"] for reply in replies) for key in ("prompt_eval", "eval"))
        print(f"{name}: {wall:.1f} s for 13, {prompt / 13:.0f} prompt and {made / 13:.1f} answer tokens each")
    medians = {name: statistics.median(each) for name, each in walls.items()}
    ratio = medians["compact"] / medians["plain"]
    print(f"the compact grammar takes {ratio:.2f} of the time of llama.cpp's own, medians of 3")
    assert ratio < 1.05
