"""WebVTT and SubRip: voices, labels, notes, and what is joined."""

import pytest

from analysis_kit.errors import TranscriptError
from analysis_kit.transcripts.parse import parse_transcript, read_transcript

HEAD = "WEBVTT - Fernhill Foods (FNH) Q1 2025 Earnings Call\nKind: captions\n\nNOTE\nApril 24, 2025\n\nSTYLE\n::cue { color: red }\n\nREGION\nid:a\n\n"


def cues(*payloads):
    """Return a file with one cue a payload, numbered, timed and with settings."""
    return HEAD + "\n\n".join(
        f"{n}\n00:00:{n:02}.000 --> 00:00:{n:02}.900 align:start\n{payload}"
        for n, payload in enumerate(payloads, 1)
    )


@pytest.mark.parametrize(
    "payloads",
    [
        ("<v Operator>Welcome.</v>", "<v Jane Doe>We", "<v Jane Doe>grew\nby 5%.</v>", "<v Mark Roe>Yes."),
        (
            "<v.loud Operator>Welcome.",
            "<v Jane Doe>We <i>grew</i> <00:00:02.500><c.x>by</c>",
            "5%.",
            "<v Mark Roe>Yes.",
        ),
        ("Operator: Welcome.", "Jane Doe: We", "grew\nby 5%.", "Mark Roe: Yes."),
        ("Operator: Welcome.\nJane Doe: We grew", "by 5%.\n>> Mark Roe: Yes."),
        ("<v Operator>Welcome.</v><v Jane Doe>We grew by 5%.</v>", "<v Mark Roe>Yes.</v>"),
        ("Operator: Welcome.", "Jane Doe, CEO: We grew", "Jane Doe: by 5%.", "Mark Roe: Yes."),
    ],
)
@pytest.mark.parametrize("ends", ["\n", "\r\n"])
def test_cues_of_one_speaker_become_one_turn(payloads, ends):
    """Voices and labels name the speakers; cues and lines of one speaker are joined by a space, timings and tags dropped."""
    call = parse_transcript(cues(*payloads).replace("\n", ends))

    assert [(turn.speaker, turn.text) for turn in call.turns] == [
        ("Operator", "Welcome."),
        ("Jane Doe", "We grew by 5%."),
        ("Mark Roe", "Yes."),
    ]
    assert (call.company, call.ticker, call.quarter, str(call.date)) == (
        "Fernhill Foods",
        "FNH",
        "Q1 2025",
        "2025-04-24",
    )


@pytest.mark.parametrize("ends", ["\n", "\r\n"])
def test_subrip_is_read_as_captions_are(ends, tmp_path):
    """Numbers and clocks of SubRip are no speech, whatever the file is called; a clock in a speech is."""
    text = (
        "1\n00:00:01,000 --> 00:00:02,000\nOperator: Welcome.\n\n2\n00:00:02,000 --> 00:00:03,000\n"
        '<font color="white">Jane Doe: We</font>\n\n3\n00:00:03,000 --> 00:00:04,000\n<i>grew\nby 5%.</i>\n'
    ).replace("\n", ends)
    path = tmp_path / "call.srt"
    path.write_bytes(b"\xef\xbb\xbf" + text.encode())
    for call in (parse_transcript(text), read_transcript(path)):
        assert [(turn.speaker, turn.text) for turn in call.turns] == [
            ("Operator", "Welcome."),
            ("Jane Doe", "We grew by 5%."),
        ]
    assert parse_transcript("Operator: We have\n1\n00:10,5 --> x").turns[0].speaker == "Operator"


@pytest.mark.parametrize(
    "first", ["1\n00:00:01.000 --> 00:00:02.000\n", "00:00:01,000 --> 00:00:02,000\n", ""]
)
def test_subrip_may_lack_its_first_number_or_comma(first, tmp_path):
    """A .srt file with a dot in its clock, without numbers, or of plain text is read."""
    path = tmp_path / "call.srt"
    path.write_text(f"{first}Jane Doe: We grew.\n", encoding="utf-8")

    assert [(turn.speaker, turn.text) for turn in read_transcript(path).turns] == [("Jane Doe", "We grew.")]


def test_lines_that_rolling_captions_show_again_are_taken_once():
    """Captions made by a machine show a line as it is spoken, and then again."""
    call = parse_transcript(
        cues(
            " \nwelcome<00:00:01.100><c> to</c><00:00:01.200><c> the call</c>",
            "welcome to the call\n ",
            "welcome to the call\nwe<00:00:03.100><c> grew</c>",
            "we grew",
            "we grew\nwe<00:00:05.100><c> grew</c>",
            "okay",
        )
    )

    assert [turn.text for turn in call.turns] == ["welcome to the call we grew we grew okay"]


