"""What a run accepts as data, what it makes of it, and how it refuses what it cannot use."""

from __future__ import annotations

import asyncio
import functools
import math
from dataclasses import replace

import pandas as pd
import pytest

import analysis_kit as ak
from analysis_kit import OllamaConnectionPool
from analysis_kit.errors import ConfigurationError, TranscriptError
from analysis_kit.run.plan import named_analyzers
from analysis_kit.run.units import transcripts_of, units_of
from analysis_kit.transcripts.model import Speaker, Transcript, Turn

CALL = Transcript(
    "Fernhill Motors plc",
    "FNH",
    "Q1 2026",
    None,
    [
        Turn(0, "Prepared remarks", "Ada Byrne", "executive", "Fernhill sold more. Ada Byrne is glad."),
        Turn(1, "Q&A 1: Bo Li", "Bo Li", "analyst", "Ada, will Fernhill Motors plc (FNH) grow in Lithuania?"),
        Turn(2, "Q&A 1: Bo Li", "Ada Byrne", "executive", "It will, Bo."),
    ],
    participants=[Speaker("Ada Byrne", role="executive"), Speaker("Bo Li", role="analyst")],
)


@pytest.fixture
def files(tmp_path):
    """Lay two small transcripts and one other file into a folder."""
    for name in ("b", "a"):
        (tmp_path / f"{name}.txt").write_text(
            f"Ann Lee: Sales of {name} rose.\n\nBo Orr: Thank you for {name}.\n"
        )
    (tmp_path / "notes.md").write_text("not a transcript")
    return tmp_path


def test_a_transcript_is_cut_in_every_way_asked_for_in_order():
    """Sections, speakers and turns follow each other as named, each numbered from 0 within its way."""
    units = units_of(CALL, by=["section", "speaker", "turn"])
    assert [(unit.by, unit.name, unit.position) for unit in units] == [
        ("section", "Prepared remarks", 0),
        ("section", "Q&A 1: Bo Li", 1),
        ("speaker", "Ada Byrne", 0),
        ("speaker", "Bo Li", 1),
        ("turn", "1: Ada Byrne", 0),
        ("turn", "2: Bo Li", 1),
        ("turn", "3: Ada Byrne", 2),
    ]
    assert {unit.document for unit in units} == {CALL.id}


@pytest.mark.parametrize("by", ["word", [], ["section", "chapter"]])
def test_an_unknown_way_of_cutting_is_refused_with_the_known_ones(by):
    """The sentence lists what can be asked for."""
    with pytest.raises(ConfigurationError, match="'section', 'speaker', 'turn'"):
        units_of(CALL, by=by)


def test_a_file_a_folder_a_glob_and_a_list_of_them_are_read(files):
    """A folder and a glob give their transcripts in the order of their names and leave other files out."""
    a, b = files / "a.txt", files / "b.txt"
    alone = [unit.document for unit in units_of(a)]
    assert set(alone) == {"a"}
    for data in (files, str(files), str(files / "*.txt"), [a, str(b)], [files], (path for path in (a, b))):
        assert list(dict.fromkeys(unit.document for unit in units_of(data))) == ["a", "b"]


def test_two_documents_of_one_name_stay_apart(files, caplog):
    """Two calls whose files are called the same are two documents in every table, none is lost, and it is said."""
    other = files / "later"
    other.mkdir()
    (other / "a.txt").write_text("Ann Lee: Sales fell in the later call.\n\nBo Orr: Thank you.\n")
    run = ak.run_async(ak.analyze([files / "a.txt", other / "a.txt", CALL, CALL], ["tone"], dashboard=False))
    assert run.to_frame()["document"].unique().tolist() == ["a", "a (2)", CALL.id, f"{CALL.id} (2)"]
    assert len(run.wide()) == len(run.units)
    assert "2 documents have the id 'a': the tables number them, as in 'a (2)'" in caplog.text


def test_two_texts_of_one_id_are_rows_of_their_own(caplog):
    """Rows of a DataFrame, or keys of a mapping, that have one name are told apart by position, and it is said once."""
    data = pd.DataFrame({"call": ["x", "x", "y"], "body": ["We grew.", "We fell.", "We stood."]})
    units = units_of(data, text="body", id="call")
    assert [(unit.name, unit.position) for unit in units] == [("x", 0), ("x", 1), ("y", 2)]
    assert "id 'x' stands for several texts: each" in caplog.text
    run = ak.run_async(ak.analyze({1: "We grew.", "1": "We fell."}, ["tone"], dashboard=False))
    assert len(run.to_frame()) == len(run.wide()) == 2


