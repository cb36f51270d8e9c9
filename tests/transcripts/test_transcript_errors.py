"""Files that are no transcripts, encodings, and characters that are no text."""

import pickle

import pytest

from analysis_kit.errors import ConfigurationError, TranscriptError
from analysis_kit.transcripts.parse import parse_transcript, read_transcript

CALL = "Jérôme Doe -- CEO\n\nWe grew 5 % — «très» bien.\n"


def fails(path):
    """Return the error of reading ``path``."""
    with pytest.raises(TranscriptError) as error:
        read_transcript(path)
    assert str(path) in str(error.value)
    assert error.value.path == str(path)
    assert "\n" not in str(error.value)
    assert pickle.loads(pickle.dumps(error.value)).line == error.value.line
    return error.value


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", ["is empty", "0 bytes", "expected"]),
        (b" \r\n\t\n ", ["is blank", "expected"]),
        (b"\xef\xbb\xbf", ["is blank"]),
        (b"Jane Doe: Hi\nthere\x00\x01", ["binary", "line 2"]),
        (bytes(range(1, 256)), ["binary file or in an unknown encoding", "0x80"]),
        (b"Jane: \x81\x8d\x8f", ["line 1", "0x81"]),
        (b"%PDF-1.7\n%\xe2\xe3", ["a PDF", "pdftotext"]),
        (b"PK\x03\x04\x14\x00", ["zip archive", ".docx", "plain text"]),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", [".doc", "plain text"]),
        (b"{\\rtf1 Jane Doe: Hi}", ["RTF", "plain text"]),
        (b"\x1f\x8b\x08", ["gzip", "unpack"]),
        (b"\x89PNG\r\n\x1a\n", ["image"]),
        (b"\n<!DOCTYPE html><html>Jane Doe: Hi", ["HTML", "copy its text"]),
        (
            b"# Notes\n\nJust some words of prose here.\nNote: no call.\n",
            ["no transcript", "no speaker label", "lines 1 to", "words", "Operator"],
        ),
        (b"Participants\nJane Doe -- CEO\nMark Roe -- CFO\n", ["no transcript"]),
        (b"Jane Doe -- CEO\n\n\nMark Roe -- CFO\n", ["holds no speech"]),
    ],
)
def test_what_is_no_transcript_says_so_in_one_sentence(tmp_path, data, words):
    """Each file that cannot be read as a transcript is one error of one line: file, what it is, what was expected."""
    path = tmp_path / "call.txt"
    path.write_bytes(data)

    message = str(fails(path))
    assert all(word in message for word in words), message


def test_missing_files_and_folders_are_transcript_errors(tmp_path):
    """A path that is no file is a `TranscriptError` that says so, with the system's error as its cause."""
    missing = fails(tmp_path / "no.txt")
    assert "does not exist" in str(missing)
    assert isinstance(missing.__cause__, FileNotFoundError)
    assert "is a folder" in str(fails(tmp_path))
    with pytest.raises(TranscriptError, match="^'' does not exist"):
        read_transcript("")
    with pytest.raises(TranscriptError, match="cannot be read"):
        read_transcript("a\x00b")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32", "cp1252"])
def test_encodings_give_the_same_turns(tmp_path, encoding):
    """UTF-8, marked UTF-16 and UTF-32, and Windows-1252 are told apart by their bytes."""
    path = tmp_path / "call.txt"
    path.write_bytes(CALL.encode(encoding))

    assert read_transcript(path).turns == parse_transcript(CALL).turns
    assert read_transcript(path).source == str(path)


def test_a_damaged_character_does_not_spoil_the_others(tmp_path):
    """UTF-8 with a cut character keeps its other accents, and shows U+FFFD where the damage is."""
    path = tmp_path / "call.txt"
    path.write_bytes(CALL.encode() + b"Fin \xc3")

    assert read_transcript(path).turns[0].text == "We grew 5 % — «très» bien.\nFin \ufffd"


def test_lone_surrogates_controls_and_marks_follow_one_policy(tmp_path):
    """Halves of pairs and controls become U+FFFD, direction marks stay in speech; from a file as from a string."""
    text = "Jane Doe: a\ud800b \ud83d\ude00 c\x00d \u200fe\u200f \u00adf\ufeffg\u200bh\u2028i"
    path = tmp_path / "call.txt"
    path.write_bytes(text.replace("\x00", "\x01").encode("utf-8", "surrogatepass"))
    expected = "a\ufffdb \U0001f600 c\ufffdd \u200fe\u200f fgh\ni"

    assert parse_transcript(text).turns[0].text == expected
    assert read_transcript(path).turns[0].text == expected
    assert expected.encode("utf-8")


def test_an_unknown_format_is_a_configuration_error():
    """A format that is none of the three is refused with their names."""
    with pytest.raises(ConfigurationError, match=r"'xml'.*text, json, vtt"):
        parse_transcript("Jane Doe: Hi", format="xml")


@pytest.mark.parametrize("thing", [None, 3, b"Jane Doe: Hi"])
def test_what_is_no_text_is_said(thing):
    """A thing that is no text is refused with what it is."""
    with pytest.raises(TypeError, match=rf"its text \(str\), and was given {type(thing).__name__}"):
        parse_transcript(thing)


def test_the_suffix_and_the_beginning_tell_the_format(tmp_path):
    """A .json or .vtt file is read as such whatever it begins with; other files by their beginning."""
    path = tmp_path / "call.JSON"
    path.write_text("Jane Doe: Hi")
    assert "not valid JSON" in str(fails(path))
    assert read_transcript(path, format="text").speakers["Jane Doe"] == "Hi"
    assert parse_transcript('\ufeff [{"speaker": "A", "text": "b"}]').turns[0].text == "b"
    assert parse_transcript("[Operator]\n\nHi.").turns[0].speaker == "Operator"
