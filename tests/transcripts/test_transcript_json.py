"""JSON: our own form, the common ones, and clear words for the others."""

import json

import pytest

from analysis_kit.errors import TranscriptError
from analysis_kit.transcripts.parse import example_transcript, parse_transcript, read_transcript

TURN = {"speaker": "Jane Doe", "text": "We grew."}


@pytest.mark.parametrize(
    "data",
    [
        {"turns": [TURN]},
        {"transcript": [TURN]},
        [TURN],
        {"transcript": [{"name": "Jane Doe", "content": "We grew."}]},
        {"transcript": [{"name": "Jane Doe", "speech": ["We grew."]}]},
        {"transcript": {"turns": [TURN]}},
        {"segments": [{"speaker": {"name": "Jane Doe", "title": "CEO"}, "text": "We grew."}]},
        {"transcript": "Jane Doe: We grew."},
        [{"symbol": "FNH", "content": "Jane Doe: We grew."}],
        ["Jane Doe: We grew."],
        {"turns": [TURN, {"speaker": "Mark Roe", "text": None}, {"speaker": "Mark Roe", "text": " "}]},
    ],
)
def test_common_json_forms_are_read(data):
    """Each known form gives the one turn that it holds; empty turns hold nothing."""
    call = parse_transcript(json.dumps(data))

    assert [(turn.speaker, turn.text) for turn in call.turns] == [("Jane Doe", "We grew.")]


def test_json_facts_are_taken_from_the_usual_keys():
    """Company, ticker, quarter (also as numbers) and date come from the object around the turns."""
    call = parse_transcript(
        json.dumps(
            {
                "company_name": "Fernhill",
                "symbol": "FNH",
                "quarter": 3,
                "year": 2025,
                "date": "2025-10-28 08:30:00",
                "turns": [TURN],
            }
        )
    )

    assert (call.company, call.ticker, call.quarter, str(call.date)) == (
        "Fernhill",
        "FNH",
        "Q3 2025",
        "2025-10-28",
    )


def test_json_sections_and_roles_are_kept_and_general_ones_are_parted():
    """A section of the file's own keeps its name; "Q&A" over all questions becomes one section an exchange."""
    turns = [
        {"speaker": "Jane Doe", "role": "CEO", "section": "Prepared Remarks", "text": "We grew."},
        {"speaker": "Priya Nair", "title": "Analyst", "section": "Q&A", "text": "Why?"},
        {"speaker": "Jane Doe", "section": "Q&A", "text": "So."},
        {"speaker": "Jane Doe", "section": "Farewell", "text": "Bye."},
    ]
    call = parse_transcript(json.dumps(turns))

    assert [turn.section for turn in call.turns] == [
        "Prepared remarks",
        "Q&A 1: Priya Nair",
        "Q&A 1: Priya Nair",
        "Farewell",
    ]
    assert (call.people["Jane Doe"].title, call.people["Jane Doe"].role) == ("CEO", "executive")


def test_json_sections_may_have_names_of_a_program():
    """ "management_discussion" and "question_answer" are the usual parts, and whom a list calls an analyst is one."""
    data = {
        "time": "2025-04-24 17:00:00",
        "participant": [{"name": "Priya Nair", "role": "analyst"}, {"name": "Jane Doe", "role": "executive"}],
        "transcript": [
            {"name": "Jane Doe", "session": "management_discussion", "speech": ["We grew."]},
            {"name": "Priya Nair", "session": "question_answer", "speech": ["Why?"]},
        ],
    }
    call = parse_transcript(json.dumps(data))

    assert list(call.sections) == ["Prepared remarks", "Q&A 1: Priya Nair"]
    assert str(call.date) == "2025-04-24"


def test_json_passages_may_lack_a_speaker():
    """Where speakers were told apart, a passage without one is Unknown's; without any speaker it is no transcript."""
    passages = [{"speaker": "Jane Doe", "text": "We grew."}, {"start": 3.0, "text": "Hm."}]

    assert list(parse_transcript(json.dumps({"segments": passages})).speakers) == ["Jane Doe", "Unknown"]
    with pytest.raises(TranscriptError, match='item 1 of "segments" to be a turn'):
        parse_transcript(json.dumps({"segments": passages[1:]}))


@pytest.mark.parametrize("layout", ["example", "unknowns"])
def test_to_dict_comes_back_equal(layout):
    """What `to_dict` writes is read back as an equal transcript, unknown speakers and roles included."""
    call = (
        example_transcript()
        if layout == "example"
        else parse_transcript(
            "Stray words came first.\n\nOperator: Hi.\n\nQ&A\n\nLuca Maes: I see.\nJane Doe: So."
        )
    )

    assert parse_transcript(json.dumps(call.to_dict())) == call


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"a": 1}', ["turns, transcript", "speaker", "text", "'a'"]),
        ("[1]", ["item 1", "int"]),
        ('[{"who": "x", "what": "y"}, {}]', ["item 1", "'who', 'what'"]),
        ('{"turns": [{"speaker": "A", "text": "b"}, {"speaker": "A", "text": 3}]}', ["turn 2", "int"]),
        ('{"turns": [{"speaker": ["A"], "text": "b"}]}', ["turn 1", "list"]),
        ('{"turns": []}', ["no speech", "0 turns"]),
        ('{"turns": [{"speaker": "A", "text": ""}]}', ["no speech", "1 turns"]),
        ('"text"', ["an object or a list", "str"]),
        ('{"transcript": "no label here"}', ["without a label"]),
        ("{}", ["empty object"]),
        ("[" * 100_000, ["cannot be read"]),
        ('{"turns": [{"speaker": "A", "text": ' + "9" * 5000 + "}]}", ["cannot be read"]),
    ],
)
def test_unknown_json_says_what_was_expected_and_found(text, words):
    """JSON of no known form is one error that names the expected keys and those that are there."""
    with pytest.raises(TranscriptError) as error:
        parse_transcript(text, format="json", source="call.json")

    assert str(error.value).startswith("call.json")
    assert all(word in str(error.value) for word in words)


def test_bad_json_names_file_and_line(tmp_path):
    """A file that is no JSON is an error with its line, in the message and as a number."""
    path = tmp_path / "call.json"
    path.write_text('{\n  "turns": [\n    {"speaker": "A" "text": "b"}\n  ]\n}')

    with pytest.raises(TranscriptError, match=r"call\.json, line 3, column 21") as error:
        read_transcript(path)
    assert (error.value.line, error.value.path) == (3, str(path))


def test_json_text_is_cleaned_as_any_other():
    """Lone surrogates, NULs, CRLF and NBSP in JSON strings follow the one policy."""
    text = '[{"speaker": "Jane\\u00a0Doe", "text": "\\ud83d grew\\u0000 \\ud83d\\ude00\\r\\n\\r\\nMore."}]'
    turn = parse_transcript(text).turns[0]

    assert (turn.speaker, turn.text) == ("Jane Doe", "\ufffd grew\ufffd \U0001f600\n\nMore.")