def test_a_mapping_is_one_unit_a_name():
    """Name -> text needs no transcript."""
    units = units_of({"opening": "We grew.", 7: "We fell."})
    assert [(unit.document, unit.by, unit.name, unit.text) for unit in units] == [
        ("opening", "text", "opening", "We grew."),
        ("7", "text", "7", "We fell."),
    ]


def test_a_series_is_one_unit_an_entry():
    """A column of texts is name -> text too, and its texts are not taken for paths."""
    units = units_of(pd.Series({"opening": "We grew.", 7: "We fell."}))
    assert [(unit.name, unit.text) for unit in units] == [("opening", "We grew."), ("7", "We fell.")]


@pytest.mark.parametrize("missing", [None, math.nan, pd.NA, pd.NaT], ids=repr)
def test_a_missing_text_is_a_row_that_fails_alone(missing):
    """Whatever pandas and Python write for "no text", it costs its own row, in a mapping as in a DataFrame."""
    for data, how in [
        ({"a": "We grew.", "b": missing}, {}),
        (pd.DataFrame({"body": pd.Series(["We grew.", missing], dtype=object)}), {"text": "body"}),
    ]:
        run = ak.run_async(ak.analyze(data, ["tone"], dashboard=False, **how))
        assert run.to_frame()["status"].tolist() == ["done", "failed"]
        assert "empty" in run.failures["error"].item()


def test_a_dataframe_gives_a_unit_a_row_with_the_kept_columns():
    """The names come from id=, the kept columns ride along, and a missing text stays a unit."""
    data = pd.DataFrame(
        {
            "call": ["x", "x", "y"],
            "body": ["We grew.", None, math.nan],
            "n": [1, 2, 3],
            "when": pd.Timestamp("2025-02-01"),
        }
    )
    units = units_of(data, text="body", id="call", keep=["n", "when"])
    assert [(unit.document, unit.by, unit.position, unit.text) for unit in units] == [
        ("x", "row", 0, "We grew."),
        ("x", "row", 1, ""),
        ("y", "row", 2, ""),
    ]
    assert [unit.keep["n"] for unit in units] == [1, 2, 3]
    assert [unit.name for unit in units_of(data, text="body", keep="n")] == ["0", "1", "2"]


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({}, "needs text=, the column that holds the text; it has call, body"),
        ({"text": "words"}, r"no column 'words' \(text=\); it has call, body"),
        ({"text": 0}, r"no column 0 \(text=\); it has call, body"),
        ({"text": "twice"}, r"has several columns 'twice' \(text=\)"),
        ({"text": "body", "id": "ticker"}, r"no column 'ticker' \(id=\); it has call, body"),
        ({"text": "body", "keep": ["call", "date"]}, r"no column 'date' \(keep=\); it has call, body"),
        ({"text": ["body"]}, r"no column \['body'\] \(text=\); it has call, body"),
        ({"text": "body", "id": ["call"]}, r"no column \['call'\] \(id=\)"),
        ({"text": "body", "keep": [["call"]]}, r"no column \['call'\] \(keep=\)"),
        ({"text": "body", "keep": 0}, r"no column 0 \(keep=\)"),
        (
            {"text": "body", "keep": ["call", "label"]},
            r"keep= has 'label'.*rename\(columns=\{'label': 'my_label'",
        ),
    ],
)
def test_a_dataframe_without_the_named_column_is_refused_with_those_it_has(how, said):
    """The sentence names the column, the argument, and the columns there are; nothing is analysed."""
    data = pd.DataFrame({"call": ["x"], "body": ["We grew."]})
    if how.get("text") == "twice":
        data = pd.DataFrame([["We grew.", "We fell."]], columns=["twice", "twice"])
    if how.get("keep") == ["call", "label"]:
        data["label"] = "positive"
    with pytest.raises(ConfigurationError, match=said):
        ak.analyze(data, **how)


