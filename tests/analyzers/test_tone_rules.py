"""The tone rules: their cases one by one, and their worth against plain word counting on a labelled set of our own."""

from __future__ import annotations

import csv
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis_kit import LexiconSentimentAnalyzer
from analysis_kit.analyzers.lexicon import SENTENCE_CLEAR, score_sentence
from analysis_kit.analyzers.lexicon_tables import DOWN, NEGATIVE, POSITIVE, UP
from analysis_kit.analyzers.text import cut

SENTENCES = Path(__file__).with_name("tone_sentences.csv")


def _label(score):
    return "positive" if score > SENTENCE_CLEAR else "negative" if score < -SENTENCE_CLEAR else "neutral"


@pytest.mark.parametrize(
    ("sentence", "label"),
    [
        ("Net loss narrowed.", "positive"),
        ("Costs fell.", "positive"),
        ("Costs rose.", "negative"),
        ("Revenue is not growing.", "negative"),
        ("Margin was 12% compared with 14%.", "negative"),
        ("Revenue of $40 million compared with $31 million.", "positive"),
        ("Revenue went from $31 million to $40 million.", "positive"),
        ("Debt was $40 million compared to $31 million.", "negative"),
        ("We met on Tuesday.", "neutral"),
        ("Good morning, everyone.", "neutral"),
    ],
)
def test_each_rule_in_a_sentence(sentence, label):
    """Direction with metric, negation, from-to amounts, and courtesy, each in one sentence."""
    assert _label(score_sentence(sentence)) == label


def _word_counting(sentence):
    words = [word.text for word in cut(sentence).words]
    good = sum(word in POSITIVE or word in UP for word in words)
    bad = sum(word in NEGATIVE or word in DOWN for word in words)
    return "positive" if good > bad else "negative" if bad > good else "neutral"


def test_rules_beat_counting_the_same_words():
    """On 66 labelled sentences the rules are right in over 80 %, and far ahead of counting the words they are made of."""
    with SENTENCES.open(encoding="utf-8") as file:
        rows = [(row["label"], row["sentence"]) for row in csv.DictReader(file)]
    rules = sum(_label(score_sentence(text)) == label for label, text in rows) / len(rows)
    counting = sum(_word_counting(text) == label for label, text in rows) / len(rows)
    assert len(rows) >= 60
    assert rules >= 0.8, [
        (label, text, score_sentence(text)) for label, text in rows if _label(score_sentence(text)) != label
    ]
    assert rules >= counting + 0.15


@given(st.text(max_size=400))
@settings(max_examples=150, deadline=None)
def test_scores_and_evidence_hold_for_any_text(text):
    """Whatever the text, the score is in [-1, 1] and every span of evidence is the text it names."""
    finding = LexiconSentimentAnalyzer().ask(text)
    assert -1 <= finding.score <= 1
    assert all(text[span.start : span.end] == span.text for span in finding.evidence)


@pytest.mark.parametrize("piece", ["a", " ", "1", ",", "revenue from $1 to ", "no ", "(", "."])
def test_hostile_text_takes_time_in_proportion(piece):
    """Eight times the text takes about eight times as long, not sixty-four: no pattern backtracks without end."""

    def took(count):
        text = piece * count
        started = time.perf_counter()
        LexiconSentimentAnalyzer().ask(text)
        return time.perf_counter() - started

    small, large = 20_000 // len(piece), 160_000 // len(piece)
    fastest = min(took(small + repeat) for repeat in range(3))
    assert min(took(large + repeat) for repeat in range(2)) < 30 * fastest + 0.05