@pytest.mark.parametrize(
    ("payloads", "words"),
    [
        (("Jane Doe: We grew.", "We grew.", "We grew."), "We grew. We grew. We grew."),
        (
            ("Jane Doe: Hi <00:00:00.500>all.", "We grew.", "We grew.", "We grew."),
            "Hi all. We grew. We grew. We grew.",
        ),
        (("<00:00:01.000>Jane Doe: Yes.", "Yes.", "Yes."), "Yes. Yes. Yes."),
        (
            ("Jane Doe: so<00:00:00.100><c> yes</c>", "yeah", "<c> </c>\nyeah<00:00:02.500>", "right"),
            "so yes yeah yeah right",
        ),
        (("<v Jane Doe>no<00:00:00.1>", "<v Jane Doe>no<v Jane Doe>no", "<v Jane Doe>x"), "no no no x"),
        (
            ("<v Jane Doe>We<00:00:00.1> grew.", "<v Jane Doe>We grew.", "<v Jane Doe>By 5%."),
            "We grew. We grew. By 5%.",
        ),
    ],
)
def test_what_is_said_again_is_kept(payloads, words):
    """Somebody who says a thing twice said it twice, clocks or none."""
    call = parse_transcript(cues(*payloads))

    assert [(turn.speaker, turn.text) for turn in call.turns] == [("Jane Doe", words)]


@pytest.mark.parametrize(
    ("voice", "name"),
    [
        ("Tom, Morgan Stanley", "Tom"),
        ("Jane, Microsoft", "Jane"),
        ("Goldman, Tom Ek", "Goldman"),
        ("Boardroom, London", "Boardroom"),
    ],
)
def test_a_house_or_a_place_is_no_first_name(voice, name):
    """What stands behind a comma in a voice is not put in front of the name."""
    assert list(parse_transcript(cues(f"<v {voice}>Hi.")).speakers) == [name]


def test_voices_may_hold_titles():
    """A title in the voice tag goes to the person and not into the name."""
    call = parse_transcript(
        cues(
            "<v Jane Doe, Chief Executive Officer>Hi.", "<v Tom Ek (Analyst)>Why?", "<v Room 4, upstairs>Hm."
        )
    )

    assert [(p.name, p.title, p.role) for p in call.people.values()] == [
        ("Jane Doe", "Chief Executive Officer", "executive"),
        ("Tom Ek", "Analyst", "analyst"),
        ("Room 4, upstairs", None, "unknown"),
    ]
    assert list(call.sections) == ["Prepared remarks", "Q&A 1: Tom Ek"]


def test_entities_angles_and_torn_cues_keep_their_words():
    """Escaped signs are read, brackets that are no tags stay, and words after a blank line in a cue are kept."""
    call = parse_transcript(
        cues(
            "<v Jane Doe>Q&amp;A: 1 &lt; 2, and 3 < 4 > 2 <script>x</script>\n\ntorn off",
            "NOTE inside is speech",
        )
    )

    assert call.turns[0].text == "Q&A: 1 < 2, and 3 < 4 > 2 <script>x</script> torn off NOTE inside is speech"


def test_words_before_any_speaker_are_kept_as_unknown():
    """A cue that no voice or label claims is a turn of "Unknown"."""
    call = parse_transcript(cues("some words", "<v Jane Doe>Hi."))

    assert [turn.speaker for turn in call.turns] == ["Unknown", "Jane Doe"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("WEBVTT", ["without a cue", "0 cues"]),
        ("WEBVTT\n\nNOTE nothing\n", ["without a cue"]),
        ("WEBVTT\n\n00:01.000 --> 00:02.000\n\n00:03.000 --> 00:04.000\n<v Jane> </v>", ["2 cues", "-->"]),
        ("00:01.000 --> 00:02.000\nHi", ["line 1", "WEBVTT", "00:01.000"]),
    ],
)
def test_captions_without_cues_say_what_was_expected(text, words):
    """A file without the opening word or without a cue that has words is one clear error."""
    with pytest.raises(TranscriptError) as error:
        parse_transcript(text, source="call.vtt")

    assert all(word in str(error.value) for word in ["call.vtt", *words])


def test_captions_that_begin_oddly_are_no_prose():
    """A ``.srt`` with a line of credits before its first cue is refused, and its clocks are in nobody's speech."""
    text = "Captions by us\n\n1\n00:00:01,000 --> 00:00:02,000\nOperator: Welcome.\n\nAda Byrne: We grew.\n"
    with pytest.raises(TranscriptError, match="neither WebVTT nor SubRip"):
        parse_transcript(text, source="call.srt")