def test_columns_may_have_names_of_any_kind():
    """Numbers and tuples name columns as texts do, and are named as text in the tables."""
    plain = pd.DataFrame([["We grew.", "x", 3]])
    nested = plain.set_axis(pd.MultiIndex.from_tuples([("a", "body"), ("a", "id"), ("b", "n")]), axis=1)
    (unit,) = units_of(plain, text=0, id=1, keep=[2])
    assert (unit.name, unit.text, unit.keep) == ("x", "We grew.", {"2": 3})
    (unit,) = units_of(nested, text=("a", "body"), id=("a", "id"), keep=[("b", "n")])
    assert (unit.name, unit.text, unit.keep) == ("x", "We grew.", {"('b', 'n')": 3})


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (pd.DataFrame([["We grew.", "We fell."]], columns=["body", "body"]), "several columns 'body'"),
        (pd.DataFrame({"body": ["We grew.", b"We fell."]}), "the text of 1 is of type bytes; give text="),
        (pd.DataFrame({"body": [1, 2]}), "is of type int; give text=, a column of texts"),
    ],
)
def test_a_column_that_is_no_text_is_refused(data, said):
    """Numbers, bytes and columns that share a name are not taken for texts: the sentence says which column."""
    with pytest.raises(ConfigurationError, match=said):
        units_of(data, text="body")


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({}, "the mapping is empty"),
        ([], "hold no text"),
        (pd.DataFrame({"body": []}), "the DataFrame has no rows"),
        (42, "cannot analyse int"),
        (b"bytes", "cannot analyse bytes"),
        ({"a": "We grew.", "b": 7}, "the text of 'b' is of type int; give name -> text"),
        ({"a": ["We grew."]}, "the text of 'a' is of type list"),
        (pd.Series([], dtype=object), "the Series is empty"),
        ("Operator: Welcome.\nAda: We grew.", "this is text, not a path"),
        ("What about margins? They fell by two points in Q1/Q2 of this year.", "this is text, not a path"),
        ("Revenue grew in all of our regions. " * 200, "this is text, not a path"),
        (["We sold more than a year ago.", "And we lost nothing at all."], "this is text, not a path"),
        ("Revenue grew 12% and margins expanded in the quarter.", "this is text, not a path"),
        ("We grew again. " * 999, "this is text, not a path"),
        ("Revenue and/or margins grew in the quarter, " * 99, "this is text, not a path"),
        ("", "the path is blank"),
    ],
)
def test_data_that_cannot_be_analysed_is_one_sentence(data, said):
    """Nothing to analyse, and kinds that are none, are refused before anything is asked."""
    how = {"text": "body"} if isinstance(data, pd.DataFrame) else {}
    with pytest.raises(ConfigurationError, match=said):
        units_of(data, **how)


def test_columns_are_for_dataframes():
    """text=, id= and keep= with other data are a mistake that is said."""
    with pytest.raises(ConfigurationError, match="columns of a DataFrame; the data is Transcript"):
        units_of(CALL, text="body")


def test_a_place_without_transcripts_is_said(tmp_path):
    """An empty folder, a glob without matches and a missing file each name the place."""
    with pytest.raises(ConfigurationError, match="holds no transcript"):
        transcripts_of(tmp_path)
    with pytest.raises(ConfigurationError, match="no file matches"):
        transcripts_of(str(tmp_path / "*.txt"))
    with pytest.raises((TranscriptError, OSError), match=r"none\.txt"):
        transcripts_of(tmp_path / "none.txt")


