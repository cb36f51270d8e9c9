"""`DeceptionAnalyzer`: markers of evasion as rates. Markers, not a lie detector."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from analysis_kit.analyzers.base import BaseAnalyzer
from analysis_kit.analyzers.text import CutText, Phrases, Token, cut, word_set
from analysis_kit.results import Finding, Span

#: Marker -> its words and phrases; the words of a phrase are joined by "_". The lists are our own, made for calls.
MARKERS: Final = {
    "hedges": """
        sort_of kind_of more_or_less somewhat roughly approximately perhaps maybe relatively fairly rather_than_not
        in_a_sense to_some_extent to_some_degree to_a_degree in_some_ways i_guess i_suppose i_would_say i_think_that
        we_believe we_think i_believe presumably supposedly apparently seemingly generally_speaking by_and_large
        for_the_most_part largely mostly pretty_much or_so give_or_take in_general somehow broadly
    """,
    "uncertainty": """
        may might could would possibly potentially possible uncertain uncertainty uncertainties unclear unknown unsure
        depends depending hard_to_say hard_to_predict hard_to_know difficult_to_say difficult_to_predict remains_to_be_seen
        we'll_see time_will_tell limited_visibility visibility_is_limited no_crystal_ball not_sure contingent tentative
        tentatively subject_to
    """,
    "hesitations": "um umm uh uhh uhm er erm hmm mm i_mean you_know well_look look_, you_see let_me_see",
    "general_references": """
        everybody everyone anybody anyone nobody people folks others they_know you_all_know as_you_know as_everybody_knows
        as_everyone_knows as_we_all_know everybody_knows everyone_knows you_guys_know of_course_you_know the_industry
        the_whole_industry all_of_us everybody_else everyone_else most_people most_companies investors_know
        the_street_knows others_in_the_industry
    """,
    "extreme_positive": """
        fantastic tremendous tremendously incredible incredibly amazing amazingly phenomenal phenomenally spectacular
        spectacularly terrific extraordinary extraordinarily superb superbly awesome unbelievable unbelievably thrilled
        wonderful marvelous magnificent outstanding brilliant stunning stellar sensational ecstatic best_ever
    """,
    "non_answers": """
        no_comment too_early_to too_soon_to it's_early_to premature_to refer_you_to point_you_to take_that_offline
        take_it_offline follow_up_offline follow_up_with_you get_back_to_you come_back_to_you leave_it_at_that
        leave_it_there wait_and_see stay_tuned more_to_come at_the_appropriate_time at_the_right_time in_due_course
        when_the_time_comes not_prepared_to not_ready_to not_in_a_position_to as_i_said as_i've_said as_we_said
        as_we've_said as_i_mentioned_before like_i_said i'd_rather_not would_rather_not prefer_not_to decline_to
        wouldn't_want_to don't_want_to_get ahead_of_ourselves what_i_can_say_is all_i_can_say not_something_we
        next_question_please competitive_reasons
    """,
}
#: Few of these is the marker, so they are counted and not summed up with the others.
SELF_REFERENCES: Final = word_set("i me my mine myself i'm i've i'd i'll")
GROUP_REFERENCES: Final = word_set("we us our ours ourselves we're we've we'd we'll")

#: "We don't break that out": a refusal, then within `REFUSAL_REACH` tokens a word of telling.
REFUSALS: Final = word_set("""
    not don't doesn't won't can't cannot wouldn't couldn't shouldn't haven't aren't isn't never unable decline
    declined refrain
""")
TELLING: Final = """
    disclose disclosed disclosing comment commenting quantify quantified quantifying speculate speculating elaborate
    break_out break_it_out break_that_out break_those_out break_this_out breaking_out breaking_that_out broken_out
    broken_that_out get_into getting_into go_into going_into parse size_that give_guidance giving_guidance
    provide_guidance providing_guidance give_specific give_specifics give_details give_numbers give_a_number
    provide_specific provide_details provide_that share_that share_details share_specific share_numbers discuss talk_about
    talking_about guide_to guide_on update_guidance put_a_number name_names call_out
