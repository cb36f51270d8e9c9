"""What a cache takes and gives back, and what tells entries apart: K1, K3 and O16 of the published failures."""

import json
import subprocess
import sys
import threading
from collections import Counter, OrderedDict
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis_kit import events
from analysis_kit.cache import ResultCache, cache_key, get_cache, open_cache, reset_cache
from analysis_kit.container import get_container, reset_container
from analysis_kit.errors import ConfigurationError
from analysis_kit.settings import override_settings

ANY_TEXT = st.text(st.characters(exclude_categories=()))
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**80), 2**80)
    | st.floats(allow_nan=False, allow_infinity=False)
    | ANY_TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(ANY_TEXT, inner, max_size=4),
    max_leaves=12,
)


def same(one, other):
    """Return whether two values are equal, in their types too."""
    if isinstance(one, dict):
        return (
            type(other) is dict
            and list(one) == list(other)
            and all(same(one[key], other[key]) for key in one)
        )
    if isinstance(one, list):
        return type(other) is list and len(one) == len(other) and all(map(same, one, other))
    return type(one) is type(other) and repr(one) == repr(other)


@pytest.fixture(params=["memory:", "sqlite:///{}/answers.sqlite"])
def url(request, tmp_path):
    return request.param.format(tmp_path)


@pytest.fixture(scope="module")
def file_url(tmp_path_factory):
    return f"sqlite:///{tmp_path_factory.mktemp('cache')}/answers.sqlite"


@settings(max_examples=60, deadline=None)
@given(text=ANY_TEXT, kind=ANY_TEXT, value=JSON)
def test_any_json_value_of_any_text_and_kind_comes_back_equal(file_url, text, kind, value):
    """Values come back equal and of the same types, from memory and, in another cache, from the file."""
    with open_cache(file_url) as cache:
        cache.set(text, kind, value)
        assert same(value, cache.get(text, kind))
    with open_cache(file_url) as cache:
        assert same(value, cache.get(text, kind))


class Pair(NamedTuple):
    """A tuple with names."""

    a: int
    b: int


class Name(str):
    """A text that is more than a text."""

    __slots__ = ()


def itself():
    value = []
    value.append(value)
    return value


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ((1, 2), "tuple"),
        ({"a": [1, (2,)]}, r"\['a'\]\[1\] is a tuple"),
        (Pair(1, 2), "Pair"),
        ({1, 2}, "set"),
        (float("nan"), "nan"),
        ({"a": float("inf")}, r"\['a'\] is inf"),
        ({1: 2}, r"key 1 \(int\)"),
        ({"a": {None: 2}}, r"\['a'\] has the key None"),
        (b"x", "bytes"),
        (object(), "object"),
        (Name("x"), "Name"),
        (itself(), "contains itself"),
        pytest.param(10**5000, "JSON", id="huge"),
    ],
)
def test_what_would_change_is_refused_by_name(url, value, words):
    """Tuples, sets, NaN, other keys than text, objects: refused with the part's name, and nothing is kept."""
    with open_cache(url) as cache:
        with pytest.raises(ConfigurationError, match=words):
            cache.set("text", "kind", value)
        assert cache.get("text", "kind") is None


def test_numpy_numbers_are_refused(url):
    """A numpy float is a float to Python, and would come back as another type."""
    import numpy as np

    with open_cache(url) as cache, pytest.raises(ConfigurationError, match="float64"):
        cache.set("text", "kind", {"score": np.float64(0.5)})


def test_K2_none_is_a_value_and_no_miss(tmp_path):
    """A None that was set is told from a miss by ``default``, and counts as found, in memory and in a file."""
    url = f"sqlite:///{tmp_path / 'answers.sqlite'}"
    with open_cache(url) as cache:
        cache.set("text", "kind", None)
        assert cache.get("text", "kind", "missing") is None
    with open_cache(url) as cache:
        assert [cache.get(text, "kind", "missing") for text in ("text", "other")] == [None, "missing"]
        assert [cache.stats()[name] for name in ("hits", "misses")] == [1, 1]


def test_kinds_of_dict_come_back_as_equal_dicts(url):
    """An OrderedDict or a Counter is a dict of JSON values, and equal to the dict that comes back."""
    with open_cache(url) as cache:
        for value in (OrderedDict(a=1), Counter("aab")):
            cache.set("text", "kind", value)
            assert cache.get("text", "kind") == value