def test_a_place_of_many_words_is_a_place(tmp_path, monkeypatch):
    """Folders, globs and files whose names have many words are read, and missed by name: none is taken for a text."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "My Earnings Calls For 2024"
    folder.mkdir()
    (folder / "call.txt").write_text("Ada Byrne: We grew.")
    (tmp_path / "Acme Q1 2025 Call of Acme Inc.").write_text("Ada Byrne: We grew.")
    for place in (folder, f"{folder}/*", f"{tmp_path}/My Earnings Calls For */c*", f"~/{folder.name}"):
        assert len(transcripts_of(str(place))) == 1
    assert len(transcripts_of("Acme Q1 2025 Call of Acme Inc.")) == 1
    with pytest.raises(ConfigurationError, match="no file matches"):
        transcripts_of("All My Earnings Calls For 202?")
    for place in (
        "/none/My Earnings Calls For 2023",
        "My Earnings Calls For 2023",
        "Acme Q1 2025 Earnings Call.pdf",
        "calls/all that we had in Acme Inc.",
    ):
        with pytest.raises(TranscriptError, match="does not exist"):
            transcripts_of(place)


def test_all_files_that_are_no_transcripts_are_named_at_once(tmp_path):
    """A folder with several files that cannot be read is refused once, with each file and its fault."""
    (tmp_path / "good.txt").write_text("Ada Byrne: We grew.")
    (tmp_path / "empty.txt").write_bytes(b"")
    (tmp_path / "page.txt").write_text("<html>")
    with pytest.raises(
        TranscriptError,
        match=r"2 files are no transcripts:\n- .*empty\.txt is empty.*\n- .*page\.txt is a web",
    ):
        transcripts_of(tmp_path)
    for number in range(10):
        (tmp_path / f"x{number}.txt").write_bytes(b"")
    with pytest.raises(TranscriptError, match=r"12 files .*(\n- .*){10}\n- and 2 more$"):
        transcripts_of(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "only.txt").write_bytes(b"")
    with pytest.raises(TranscriptError, match=r"^.*only\.txt is empty"):
        transcripts_of(tmp_path / "folder")


def test_masking_replaces_people_and_company_and_nothing_else():
    """A model that is to judge what is said sees placeholders; words that merely contain a name stay."""
    texts = [unit.text for unit in units_of(CALL, by="turn", mask_entities=True)]
    assert texts == [
        "[COMPANY] sold more. [PERSON 1] is glad.",
        "[PERSON 1], will [COMPANY] ([COMPANY]) grow in Lithuania?",
        "It will, Bo.",
    ]
    plain = [unit.text for unit in units_of(CALL, by="turn")]
    assert plain == [turn.text for turn in CALL.turns]


def test_masking_leaves_common_words_alone():
    """The operator's title, an unknown speaker and a company's article are words of the language, not names."""
    call = Transcript(
        "The Larch Company, Inc.",
        None,
        None,
        None,
        [
            Turn(0, "Remarks", "Operator", "operator", "The Operator opens The Larch Company call."),
            Turn(1, "Remarks", "Unknown", "unknown", "The Larch grew for Unknown reasons."),
        ],
    )
    texts = [unit.text for unit in units_of(call, by="turn", mask_entities=True)]
    assert texts == ["The Operator opens [COMPANY] call.", "The [COMPANY] grew for Unknown reasons."]


def test_masking_survives_names_that_are_patterns():
    """Names with characters that a regular expression reads are replaced as they stand."""
    odd = replace(
        CALL,
        company="C++ (Holdings",
        participants=(),
        turns=(Turn(0, "Remarks", "A. [x]", "executive", "A. [x] says C++ (Holdings grew."),),
    )
    assert "grew" in units_of(odd, mask_entities=True)[0].text


def test_masking_needs_transcripts():
    """A mapping does not say who speaks, so masking it would mask nothing silently."""
    with pytest.raises(ConfigurationError, match="mask_entities=True needs transcripts"):
        units_of({"a": "text"}, mask_entities=True)


@pytest.mark.parametrize(
    "how",
    [
        *({"repeats": value} for value in (0, 1.5, True, "2")),
        *({"limit": value} for value in (0, 2.5, True, "1")),
        *({"max_workers": value} for value in (0, -1, 2.5, True, "x")),
        *({"on_error": value} for value in ("ignore", [])),
        *({"deadline_s": value} for value in (0, -1.0, math.nan, True, "5")),
        *({"timeout_s": value} for value in (0, "5")),
        *({"options": value} for value in ([1], "x", {"temprature": 1}, {"max_tokens": 9}, {"num_ctxt": 99})),
        *({"engine": value} for value in (3, "x")),
        *({"pool": value} for value in (3, "x")),
        *({"model": value} for value in (3, [], ["a", 3])),
        *({"cache": value} for value in (3, {})),
        *({"by": value} for value in (None, 3)),
    ],
    ids=str,
)
def test_options_that_cannot_work_are_refused_at_once(how):
    """The option is named with what it may be, before anything runs."""
    with pytest.raises(ConfigurationError, match=next(iter(how))):
        ak.analyze({"a": "We grew."}, ["tone"], **how)


def test_hosts_and_a_pool_are_not_both_given():
    """Texts go to no other server than the one that was named."""
    with (
        OllamaConnectionPool(hosts="127.0.0.1:9") as pool,
        pytest.raises(ConfigurationError, match="give one of them"),
    ):
        ak.analyze({"a": "We grew."}, ["tone"], hosts="127.0.0.1:10", pool=pool)


def test_a_pool_of_ones_own_need_not_tell_its_hosts():
    """It is taken without hosts=, and with them the sentence is the same."""

    class Own:
        def get_connection(self):
            raise NotImplementedError

    assert ak.run_async(ak.analyze({"a": "We grew."}, ["tone"], pool=Own())).counts() == {"done": 1}
    with pytest.raises(ConfigurationError, match="the pool's own differ; give one of them"):
        ak.analyze({"a": "We grew."}, ["tone"], hosts="127.0.0.1:10", pool=Own())


def test_options_of_later_servers_pass():
    """Only a name that is nearly a known one is taken for a slip."""
    ak.analyze({"a": "We grew."}, ["tone"], options={"num_ctx": 4096, "min_p": 0.1, "speculation": "deep"})


def test_an_unknown_analyzer_offers_the_nearest_and_all_known():
    """A slip of the pen is answered with the name that was meant."""
    with pytest.raises(
        ConfigurationError, match=r"'sentimnet'; did you mean 'sentiment'\?.*tone, complexity"
    ):
        named_analyzers("sentimnet")
    with pytest.raises(ConfigurationError, match=r"'zzz'; known are tone"):
        named_analyzers(["zzz"])


def test_analyzers_come_as_names_classes_instances_functions_and_mappings():
    """Each way of naming an analyzer works, and a mapping renames."""

    def loud(text):
        return {"score": 1.0 if "!" in text else 0.0}

    class Own:
        def analyze(self, text):
            return len(text)

    found = named_analyzers(["tone", ak.ComplexityAnalyzer, ak.NumericalAnalyzer(), loud, Own()])
    assert [each.name for each in found] == ["tone", "complexity", "numerical", "loud", "Own"]
    renamed = named_analyzers({"mine": "tone", "other": loud})
    assert [each.name for each in renamed] == ["mine", "other"]
    assert named_analyzers(loud)[0].examine("Yes!").finding.score == 1.0


def test_two_analyzers_of_one_name_and_none_and_a_non_analyzer_are_refused():
    """Rows of two analyzers could not be told apart; an empty list and a number are no analyzers."""
    with pytest.raises(ConfigurationError, match="two analyzers are called 'tone'"):
        named_analyzers(["tone", "tone"])
    with pytest.raises(ConfigurationError, match="is empty"):
        named_analyzers([])
    for what in (42, [42]):
        with pytest.raises(ConfigurationError, match="42 is no analyzer"):
            named_analyzers(what)


def test_a_coroutine_in_place_of_an_analyzer_is_refused_and_closed():
    """Calling the function too early is named; no "never awaited" warning is left (warnings are errors here)."""

    async def loud(text):
        return {"score": 1.0}

    for what in (loud("x"), [loud("x")], {"mine": loud("x")}):
        with pytest.raises(ConfigurationError, match=r"coroutine.*loud\(\): pass the function itself"):
            named_analyzers(what)


def test_functions_that_are_async_in_some_way_give_rows():
    """An async function, a partial of it, an async __call__, a plain function that returns an awaitable: all are awaited."""

    async def loud(text):
        await asyncio.sleep(0)
        if "!" in text:
            raise SystemExit(3)
        return {"score": 1.0}

    class Callable:
        async def __call__(self, text):
            return await loud(text)

    analyzers = {"plain": loud, "object": Callable(), "late": lambda text: loud(text)}
    run = ak.run_async(ak.analyze({"a": "Yes.", "b": "No!"}, analyzers, dashboard=False))
    assert run.to_frame()["status"].tolist() == ["done"] * 3 + ["failed"] * 3
    assert set(run.failures["error_type"]) == {"SystemExit"}
    assert {
        name: stat.count for name, stat in ak.get_monitor().get_stats().items() if name in analyzers
    } == dict.fromkeys(analyzers, 2)
    assert named_analyzers(functools.partial(loud))[0].name == "loud"


def test_an_async_ask_is_refused_by_name():
    """What `ask` answers is cached and tried again on a worker of its own, so it is a plain function; that is said."""

    class Own(ak.BaseAnalyzer):
        async def ask(self, text):
            return {"score": 1.0}

    with pytest.raises(ConfigurationError, match=r"Own\.ask is async: write it as a plain function"):
        named_analyzers(Own)

    class Whole(Own):
        async def analyze(self, text):
            return await self.ask(text)

    assert named_analyzers(Whole)[0].name == Whole().name
