"""The transcript as an object: mappings, people, frame, identity, displays."""

import copy
import datetime as dt
import doctest
import pickle
import subprocess
import sys

import pytest

from analysis_kit.frames import TURN_COLUMNS
from analysis_kit.transcripts import claims, header, headings, labels, model, names, parse, reading
from analysis_kit.transcripts.model import Speaker, Transcript, Turn
from analysis_kit.transcripts.parse import example_transcript, parse_transcript


@pytest.fixture
def call():
    """Return a small call with a hostile speaker."""
    return Transcript(
        "Fern {{ x }} <b>",
        "FNH",
        "Q1 2025",
        dt.date(2025, 4, 24),
        [
            Turn(0, "Prepared remarks", "Operator", "operator", "Hi."),
            Turn(1, "Q&A 1: <script>", "<script>", "analyst", "Why\u2028now?"),
            Turn(2, "Q&A 1: <script>", "Operator", "operator", "Bye {% raw %}."),
        ],
        participants=[
            Speaker("<script>", "Analyst", "Calder", "analyst"),
            Speaker("Silent Roe", "CEO", None, "executive"),
        ],
    )


def test_mappings_join_turns_in_order_and_are_read_only(call):
    """Sections and speakers join their turns by a blank line, in the order of the call, and refuse to be changed."""
    assert dict(call.sections) == {
        "Prepared remarks": "Hi.",
        "Q&A 1: <script>": "Why\u2028now?\n\nBye {% raw %}.",
    }
    assert dict(call.speakers) == {"Operator": "Hi.\n\nBye {% raw %}.", "<script>": "Why\u2028now?"}
    for mapping in (call.sections, call.speakers, call.people):
        with pytest.raises(TypeError):
            mapping["x"] = "y"


def test_people_are_the_listed_and_the_heard(call):
    """People are the participants in their order, silent ones too, then whoever else speaks."""
    assert list(call.people) == ["<script>", "Silent Roe", "Operator"]
    assert call.people["Operator"] == Speaker("Operator", role="operator")


def test_frame_has_one_row_a_turn_with_the_fixed_columns(call):
    """The frame has the columns of the table of turns, one row a turn, and missing titles as missing."""
    frame = call.to_frame()

    assert list(frame.columns) == [column.name for column in TURN_COLUMNS]
    assert frame["document"].tolist() == ["FNH Q1 2025"] * 3
    assert frame["words"].tolist() == [1, 2, 4]
    assert frame["title"].isna().tolist() == [True, False, True]
    assert frame["index"].tolist() == [0, 1, 2]


def test_equality_and_hash_follow_the_call_and_not_the_file(call):
    """The same call from two files is one in a set; another word, person or date makes another call."""
    other = copy.replace(call, source="x.txt", header="h") if sys.version_info >= (3, 13) else None
    again = Transcript(
        call.company,
        call.ticker,
        call.quarter,
        call.date,
        call.turns,
        source="x.txt",
        participants=call.participants,
        header="h",
    )

    assert again == call
    assert len({again, call}) == 1
    assert other in (None, call)
    assert (
        Transcript(call.company, call.ticker, call.quarter, None, call.turns, participants=call.participants)
        != call
    )
    assert (
        Transcript(
            call.company, call.ticker, call.quarter, call.date, call.turns[:2], participants=call.participants
        )
        != call
    )


def test_transcripts_are_frozen_and_survive_pickling(call):
    """No attribute can be set, no other one invented; pickle and deepcopy give an equal call."""
    with pytest.raises(AttributeError):
        call.company = "x"
    with pytest.raises((AttributeError, TypeError)):
        call.turns[0].note = "x"
    assert not hasattr(call, "__dict__")
    assert pickle.loads(pickle.dumps(call)) == call == copy.deepcopy(call)


def test_repr_states_the_counts(call):
    """The repr is one line with the name and the counts of sections, speakers, turns and words."""
    assert repr(call) == "<Transcript FNH Q1 2025: 2 sections, 2 speakers, 3 turns, 7 words>"


def test_html_escapes_all_text_of_the_call(call):
    """Names and facts of the call cannot become markup or template code in the HTML display."""
    html = call._repr_html_()

    assert "<script>" not in html
    assert "{{" not in html
    assert "&lt;script&gt;" in html
    assert "<b> " not in html.replace("<p><b>", "")


@pytest.mark.parametrize(
    ("facts", "source", "name"),
    [
        (("Fernhill", "FNH", "Q1 2025"), "a/call.txt", "FNH Q1 2025"),
        (("Fernhill", "FNH", None), None, "FNH"),
        (("Fernhill", None, "Q1 2025"), "a/call.txt", "call"),
        (("Fernhill", None, "Q1 2025"), None, "Fernhill Q1 2025"),
        ((None, None, None), None, "transcript"),
    ],
)
def test_id_is_the_shortest_stable_name(facts, source, name):
    """The id is ticker and quarter, else the file's stem, else the company."""
    assert Transcript(*facts, None, (), source=source).id == name


def test_the_example_comes_with_the_package():
    """The packaged call has remarks, four exchanges, titles and facts."""
    call = example_transcript()

    assert list(call.sections)[1:] == [
        *("Q&A 1: Elena Sorvino", "Q&A 2: Robert Hale"),
        *("Q&A 3: Mei-Lin Croft", "Q&A 4: Oskar Lund"),
    ]
    assert (call.company, call.ticker, call.quarter, call.date) == (
        *("Fernhill Bakeries, Inc.", "FNH", "Q1 2025"),
        dt.date(2025, 4, 24),
    )
    assert 850 <= sum(turn.words for turn in call.turns) <= 1000
    assert {person.role for person in call.people.values()} == {"operator", "executive", "analyst"}


def test_parsing_loads_no_pandas():
    """Reading a transcript needs none of the heavy packages; only the frame does."""
    code = (
        "import sys; from analysis_kit.transcripts.parse import example_transcript as e; repr(e()); "
        "bad = {'pandas', 'numpy', 'matplotlib', 'IPython', 'requests', 'pydantic'} & set(sys.modules); assert not bad, bad"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("module", [claims, header, headings, labels, model, names, parse, reading])
def test_examples_in_docstrings_run(module):
    """Every example in the documentation of the transcripts is true."""
    result = doctest.testmod(module, optionflags=doctest.ELLIPSIS | doctest.IGNORE_EXCEPTION_DETAIL)
    assert result.failed == 0


def test_words_are_counted_between_white_space():
    """A turn's words are what stands between white space."""
    assert parse_transcript("Jane Doe: one  two\nthree").turns[0].words == 3
