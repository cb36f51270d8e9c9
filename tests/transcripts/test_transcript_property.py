"""Nothing that is said is dropped or moved, whatever is thrown at the parsers."""

import re
from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from analysis_kit.errors import TranscriptError
from analysis_kit.transcripts.model import Transcript
from analysis_kit.transcripts.parse import parse_transcript
from analysis_kit.transcripts.reading import clean

relaxed = settings(derandomize=True, deadline=None, max_examples=200)

LABELS = [
    *("Operator", "OPERATOR:", "[Operator]", "Operator: ", "Moderator"),
    *("Jane Doe -- Chief Executive Officer", "Jane Doe", "JANE DOE:", "Jane Doe: ", "Jane Doe, CFO: "),
    *(
        "Tom Ek \u2014 Calder & Pryce \u2014 Analyst",
        "Tom Ek - Calder",
        "Tom: ",
        "Q - Tom Ek",
        "<A - Jane Doe>: ",
    ),
    *(
        "Priya Nair\nHarbor Lane Securities",
        "**Priya Nair (Analyst):** ",
        "[00:12:30] Priya Nair: ",
        "Priya Nair [7]",
    ),
    *("Q: ", "A: ", "Unidentified Analyst", "Speaker 2: "),
]
ABOUT = [
    *("Fernhill Foods, Inc. (NYSE: FNH)", "Q3 2025 Earnings Call", "October 28, 2025", "Fernhill Foods"),
    *("Participants", "Company Participants:", "Conference Call Participants", "Prepared Remarks", "Q&A"),
    *(
        "Questions and Answers:",
        "## Outlook",
        "Financial Review",
        "THE WAY AHEAD",
        "Duration: 50 minutes",
        "Contents:",
    ),
    *("-----", "=====", "* * *", "Participants: Jane Doe, CEO; Tom Ek, Calder"),
]
SPEECH = [
    *(
        "we grew 5% in all regions.",
        "But know this: we won.",
        "Industrial Coatings: sales rose.",
        "Thank you -- really",
    ),
    *(
        "Yes",
        "Great, thanks",
        "(Operator Instructions)",
        "At 10:30 we open",
        "Jane Doe told me: no.",
        "Good Morning",
    ),
    *(
        "Remember: cash",
        "\u200fshalom \u200e",
        "a\x00b \ud800 c",
        "https://example.com",
        "Thanks, Tom. Chief Executive Officer",
    ),
]
LABEL_WORDS = {word for label in LABELS for word in re.findall(r"[^\W_]+", label)}

ends = st.sampled_from(["\n", "\n\n", "\r\n", "\n\n\n", "\r", " \n\t\n", "\u2028"])
plain_words = st.text(st.characters(exclude_categories=["Cc", "Zl", "Zp"]), min_size=1).map(
    lambda text: f"we {text}"
)


def words(text):
    """Return the words of ``text`` as letters and digits; what parts them says nothing about what was dropped."""
    return re.findall(r"[^\W_]+", text)


@st.composite
def documents(draw):
    """Draw a text of labels, headings, title lines and speech in any order and spacing."""
    lines = draw(
        st.lists(st.one_of(*map(st.sampled_from, (LABELS, ABOUT, SPEECH)), plain_words), max_size=30)
    )
    return "".join(line + draw(ends) for line in lines)


def parsed(text):
    """Return the transcript, or None where the text is none."""
    try:
        return parse_transcript(text, format="text")
    except TranscriptError:
        return None


@relaxed
@given(documents())
def test_every_word_is_in_a_turn_in_order_or_in_a_label_or_in_the_header(text):
    """The words of the turns are the words of the text in order; those left over stand in labels or in the header."""
    call = parsed(text)
    if call is None:
        return
    left = []
    # From the end, so that a label's words are not taken for the same words in the speech after it.
    said = words("\n".join(turn.text for turn in call.turns))
    for word in reversed(words(clean(text))):
        if said and said[-1] == word:
            said.pop()
        else:
            left.append(word)
    assert not said, "the turns hold words that the text does not have at that place"
    missing = Counter(left) - Counter(words(clean(call.header)))
    assert set(missing) <= LABEL_WORDS.union(*map(words, call.people))


@relaxed
@given(documents())
def test_turns_sections_and_speakers_hold_the_same_words(text):
    """Sections and speakers are two cuts of the same turns; turns count from 0, are tidy and never blank."""
    call = parsed(text)
    if call is None:
        return
    total = sum(turn.words for turn in call.turns)
    assert total == sum(len(text.split()) for text in call.sections.values())
    assert total == sum(len(text.split()) for text in call.speakers.values())
    assert [turn.index for turn in call.turns] == list(range(len(call.turns)))
    assert all(turn.text.strip() == turn.text != "" and "\n\n\n" not in turn.text for turn in call.turns)
    assert all(turn.section and turn.speaker for turn in call.turns)
    call_text = "".join(turn.text + turn.speaker + turn.section for turn in call.turns)
    assert call_text.encode()
    assert set(call.speakers) <= set(call.people)


@relaxed
@given(
    st.lists(
        st.tuples(
            st.sampled_from(
                ["Jane Doe -- Chief Executive Officer", "Tom Ek -- Calder & Pryce -- Analyst", "Operator"]
            ),
            st.lists(st.one_of(st.sampled_from(SPEECH), plain_words), min_size=1, max_size=4),
        ),
        min_size=1,
        max_size=12,
    ),
    ends,
)
def test_each_speaker_keeps_exactly_the_own_words(script, end):
    """In a call with titles, every turn has its speaker and just the words that stand under the label."""
    text = "\n\n".join(f"{label}\n\nso, {end.join(lines)}" for label, lines in script)
    call = parse_transcript(text)

    expected = [(label.split(" --")[0], words(clean("so, " + end.join(lines)))) for label, lines in script]
    assert [(turn.speaker, words(turn.text)) for turn in call.turns] == expected


@relaxed
@given(st.text(), st.sampled_from(["text", "json", "vtt", None]))
def test_any_text_gives_a_transcript_or_a_transcript_error(text, layout):
    """Whatever the text, the answer is a transcript or a `TranscriptError`, never another failure."""
    try:
        answer = parse_transcript(text, format=layout)
    except TranscriptError as error:
        answer = error
    assert isinstance(answer, (Transcript, TranscriptError))
    assert repr(answer)


@relaxed
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["<v Jane Doe>", "<v Tom Ek>", "Jane Doe: ", ""]),
            st.sampled_from([*SPEECH, "a\nb", "x\n\ny"]),
        ),
        min_size=1,
    )
)
def test_every_word_of_the_captions_is_in_a_turn_in_order(cues):
    """The words of the cues, without voices and labels, are the words of the turns, in order."""
    text = "WEBVTT\n\n" + "\n\n".join(
        f"00:00:01.000 --> 00:00:02.000\n{voice}so {line}" for voice, line in cues
    )
    call = parse_transcript(text)

    expected = words(clean("\n".join(f"so {line}" for _, line in cues)))
    assert words("\n".join(turn.text for turn in call.turns)) == expected
