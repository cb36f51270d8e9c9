"""The sample calls in the data folder: three formats, one long, one without questions."""

from pathlib import Path

import pytest

from analysis_kit.transcripts.parse import read_transcript

DATA = Path(__file__).parents[2] / "data"


def test_the_long_call_is_long_enough_to_matter():
    """The plain-text call has at least 12 sections, 8 speakers and 3,000 words, and all its labels are read."""
    call = read_transcript(DATA / "tarnbrook_q3_2025.txt")

    assert len(call.sections) == 14
    assert len(call.speakers) == 13
    assert 3000 <= sum(turn.words for turn in call.turns) <= 3400
    assert call.id == "TRNB Q3 2025"
    assert [person.role for person in call.people.values()].count("analyst") == 8
    assert [name for name in call.sections if not name.startswith("Q&A")] == [
        *("Prepared remarks", "Business Review", "Operations", "Financial Review", "Outlook"),
        "Closing Remarks",
    ]
    assert "Unknown" not in call.speakers
    assert " -- " not in call.sections["Operations"]


def test_the_json_call_keeps_its_sections():
    """The JSON call is in our own form: facts, titles and sections come as they are written."""
    call = read_transcript(DATA / "quillmark_q2_2025.json")

    assert list(call.sections) == ["Prepared remarks", "Q&A 1: Beatrice Holm", "Q&A 2: Julian Asante"]
    assert (call.id, str(call.date)) == ("QLM Q2 2025", "2025-07-31")
    assert call.people["Beatrice Holm"].affiliation == "Nordhaven Markets"


def test_the_caption_file_has_no_questions():
    """The WebVTT call has one section of prepared remarks, and its cues are joined to whole speeches."""
    call = read_transcript(DATA / "perihel_q1_2025.vtt")

    assert list(call.sections) == ["Prepared remarks"]
    assert [turn.speaker for turn in call.turns] == [
        "Operator",
        "Astrid Kjellberg",
        "Mateo Ruiz",
        "Astrid Kjellberg",
    ]
    assert (call.company, call.id) == ("Perihel Logistics AG", "PHL Q1 2025")


@pytest.mark.parametrize("path", sorted(DATA.glob("*_q?_20??.*")), ids=lambda path: path.suffix)
def test_every_sample_displays_and_tabulates(path):
    """Each sample has a repr, an HTML display and a frame with a row a turn."""
    call = read_transcript(path)

    assert call.id in repr(call)
    assert call.id in call._repr_html_()
    assert len(call.to_frame()) == len(call.turns)