def test_a_value_is_the_callers_own(url):
    """Changing what was set, or what came back, changes nothing in the cache."""
    value = {"list": [1]}
    with open_cache(url) as cache:
        cache.set("text", "kind", value)
        value["list"].append(2)
        cache.get("text", "kind")["list"].append(3)
        assert cache.get("text", "kind") == {"list": [1]}


def test_O16_odd_texts_are_texts_like_others(url):
    """Half an emoji, NUL and direction marks are told apart as texts, as kinds and within values."""
    odd = ["a\ud83d", "a\udc00", "a", "a\x00", "a\x00b", "a\u200f", "\ufeffa", ""]
    with open_cache(url) as cache:
        for number, text in enumerate(odd):
            cache.set(text, text, {"text": text, "number": number})
        for number, text in enumerate(odd):
            assert cache.get(text, text) == {"text": text, "number": number}
        cache.clear(kind="a\ud83d")
        assert cache.get("a\ud83d", "a\ud83d") is None
        assert cache.get("a\udc00", "a\udc00") is not None


PARTS = {
    "model": "llama3.2",
    "options": {"temperature": 0, "num_ctx": 4096, "seed": 1},
    "format": {"type": "object"},
    "system": "s",
    "prompt": "p",
    "version": "1",
    "text": "t",
    "sample": 0,
}


def test_K1_equal_parts_in_another_order_are_one_key():
    """The order of parts and options makes no difference, nor does a tuple for a list."""
    turned = {key: PARTS[key] for key in reversed(PARTS)}
    turned["options"] = dict(reversed(PARTS["options"].items()))
    assert cache_key(**PARTS) == cache_key(**turned)
    assert cache_key(a=(1, 2)) == cache_key(a=[1, 2])


@pytest.mark.parametrize(
    "change",
    [
        {"model": "llama3.1"},
        {"options": {"temperature": 0.5, "num_ctx": 4096, "seed": 1}},
        {"options": {"temperature": 0, "num_ctx": 8192, "seed": 1}},
        {"options": {"temperature": 0, "num_ctx": 4096}},
        {"options": {"temperature": False, "num_ctx": 4096, "seed": 1}},
        {"format": {"type": "array"}},
        {"system": ""},
        {"prompt": "p "},
        {"version": 1},
        {"text": "T"},
        {"sample": 1},
        {"sample": None},
        {"another": None},
    ],
)
def test_K1_any_difference_is_another_key(change):
    """Model, temperature, context size, format, system, prompt, version, text, sample: each difference misses."""
    assert cache_key(**PARTS) != cache_key(**{**PARTS, **change})


def test_K1_parts_that_differ_between_processes_are_refused():
    """An object's text holds an address; a set's order is the process's: both are refused by name."""
    for part in (object(), {"a", "b"}, {1: 2}, b"x"):
        with pytest.raises(ConfigurationError, match=r"\['b'\] holds a "):
            cache_key(a={"b": part})


def test_K1_get_and_set_follow_the_settings_model_and_its_digest(url):
    """Another model, another host for an unknown digest, and new weights under one name each miss; going back hits."""
    with open_cache(url) as cache:
        with override_settings(OLLAMA_MODEL="one", OLLAMA_HOST="here"):
            cache.set("text", "kind", "one")
        for change in ({"OLLAMA_MODEL": "two"}, {"OLLAMA_MODEL": "one", "OLLAMA_HOST": "there"}):
            with override_settings(**change):
                assert cache.get("text", "kind") is None
        with override_settings(OLLAMA_MODEL="one", OLLAMA_HOST="here"):
            assert cache.get("text", "kind") == "one"
            cache.note_model("one", "sha256:1")
            assert cache.get("text", "kind") is None
            cache.set("text", "kind", "first weights")
        with override_settings(OLLAMA_MODEL="one", OLLAMA_HOST="there"):
            assert cache.get("text", "kind") == "first weights"
            cache.note_model("one", "sha256:2")
            assert cache.get("text", "kind") is None


