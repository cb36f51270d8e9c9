"""Sentences and words: where they end, that they are where they say, that a text is cut once, and that no text is hostile."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis_kit.analyzers import text as room
from analysis_kit.analyzers.text import LONGEST_SENTENCE, Phrases, cut


def sentences(text):
    """Return the sentences of ``text``."""
    return [sentence.text for sentence in cut(text).sentences]


@pytest.mark.parametrize(
    "one",
    [
        "Norvale Inc. reported $3.5 million in sales.",
        "Mr. J. Smith Jr. of Tarn Corp. spoke to Dr. Ode.",
        "We sell in the U.S. and the U.K. today.",
        "The call is at 8:30 a.m. Eastern time.",
        "Growth was approx. 5 percent vs. 4 percent.",
        "See amazon.com or item No. 5 for that.",
        "It was 1.2.3 and Q1.5, e.g. this.",
        "We saw... well, something.",
        "1. Revenue grew.",
        "Sales of Acme Inc. Chief Executive Jane Roe rose.",
        "Wrapped\nover two lines.",
    ],
)
def test_a_stop_inside_a_sentence_does_not_end_it(one):
    """Titles, initials, short forms, decimals, addresses, list numbers and a wrapped line keep a sentence whole."""
    assert sentences(one) == [one]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("We sell in the U.S. We grew.", ["We sell in the U.S.", "We grew."]),
        ("It was Q1. Next came Q2.", ["It was Q1.", "Next came Q2."]),
        ("Was it good? Yes! It was.", ["Was it good?", "Yes!", "It was."]),
        ('"We grew." He left.', ['"We grew."', "He left."]),
        ("We grew by 5%. costs fell", ["We grew by 5%.", "costs fell"]),
        ("A heading\n\nA sentence", ["A heading", "A sentence"]),
        ("- one\n- two", ["- one", "- two"]),
        ("growth was strong.We saw demand", ["growth was strong.", "We saw demand"]),
        ("It ended in 2025. We left.", ["It ended in 2025.", "We left."]),
        ("No. We do not.", ["No.", "We do not."]),
        ("\u58f2\u4e0a\u3002\u5229\u76ca\u3002", ["\u58f2\u4e0a\u3002", "\u5229\u76ca\u3002"]),
        ("", []),
        (" \n\t ", []),
    ],
)
def test_a_sentence_ends_at_its_stop(text, expected):
    """Stops, empty lines, bullets and a lost blank end a sentence; blanks are none."""
    assert sentences(text) == expected


def test_words_are_lower_case_and_compounds_are_parts():
    """Words keep apostrophes (curly ones become straight), lose case, and a compound is its parts."""
    words = [word.text for word in cut("Don\u2019t ask YEAR-over-year e-mails in the U.S.").words]
    assert words == ["don't", "ask", "year", "over", "year", "e", "mails", "in", "the", "u.s."]


@given(st.text(max_size=400))
@settings(max_examples=300, deadline=None)
def test_sentences_and_tokens_are_the_slices_they_name(text):
    """For any text, each sentence is its slice, tokens are in order and in their sentence, and nothing said is lost."""
    whole = cut(text)
    end = 0
    for sentence in whole.sentences:
        assert text[sentence.start : sentence.end] == sentence.text == sentence.text.strip()
        assert sentence.start >= end
        assert not text[end : sentence.start].strip()
        assert all(sentence.start <= t.start < t.end <= sentence.end for t in whole.tokens_of(sentence))
        end = sentence.end
    assert not text[end:].strip()
    assert [t for s in whole.sentences for t in whole.tokens_of(s)] == list(whole.tokens)
    for token in whole.tokens:
        written = text[token.start : token.end]
        assert len(token.text) == len(written)
        if written.isascii():
            assert token.text == written.lower()


def test_capitals_that_grow_do_not_shift_the_rest():
    """A capital that becomes two characters in lower case leaves the offsets behind it right."""
    text = "\u0130\u0130 Revenue ROSE."
    assert [text[t.start : t.end] for t in cut(text).words if t.text in {"revenue", "rose"}] == [
        "Revenue",
        "ROSE",
    ]


def test_text_without_stops_is_cut_after_so_many_tokens():
    """Speech that was never given stops still comes in pieces that rules can read."""
    whole = cut("growth " * (2 * LONGEST_SENTENCE + 10))
    assert [s.last - s.first for s in whole.sentences] == [LONGEST_SENTENCE, LONGEST_SENTENCE, 10]


def test_a_text_is_cut_once_by_many_threads(monkeypatch):
    """Four analyzers that ask at the same time cause one cut, and all get it."""
    calls = []
    real = room._cut

    def counted(text):
        calls.append(text)
        return real(text)

    monkeypatch.setattr(room, "_cut", counted)
    text = "Asked for by four threads at once."
    barrier, results = threading.Barrier(4), []

    def work():
        barrier.wait()
        results.append(cut(text))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert calls == [text]
    assert len({id(result) for result in results}) == 1


def test_what_is_kept_is_bounded():
    """Neither many texts nor long ones stay for ever."""
    for number in range(3 * room._MOST_TEXTS):
        cut(f"text number {number}")
    assert len(room._slots) <= room._MOST_TEXTS
    cut("a" * 600_000)
    cut("b" * 600_000)
    assert sum(map(len, room._slots)) <= room._MOST_CHARACTERS
    longer = "c" * 1_200_000
    assert cut(longer).text == longer
    assert longer not in room._slots


def test_phrases_take_the_longest_and_merge_tags():
    """Of entries that fit, the longest is found; an entry under two tags has both; hyphens make no difference."""
    table = Phrases({"money": "cash cash_flow", "good": "cash_flow", "time": "year_over_year"})
    tokens = cut("Cash flow and cash, year-over-year").tokens
    found = [(first, last, sorted(tags)) for first, last, tags in table.find(tokens)]
    assert found == [(0, 2, ["good", "money"]), (3, 4, ["money"]), (5, 8, ["time"])]
