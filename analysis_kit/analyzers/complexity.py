"""`ComplexityAnalyzer`: how hard a text is to read, by the field's formulas."""

from __future__ import annotations

from typing import Final, NamedTuple

from analysis_kit.analyzers.base import BaseAnalyzer
from analysis_kit.analyzers.syllables import syllables
from analysis_kit.analyzers.text import CutText, Sentence, cut
from analysis_kit.results import Finding, Span

#: Flesch's own bands of his reading ease, from the lower bound (The Art of Readable Writing, 1949).
BANDS: Final = (
    (90, "very easy"),
    (80, "easy"),
    (70, "fairly easy"),
    (60, "standard"),
    (50, "fairly difficult"),
    (30, "difficult"),
)
HARDEST_BAND: Final = "very difficult"
#: Words from which on the formulas mean something: Flesch took samples of 100.
ENOUGH_WORDS: Final = 100
#: Syllables of a long word (Gunning 1952).
LONG_WORD: Final = 3
#: How many of the hardest sentences are kept as evidence.
MOST_EVIDENCE: Final = 3


class _Counts(NamedTuple):
    words: int
    syllables: int
    long_words: int


class ComplexityAnalyzer(BaseAnalyzer):
    """Readability: Flesch reading ease, Flesch-Kincaid grade and Gunning fog.

    With W words, S sentences, Y syllables and L long words:

    - ``flesch`` = 206.835 - 1.015 W/S - 84.6 Y/W; about 0 to 100, higher is easier [1]_;
    - ``grade`` = 0.39 W/S + 11.8 Y/W - 15.59; in years of school [2]_;
    - ``fog`` = 0.4 (W/S + 100 L/W); in years of school [3]_.

    Words are runs of letters: the parts of a compound count one by one, numbers not at all (in financial text they would
    drown the words). Long words have three syllables or more, after the endings -es, -ed and -ing are taken off; names,
    which is capitalised words inside a sentence, are none. Syllables come from our own rule (`syllables.syllables`).

    ``values`` has the three, ``words_per_sentence``, ``syllables_per_word``, ``long_word_share`` (0 to 1), ``words`` and
    ``sentences`` (those with a word). ``label`` is Flesch's band ("very easy" ... "very difficult"); there is no score.
    ``evidence`` is the hardest sentences. A text without words has no values but the counts; one of fewer than 100 words
    is flagged.

    References
    ----------
    .. [1] Flesch, R. (1948). A new readability yardstick. Journal of Applied Psychology 32(3), 221-233.
    .. [2] Kincaid, J. P. et al. (1975). Derivation of new readability formulas for Navy enlisted personnel. Research
       Branch Report 8-75.
    .. [3] Gunning, R. (1952). The Technique of Clear Writing. McGraw-Hill.

    Examples
    --------
    >>> finding = ComplexityAnalyzer().analyze("We grew. We won.")
    >>> finding.values["words_per_sentence"], finding.values["syllables_per_word"], finding.label
    (2.0, 1.0, 'very easy')
    """

    name = "complexity"
    kind = "rules"

    def ask(self, text: str) -> Finding:
        """Return the readability of ``text``."""
        whole = cut(text)
        counted = [(sentence, _count(whole, sentence)) for sentence in whole.sentences]
        counted = [(sentence, counts) for sentence, counts in counted if counts.words]
        sentences = len(counted)
        total = (
            _Counts(*(sum(column) for column in zip(*(counts for _, counts in counted), strict=True)))
            if counted
            else _Counts(0, 0, 0)
        )
        if not total.words:
            return Finding(values={"words": 0, "sentences": 0}, method="rules", flags=("no words",))
        length, weight = total.words / sentences, total.syllables / total.words
        flesch = 206.835 - 1.015 * length - 84.6 * weight
        values = {
            "flesch": round(flesch, 2),
            "grade": round(0.39 * length + 11.8 * weight - 15.59, 2),
            "fog": round(_fog(total, sentences), 2),
            "words_per_sentence": round(length, 2),
            "syllables_per_word": round(weight, 3),
            "long_word_share": round(total.long_words / total.words, 4),
            "words": total.words,
            "sentences": sentences,
        }
        label = next((band for bound, band in BANDS if flesch >= bound), HARDEST_BAND)
        hardest = sorted(counted, key=lambda each: -_fog(each[1], 1))[:MOST_EVIDENCE]
        evidence = tuple(
            Span(
                sentence.start, sentence.end, sentence.text, f"{counts.words} words, {counts.long_words} long"
            )
            for sentence, counts in sorted(hardest, key=lambda each: each[0].start)
        )
        short = (f"fewer than {ENOUGH_WORDS} words",) if total.words < ENOUGH_WORDS else ()
        return Finding(None, label, values, evidence, method="rules", flags=short)


def _fog(counts: _Counts, sentences: int) -> float:
    return 0.4 * (counts.words / sentences + 100 * counts.long_words / counts.words)


def _count(whole: CutText, sentence: Sentence) -> _Counts:
    words = said = long_words = 0
    for token in whole.tokens_of(sentence):
        if token.kind != "word":
            continue
        count = syllables(token.text)
        named = words > 0 and whole.text[token.start].isupper()
        words, said = words + 1, said + count
        long_words += count >= LONG_WORD and not named and syllables(_stem(token.text)) >= LONG_WORD
    return _Counts(words, said, long_words)


def _stem(word: str) -> str:
    """Return ``word`` without the endings that make no word long, if enough of it is left."""
    for ending in ("ing", "ed", "es"):
        if word.endswith(ending) and len(word) > len(ending) + 2:
            return word.removesuffix(ending)
    return word