def test_K3_keys_are_the_same_in_every_process(tmp_path):
    """What one process stores under one hash seed, another finds under another; so is `cache_key`."""
    code = (
        "import sys; from analysis_kit.cache import cache_key, open_cache\n"
        "with open_cache(sys.argv[1]) as cache:\n"
        "    print(cache_key(b={'x': 1, 'y': [2]}, a='\\ud83d'), cache.get('text', 'kind'))\n"
        "    cache.set('text', 'kind', 'found')\n"
    )
    answers = [
        subprocess.run(
            [sys.executable, "-c", code, f"sqlite:///{tmp_path}/c.sqlite"],
            env={"PYTHONHASHSEED": seed, "HOME": str(tmp_path)},
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        ).stdout.split()
        for seed in ("1", "2")
    ]
    assert answers[0][0] == answers[1][0]
    assert [answer[1] for answer in answers] == ["None", "found"]


def test_each_look_is_an_event_with_its_kind(url):
    """Listeners hear of hits and misses; without one no event is made."""
    heard = []
    stop = events.subscribe(heard.append)
    try:
        with open_cache(url) as cache:
            cache.get("text", "tone")
            cache.set("text", "tone", 1)
            cache.get("text", "tone")
    finally:
        stop()
    assert heard == [events.CacheLooked("tone", hit=False), events.CacheLooked("tone", hit=True)]


def test_stats_and_clear_by_kind(url):
    """Entries, bytes, hits and misses are counted; `clear` takes one kind or all."""
    with open_cache(url) as cache:
        for number in range(3):
            cache.set(str(number), "a", number)
            cache.set(str(number), "b", number)
        cache.get("0", "a")
        cache.get("none", "a")
        stats = cache.stats()
        assert (stats["entries"], stats["hits"], stats["misses"]) == (6, 1, 1)
        assert stats["bytes"] > 0
        assert stats["place"] in repr(cache)
        cache.clear(kind="a")
        assert [cache.get("1", "a"), cache.get("1", "b")] == [None, 1]
        cache.clear()
        assert cache.stats()["entries"] == 0
        assert cache.get("1", "b") is None


def test_memory_is_bounded_and_keeps_what_was_used():
    """Beyond its bound memory drops what was used longest ago."""
    cache = ResultCache(memory_bytes=1000)
    cache.set("kept", "kind", "x" * 100)
    for number in range(100):
        cache.set(str(number), "kind", "x" * 100)
        assert cache.get("kept", "kind") == "x" * 100
    stats = cache.stats()
    assert stats["bytes"] <= 1000
    assert stats["entries"] < 15


def test_the_process_wide_cache_is_one_and_can_be_replaced():
    """`get_cache` gives one object from all threads, the container's where one is registered, a new one after a reset."""
    found = []
    threads = [threading.Thread(target=lambda: found.append(get_cache())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(map(id, found))) == 1
    own = ResultCache()
    with get_container().override(ResultCache, instance=own):
        assert get_cache() is own
    assert get_cache() is found[0]
    reset_cache()
    assert get_cache() is not found[0]
    reset_container()


@pytest.mark.parametrize(
    "wrong", ["sqlite", "sqlite://x", "file:x", "x.db", "memory:x", "memory:?max_mb=0", "postgres://x"]
)
def test_a_wrong_url_is_one_clear_sentence(wrong):
    """The message names the setting, the value and what can be used."""
    with pytest.raises(
        ConfigurationError, match=r"CACHE_URL=.*(memory:, sqlite:///path or redis|at least 1)"
    ):
        open_cache(wrong)


def test_an_entry_that_is_no_json_counts_as_missing(tmp_path, caplog):
    """Something else wrote into the file: a warning, a miss, and the next set puts it right."""
    import contextlib
    import sqlite3

    path = tmp_path / "c.sqlite"
    with open_cache(f"sqlite:///{path}") as cache:
        cache.set_key("k", "kind", 1)
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("UPDATE answers SET value = '{'")
    with open_cache(f"sqlite:///{path}") as cache:
        assert cache.get_key("k") is None
        assert "no JSON" in caplog.text
        cache.set_key("k", "kind", 2)
    with open_cache(f"sqlite:///{path}") as cache:
        assert cache.get_key("k") == 2


def test_the_file_holds_json_and_no_pickle(tmp_path):
    """Anyone can read the values with SQLite and JSON alone."""
    import contextlib
    import sqlite3

    path = tmp_path / "c.sqlite"
    with open_cache(f"sqlite:///{path}") as cache:
        cache.set("text", "tone", {"label": "positive", "odd": "\ud83d"})
    with contextlib.closing(sqlite3.connect(path)) as other:
        kind, value = other.execute("SELECT kind, value FROM answers").fetchone()
    assert kind == "tone"
    assert json.loads(value) == {"label": "positive", "odd": "\ud83d"}
