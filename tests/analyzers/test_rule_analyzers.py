"""Readability and markers of evasion, each on a text small enough to check by hand; and what all rules have in common."""

from __future__ import annotations

import doctest
import importlib
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis_kit import ComplexityAnalyzer, DeceptionAnalyzer, LexiconSentimentAnalyzer, NumericalAnalyzer
from analysis_kit.analyzers.syllables import syllables

RULES = (LexiconSentimentAnalyzer, ComplexityAnalyzer, NumericalAnalyzer, DeceptionAnalyzer)


@pytest.mark.parametrize(
    ("count", "words"),
    [
        (1, "grew raised prime be year costs league they're growth"),
        (2, "margin prices table client quarter being didn't pipeline demand safety rises business"),
        (3, "revenue expected ratio employee video reported organic previous area"),
        (4, "appreciate organically portfolio equivalent initiative obviously"),
        (5, "opportunity deceleration accelerating"),
        (6, "reconciliation"),
    ],
)
def test_syllables_of_words_in_calls(count, words):
    """Silent endings, vowels spoken apart, contractions and exceptions are counted as they are spoken."""
    wrong = {word: syllables(word) for word in words.split() if syllables(word) != count}
    assert not wrong


def test_readability_follows_the_formulas():
    """Flesch, Flesch-Kincaid and fog of two short sentences with one long word, worked out by hand."""
    finding = ComplexityAnalyzer().ask("We grew. Opportunity was big.")
    assert finding.values == {
        "flesch": round(206.835 - 1.015 * 2.5 - 84.6 * 9 / 5, 2),
        "grade": round(0.39 * 2.5 + 11.8 * 9 / 5 - 15.59, 2),
        "fog": round(0.4 * (2.5 + 100 / 5), 2),
        "words_per_sentence": 2.5,
        "syllables_per_word": 1.8,
        "long_word_share": 0.2,
        "words": 5,
        "sentences": 2,
    }
    assert finding.label == "fairly difficult"
    assert finding.score is None
    assert finding.flags == ("fewer than 100 words",)


def test_endings_and_names_make_no_long_word():
    """Fog leaves out -ed, -es and -ing, and capitalised words inside a sentence; the first word counts."""
    assert ComplexityAnalyzer().ask("It expanded in Alabama.").values["long_word_share"] == 0
    assert ComplexityAnalyzer().ask("Reliability expanded.").values["long_word_share"] == 0.5


def test_numbers_are_no_words_and_long_texts_are_not_flagged():
    """Digits change nothing in readability, and 100 words are enough."""
    plain, numbered = "We sold pumps there. " * 30, "We sold 4,200 pumps (up 3%) there. " * 30
    values = [ComplexityAnalyzer().ask(text).values["words_per_sentence"] for text in (plain, numbered)]
    assert values == [4.0, 5.0]  # "up" is the one word more
    assert ComplexityAnalyzer().ask(plain).flags == ()


def test_a_text_without_words_has_no_readability():
    """Numbers and marks alone give counts and a flag, and no value that was never there."""
    finding = ComplexityAnalyzer().ask("12% ... 5!")
    assert finding.values == {"words": 0, "sentences": 0}
    assert finding.label is None
    assert finding.flags == ("no words",)


@pytest.mark.parametrize(
    "text",
    [
        "We don't break that out.",
        "We do not disclose it.",
        "I'm not going to get into specifics.",
        "We won't be commenting on that.",
        "I can't quantify it today.",
        "It is too early to say.",
        "I'd refer you to the filing.",
        "Let's take that offline.",
        "We're not in a position to talk about that.",
        "We never give guidance by segment.",
    ],
)
def test_refusals_to_answer_are_one_marker(text):
    """Each way not to answer is one non-answer, also where its words are spread."""
    finding = DeceptionAnalyzer().ask(text)
    assert finding.values["counts"]["non_answers"] == 1
    assert finding.evidence[0].note == "non answers"


