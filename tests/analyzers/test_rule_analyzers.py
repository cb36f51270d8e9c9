"""Sentences, readability, numbers and markers: each rule on a text small enough to check by hand."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis_kit import ComplexityAnalyzer, DeceptionAnalyzer, NumericalAnalyzer
from analysis_kit.analyzers.complexity import syllables
from analysis_kit.analyzers.text import cut


def test_sentences_end_where_they_end():
    """Abbreviations, initials and decimals do not end a sentence."""
    text = "Mr. J. Ode of Tarn Inc. said sales were $3.5 million. Really? Yes!\n\nNext one"
    assert [sentence.text for sentence in cut(text).sentences] == [
        "Mr. J. Ode of Tarn Inc. said sales were $3.5 million.",
        "Really?",
        "Yes!",
        "Next one",
    ]


def test_a_text_is_cut_once_for_all_analyzers():
    """Two analyzers that get the same text get the very same cut."""
    text = "One sentence for all of them."
    assert cut(text) is cut(text)


@given(st.text(max_size=300))
@settings(max_examples=150, deadline=None)
def test_sentences_and_words_are_where_they_say(text):
    """Every sentence and word is the slice it names, and no letter is outside of the sentences."""
    parts = cut(text)
    assert all(text[s.start : s.end] == s.text for s in parts.sentences)
    assert all(text[w.start : w.end].lower() == w.text for w in parts.words)
    covered = "".join(sentence.text for sentence in parts.sentences)
    assert sum(c.isalpha() for c in covered) == sum(c.isalpha() for c in text)


@pytest.mark.parametrize(
    ("word", "count"),
    [
        ("grew", 1),
        ("margin", 2),
        ("raised", 1),
        ("expected", 3),
        ("revenue", 3),
        ("prices", 2),
        ("table", 2),
        ("be", 1),
    ],
)
def test_syllables_of_common_words(word, count):
    """The syllable rule is right on endings that are silent and on those that are not."""
    assert syllables(word) == count


def test_readability_follows_the_formulas():
    """Flesch, Flesch-Kincaid and fog of two short sentences, worked out by hand."""
    values = ComplexityAnalyzer().analyze("We grew. We won big.").values
    assert values["words_per_sentence"] == 2.5
    assert values["flesch"] == round(206.835 - 1.015 * 2.5 - 84.6, 2)
    assert values["grade"] == round(0.39 * 2.5 + 11.8 - 15.59, 2)
    assert values["fog"] == 1.0


def _numbers(text):
    found = NumericalAnalyzer().analyze(text).values["numbers"]
    return [(number["kind"], number["low"], number["high"], number["unit"]) for number in found]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Cash was $412.8 million.", [("amount", 412.8e6, 412.8e6, "USD")]),
        ("We expect $2.0 to $2.2 billion.", [("guidance", 2.0e9, 2.2e9, "USD")]),
        ("Take between 3% and 5%.", [("percent", 3.0, 5.0, "%")]),
        ("Margins fell 150 basis points.", [("growth", -150.0, -150.0, "bps")]),
        ("It was $1.23 per share.", [("per share", 1.23, 1.23, "USD/share")]),
        ("A result of $(1.2) million.", []),
        ("It came to €3bn.", [("amount", 3e9, 3e9, "EUR")]),
        ("We serve 1,200 customers.", [("count", 1200.0, 1200.0, "customers")]),
        ("Leverage is 2.1x.", [("multiple", 2.1, 2.1, "x")]),
        ("In 2024, call 555-0100 on May 3.", []),
    ],
)
def test_numbers_are_normalised(text, expected):
    """Scale, unit, range and sign of amounts, percentages, basis points, per-share figures, counts and multiples."""
    if expected:
        assert _numbers(text) == expected
    else:
        assert all(unit not in {"%", "bps"} for _, _, _, unit in _numbers(text))


def test_from_to_is_two_numbers_and_not_a_range():
    """A move from one amount to another is both amounts."""
    found = NumericalAnalyzer().analyze("Sales rose from $3 million to $4 million.").values["numbers"]
    assert [number["value"] for number in found] == [3e6, 4e6]


@given(st.text(alphabet="0123456789$%.,() tobps-bn", max_size=60))
@settings(max_examples=200, deadline=None)
def test_every_number_is_where_it_says(text):
    """Whatever stands around it, a number's text is the slice it names, and low is not above high."""
    for number in NumericalAnalyzer().ask(text).values["numbers"]:
        assert text[number["start"] : number["end"]] == number["text"]
        assert number["low"] <= number["high"]


def test_evasion_markers_are_rates_and_no_verdict():
    """The finding has rates and places, and neither a score nor a label."""
    finding = DeceptionAnalyzer().analyze("Well, we don't break that out. Perhaps it might be fantastic.")
    assert finding.score is None
    assert finding.label is None
    assert finding.values["counts"]["non_answers"] == 1
    assert finding.values["hedges_per_100_words"] == round(100 / 11, 3)
    assert {span.note for span in finding.evidence} >= {"non answers", "hedges", "extreme positive"}
