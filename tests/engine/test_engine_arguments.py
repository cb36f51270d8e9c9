"""What the engine's calls take, and how they refuse the rest: at once, in one sentence that names the thing."""

from __future__ import annotations

import asyncio
import functools
import math
import types

import numpy as np
import pandas as pd
import pytest

from analysis_kit.analyzers.lexicon import LexiconSentimentAnalyzer
from analysis_kit.engine.engine import AsyncAnalysisEngine
from analysis_kit.errors import ConfigurationError

SECTIONS = {"opening": "Good morning.", "close": "Bye."}


def run(coroutine):
    return asyncio.run(coroutine)


async def length(text):
    return len(text)


def test_zero_units_give_empty_results():
    """No sections, no analyzers, no tasks: an empty result and no worker."""
    engine = AsyncAnalysisEngine()
    assert run(engine.analyze_sections_parallel({}, len)) == {}
    assert run(engine.analyze_multiple({"a": "x"}, {})) == {}
    assert run(engine.analyze_multiple({}, {"len": len})) == {"len": {}}
    assert run(engine.run_tasks([])) == []


@pytest.mark.parametrize(
    ("units", "hint"),
    [
        (["a"], "list"),
        ("text", "str"),
        (None, "NoneType"),
        (3, "int"),
        (
            pd.Series({"a": "x"}),
            r"Series\. analyze\(\) takes a DataFrame; a Series is one by its \.to_dict\(\)",
        ),
    ],
    ids=["list", "text", "None", "number", "series"],
)
def test_units_that_are_no_mapping_are_refused(units, hint):
    """The message says what is needed and what was given."""
    with pytest.raises(ConfigurationError, match=f"mapping.*{hint}"):
        run(AsyncAnalysisEngine().analyze_sections_parallel(units, len))


def test_any_mapping_with_any_keys_and_values_will_do():
    """Keys need not be text nor values texts: what the function says of each comes back under its own key."""
    odd = types.MappingProxyType({None: "x", ("a", 1): math.nan, 1: None, "t": np.str_("word")})
    assert run(AsyncAnalysisEngine(2).analyze_sections_parallel(odd, repr)) == {
        k: repr(v) for k, v in odd.items()
    }


def test_a_coroutine_in_place_of_a_function_is_refused_and_closed():
    """The message names the coroutine; no "never awaited" warning is left (warnings are errors here)."""
    with pytest.raises(ConfigurationError, match=r"length\(\): pass the function"):
        run(AsyncAnalysisEngine().analyze_sections_parallel(SECTIONS, length("x")))
    with pytest.raises(ConfigurationError, match=r"analyzer 'x' must be a function.*got int"):
        run(AsyncAnalysisEngine().analyze_multiple(SECTIONS, {"x": 3}))
    analyzer = LexiconSentimentAnalyzer()
    with pytest.raises(
        ConfigurationError, match=r"got LexiconSentimentAnalyzer\. Pass its method: \.analyze"
    ):
        run(AsyncAnalysisEngine().analyze_sections_parallel(SECTIONS, analyzer))


def test_a_generator_function_is_refused():
    """Its work would be done after the run, outside of its error policy and limits: one sentence says so."""

    def pieces(text):
        yield text

    async def later(text):
        yield text

    for analyze in (pieces, later, functools.partial(pieces)):
        with pytest.raises(ConfigurationError, match=r"generator function, .*(pieces|later)\(\)"):
            run(AsyncAnalysisEngine().analyze_sections_parallel(SECTIONS, analyze))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"max_workers": 0}, "max_workers=0"),
        ({"max_workers": -1}, "max_workers=-1"),
        ({"max_workers": 1.5}, "max_workers=1.5"),
        ({"max_workers": True}, "max_workers=True"),
        ({"max_workers": "many"}, "max_workers='many'"),
        ({"on_error": "ignore"}, "on_error='ignore'"),
        ({"on_error": []}, r"on_error=\[\]"),
        ({"timeout_s": 0}, "timeout_s=0"),
        ({"timeout_s": "5"}, "timeout_s='5'"),
        ({"timeout_s": True}, "timeout_s=True"),
        ({"rate_limit": "fast"}, "rate_limit='fast'"),
        ({"executor": object()}, "executor="),
    ],
    ids=str,
)
def test_options_that_cannot_work_are_refused_at_once(options, words):
    """The constructor names the parameter and the value."""
    with pytest.raises(ConfigurationError, match=words):
        AsyncAnalysisEngine(**options)


def test_a_count_of_numpys_is_a_count():
    """The best worker count of a measured table is a numpy integer, and can be used as it is."""
    engine = AsyncAnalysisEngine(np.int64(2))
    assert run(engine.analyze_sections_parallel(SECTIONS, len)) == {
        name: len(t) for name, t in SECTIONS.items()
    }
    assert type(engine.max_workers) is int


def test_a_result_that_cannot_be_cached_fails_its_unit():
    """Where results are to be cached, one that is no JSON value is an error that names the unit, not a silent miss."""
    engine = AsyncAnalysisEngine(1, on_error="collect")
    results = run(engine.analyze_sections_parallel({"a": "x"}, lambda _: {1, 2}, "sets", cache_as="sets"))
    assert "sets on 'a' failed" in str(results["a"])
    assert "JSON" in str(results["a"])


def test_only_texts_and_named_kinds_can_be_cached():
    """A unit that is no text, or a kind that is none, is refused in words and not by a stray AttributeError."""
    engine = AsyncAnalysisEngine(1, on_error="collect")
    found = run(engine.analyze_sections_parallel({"a": 3}, str, cache_as="k"))
    assert "about a text (str), not about a int" in str(found["a"])
    found = run(engine.analyze_sections_parallel({"a": "x"}, str, cache_as=3))
    assert "kind=3 must be a text" in str(found["a"])