"""
REFUSAL_REACH: Final = 5

#: A rate over fewer words than this jumps with every single marker.
ENOUGH_WORDS: Final = 50
#: How many places are kept as evidence.
MOST_EVIDENCE: Final = 12

_MARKERS: Final = Phrases(MARKERS)
_TELLING: Final = Phrases({"telling": TELLING})


class _Place(NamedTuple):
    marker: str
    start: int
    end: int


class DeceptionAnalyzer(BaseAnalyzer):
    """Rates of words that evasive speech is rich in, per 100 words, after Larcker and Zakolyukina [1]_.

    **These are markers and not a lie detector.** Honest speech has all of them, habits of speech differ more than
    honesty does, and their accuracy on single passages has not been measured here. Compare a speaker with himself over
    calls, or prepared remarks with answers. So there is no score and no label.

    In the calls of firms that had to restate their accounts later, the cited study found more references to general
    knowledge, more words of extreme positive emotion, and fewer self-references; hedges, uncertainty, hesitations and
    refusals to answer are added as the usual signs of evasion. The word lists are our own (`MARKERS`).

    ``values`` has, for each marker, ``<marker>_per_100_words``; ``markers_per_100_words``, their sum;
    ``self_references_per_100_words`` and ``group_references_per_100_words`` ("I", "we": few of the first are the marker,
    so they are not in the sum); ``counts`` of all, and ``words``. ``evidence`` is where, refusals first. Fewer than 50
    words are flagged.

    References
    ----------
    .. [1] Larcker, D. F. and Zakolyukina, A. A. (2012). Detecting deceptive discussions in conference calls. Journal of
       Accounting Research 50(2), 495-540.

    Examples
    --------
    >>> finding = DeceptionAnalyzer().analyze("We don't break that out, you know.")
    >>> finding.values["counts"]["non_answers"], finding.values["counts"]["hesitations"], finding.score
    (1, 1, None)
    """

    name = "deception"
    kind = "rules"

    def ask(self, text: str) -> Finding:
        """Return the markers in ``text``."""
        whole = cut(text)
        places = _places(whole)
        words = len(whole.words)
        counts = {marker: sum(place.marker == marker for place in places) for marker in MARKERS}
        spoken = [word.text for word in whole.words]
        own = {
            "self_references": sum(word in SELF_REFERENCES for word in spoken),
            "group_references": sum(word in GROUP_REFERENCES for word in spoken),
        }
        rates = {**counts, "markers": len(places), **own}
        values: dict[str, object] = {
            f"{name}_per_100_words": _rate(count, words) for name, count in rates.items()
        }
        values |= {"counts": {**counts, **own}, "words": words}
        telling = sorted(places, key=lambda place: place.marker != "non_answers")[:MOST_EVIDENCE]
        evidence = tuple(
            Span(place.start, place.end, text[place.start : place.end], place.marker.replace("_", " "))
            for place in sorted(telling, key=lambda place: place.start)
        )
        flags = (
            ("no words",)
            if not words
            else (f"fewer than {ENOUGH_WORDS} words",)
            if words < ENOUGH_WORDS
            else ()
        )
        return Finding(values=values, evidence=evidence, method="rules", flags=flags)


def _rate(count: int, words: int) -> float | None:
    return round(100 * count / words, 3) if words else None


def _places(whole: CutText) -> list[_Place]:
    """Return every marker in the order of the text; what is part of a refusal is no other marker."""
    found: list[_Place] = []
    for sentence in whole.sentences:
        tokens = whole.tokens_of(sentence)
        refused = list(_refusals(tokens))
        inside = {index for first, last in refused for index in range(first, last)}
        spans = [("non_answers", first, last) for first, last in refused]
        spans += [
            (tag, first, last)
            for first, last, (tag, *_) in _MARKERS.find(tokens)
            if not inside & {first, last - 1}
        ]
        found += [_Place(tag, tokens[first].start, tokens[last - 1].end) for tag, first, last in spans]
    return sorted(found, key=lambda place: place.start)


def _refusals(tokens: Sequence[Token]) -> list[tuple[int, int]]:
    """Return the token spans of "we don't break that out", "I'm not going to get into that" and the like."""
    found: list[tuple[int, int]] = []
    for first, last, _ in _TELLING.find(tokens):
        begin = max(found[-1][1] if found else 0, first - REFUSAL_REACH)
        refusal = next((n for n in range(first - 1, begin - 1, -1) if tokens[n].text in REFUSALS), None)
        if refusal is not None:
            found.append((refusal, last))
    return found