@pytest.mark.parametrize(
    "text", ["We disclose it in note 4.", "We will comment on that later.", "Let me discuss margins."]
)
def test_telling_without_a_refusal_is_no_marker(text):
    """The words of telling alone are no evasion."""
    assert DeceptionAnalyzer().ask(text).values["counts"]["non_answers"] == 0


def test_markers_are_rates_and_no_verdict():
    """Counts, rates per 100 words, their sum, references to self and group apart; neither score nor label."""
    finding = DeceptionAnalyzer().ask(
        "Um, perhaps it might be fantastic, as everybody knows. I think we did it."
    )
    counts = finding.values["counts"]
    assert counts == {
        "hedges": 1,
        "uncertainty": 1,
        "hesitations": 1,
        "general_references": 1,
        "extreme_positive": 1,
        "non_answers": 0,
        "self_references": 1,
        "group_references": 1,
    }
    assert finding.values["words"] == 14
    assert finding.values["hedges_per_100_words"] == round(100 / 14, 3)
    assert finding.values["markers_per_100_words"] == round(500 / 14, 3)
    assert finding.values["self_references_per_100_words"] == round(100 / 14, 3)
    assert finding.score is None
    assert finding.label is None
    assert finding.flags == ("fewer than 50 words",)
    assert "not a lie detector" in DeceptionAnalyzer.__doc__


def test_a_text_without_words_has_no_rates():
    """Without words a rate is missing, and not 0."""
    finding = DeceptionAnalyzer().ask("5%")
    assert finding.values["markers_per_100_words"] is None
    assert finding.flags == ("no words",)


@pytest.mark.parametrize("analyzer", RULES)
@given(st.text(max_size=300))
@settings(max_examples=100, deadline=None)
def test_evidence_is_the_text_it_names_and_values_are_json(analyzer, text):
    """For any text, every span is its slice, the values are strict JSON, and the finding comes back from its dict."""
    finding = analyzer().ask(text)
    assert all(text[span.start : span.end] == span.text for span in finding.evidence)
    json.dumps(dict(finding.values), allow_nan=False)
    assert type(finding).from_dict(finding.to_dict()) == finding
    assert finding.method == "rules"


PLAIN = (" ", "1", "a", ",", ".", "-", "\n")
TANGLED = (
    "1 ", "a ", ". ", "(", "1,", "1.", "a.", "1-", "a'", "$1 to ", "from 1 to ", "loss from 1 profit ", "no ", "revenue up ",
    "if ", "to a ", "twenty ", "half a million ", "q3 ", "the third quarter of ", "we don't ", "\u0130", "%(",
)  # fmt: skip


@pytest.mark.parametrize(
    ("piece", "size"), [*((piece, 1_000_000) for piece in PLAIN), *((piece, 60_000) for piece in TANGLED)]
)
def test_hostile_text_ends(piece, size):
    """A long run of one piece goes through all rules: were a step quadratic, this test would take minutes to hours."""
    text = piece * (size // len(piece))
    for analyzer in RULES:
        assert analyzer().ask(text).method == "rules"


@pytest.mark.parametrize("analyzer", RULES)
def test_rules_need_no_arguments_and_go_through_analyze(analyzer):
    """Each has a name and is built without arguments; analyze gives what ask gives; none is cached."""
    rule = analyzer()
    text = "Revenue grew 5% and we don't break that out."
    assert rule.kind == "rules"
    assert rule.name in {"tone", "complexity", "numerical", "deception"}
    assert rule.analyze(text) == rule.ask(text)
    assert rule.cache_parts() is None


@pytest.mark.parametrize(
    "module",
    ["text", "lexicon", "quantities", "periods", "numerical", "syllables", "complexity", "deception"],
)
def test_the_examples_in_the_docstrings_run(module):
    """What the docstrings show is what happens."""
    results = doctest.testmod(importlib.import_module(f"analysis_kit.analyzers.{module}"))
    assert results.attempted > 0
    assert results.failed == 0
