"""Label probabilities are read from token log-probabilities, or not given at all."""

from __future__ import annotations

import math

import pytest
from fakes.ollama import FakeOllama, Play
from hypothesis import given, strategies

from analysis_kit.ollama.answers import parse_object, split_thinking
from analysis_kit.ollama.client import OllamaClient
from analysis_kit.ollama.label_probabilities import label_field, label_probabilities
from analysis_kit.ollama.questions import SENTIMENT

SCHEMA = SENTIMENT.schema.model_json_schema()


def entry(token, probability, **others):
    """One token as chosen, with its alternatives by probability."""
    tops = [{"token": each, "logprob": math.log(share)} for each, share in others.items()]
    return {"token": token, "logprob": math.log(probability), "top_logprobs": tops}


def start():
    """Give the tokens up to a label's value."""
    return [entry("{", 1.0), entry('"label', 1.0), entry('":', 1.0), entry(' "', 1.0)]


def test_each_alternative_counts_for_the_label_it_begins():
    """Mass is given to labels by their first letters and divided by its sum; strange tokens count for none."""
    found = label_probabilities([*start(), entry("pos", 0.6, pos=0.6, neut=0.2, nega=0.1, x=0.1)], SCHEMA)
    assert found == pytest.approx({"positive": 0.6 / 0.9, "neutral": 0.2 / 0.9, "negative": 0.1 / 0.9})


def test_a_shared_beginning_is_decided_by_the_next_token():
    """Where "ne" can be neutral or negative, what follows on the chosen way divides its share."""
    tokens = [*start(), entry("ne", 0.6, ne=0.6, pos=0.4), entry("gative", 0.75, gative=0.75, utral=0.25)]
    assert label_probabilities(tokens, SCHEMA) == pytest.approx(
        {"positive": 0.4, "neutral": 0.15, "negative": 0.45}
    )


def test_what_cannot_be_told_apart_gives_nothing():
    """A shared beginning off the chosen way, or at the end of the list, is not guessed at."""
    assert label_probabilities([*start(), entry("pos", 0.9, pos=0.9, ne=0.1)], SCHEMA) == {}
    assert label_probabilities([*start(), entry("ne", 1.0)], SCHEMA) == {}


def test_a_token_may_begin_before_the_value_and_end_after_it():
    """Tokens that hold the opening quote or more than the label are read by what is in them."""
    opening = [entry('{"label":', 1.0)]
    found = label_probabilities(
        [*opening, entry(' "positive",', 0.8, **{' "positive",': 0.8, ' "neu': 0.2})], SCHEMA
    )
    assert found == pytest.approx({"positive": 0.8, "neutral": 0.2, "negative": 0.0})


@pytest.mark.parametrize(
    "tokens",
    [
        [],
        [entry("hello", 1.0)],
        [{"token": '{"label": "positive'}],
        [{"logprob": None, "token": '{"label": "p'}],
    ],
)
def test_without_usable_log_probabilities_there_are_none(tokens):
    """No list, no label in it, no numbers: an empty dict, never an error."""
    assert label_probabilities(tokens, SCHEMA) == {}


def test_only_a_closed_list_of_texts_is_a_label_field():
    """The first field with several texts to choose from is the label's, by reference too."""
    assert label_field(SCHEMA) == ("label", ("positive", "neutral", "negative"))
    assert label_field({"properties": {"n": {"enum": [1, 2]}, "c": {"const": "x"}}}) is None
    referred = {"properties": {"tone": {"$ref": "#/$defs/Tone"}}, "$defs": {"Tone": {"enum": ["up", "down"]}}}
    assert label_field(referred) == ("tone", ("up", "down"))


def test_an_answer_carries_its_label_probabilities():
    """ask() asks for log-probabilities where the schema has labels, and gives what they say."""
    with FakeOllama() as fake, OllamaClient(fake.url, model="fake") as client:
        text = '{"label": "positive", "score": 0.5, "confidence": 1}'
        tokens = [entry('{"label": "', 1.0), entry("positive", 0.9, positive=0.9, negative=0.1)]
        fake.script(
            "/api/generate",
            Play(lines=[{"response": text, "logprobs": tokens}, {"done": True, "done_reason": "stop"}]),
        )
        answer = client.ask(SENTIMENT, "x")
        sent = fake.requests[-1].json
    assert answer.probabilities == pytest.approx({"positive": 0.9, "neutral": 0.0, "negative": 0.1})
    assert (sent["logprobs"], sent["top_logprobs"]) == (True, 20)
    assert "logprobs" not in answer.exchange.reply


@given(strategies.lists(strategies.text("<>/think{}ab \n", max_size=12), max_size=4))
def test_split_thinking_loses_nothing_and_never_hangs(parts):
    """Whatever a model writes, the answer is a piece of it, or the block in front is unclosed."""
    text = "".join(f"<think>{part}</think>" for part in parts) + "{}"
    try:
        thinking, answer = split_thinking(text)
    except ValueError:
        return
    assert answer in text
    assert isinstance(thinking, str)


def test_only_one_json_object_is_an_answer():
    """A fence is taken off; lists, numbers, doubled keys and NaN are refused."""
    assert parse_object('```json\n{"a": 1}\n```') == {"a": 1}
    for text in ("[1]", "1", '{"a": 1, "a": 2}', '{"a": Infinity}', '{"a": 1} {"b": 2}', "```\n{}"):
        with pytest.raises(ValueError, match=r"."):
            parse_object(text)
