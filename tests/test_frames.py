"""Frames: fixed columns and dtypes, the same on pandas 2.2 and 3.x."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime, timedelta, timezone

import numpy as np
import pandas as pd
import pytest

from analysis_kit import frames
from analysis_kit.errors import ConfigurationError
from analysis_kit.frames import FAILURE_COLUMNS, METRIC_COLUMNS, ROW_COLUMNS, SPEEDUP_COLUMNS, Column, frame

TABLES = {name: value for name, value in vars(frames).items() if name.endswith("_COLUMNS")}
SHOWN = {"json": "string"}


def failure(**values):
    """Return one record of the failures table."""
    base = {"document": "ACME Q1", "by": "section", "unit": "Q&A 1", "analyzer": "tone", "repeat": 0}
    return {**base, "status": "failed", "attempts": 1, "duration_s": 0.5, **values}


@pytest.mark.parametrize("name", TABLES)
def test_no_records_keep_columns_and_dtypes(name):
    """A table of no records has every column in order with its dtype, so that code written for rows runs on none."""
    table = frame([], TABLES[name])
    assert list(table.columns) == [column.name for column in TABLES[name]]
    assert [str(d) for d in table.dtypes] == [SHOWN.get(c.dtype, c.dtype) for c in TABLES[name]]
    assert len(table) == 0


@pytest.mark.parametrize("name", TABLES)
def test_one_record_has_the_dtypes_of_none(name):
    """Filling a table does not change its dtypes, also where everything that can be missing is."""
    sure = {"int64": 3}
    record = {column.name: sure[column.dtype] for column in TABLES[name] if column.dtype in sure}
    assert frame([record], TABLES[name]).dtypes.equals(frame([], TABLES[name]).dtypes)


def test_B1_missing_text_is_NA_and_groups_and_updates_alike():
    """None in a text column is pd.NA on every pandas: counted as missing, kept as its own group, filled by an update."""
    table = frame(
        [failure(error_type="TimeoutError"), failure(error_type=None), failure(error_type=float("nan"))],
        FAILURE_COLUMNS,
    )
    assert table["error_type"].isna().tolist() == [False, True, True]
    assert table["error_type"][1] is pd.NA
    assert table["error_type"][2] is pd.NA
    assert table.groupby("error_type").size().to_dict() == {"TimeoutError": 1}
    assert table.groupby("error_type", dropna=False).size().tolist() == [1, 2]
    assert table["error_type"].fillna("none").tolist() == ["TimeoutError", "none", "none"]
    table.update(pd.DataFrame({"error_type": pd.array([pd.NA, "OSError", pd.NA], dtype="string")}))
    assert table["error_type"].isna().tolist() == [False, False, True]
    assert str(table["error_type"].dtype) == "string"


def test_B1_writing_a_number_into_text_is_refused_alike():
    """A number written into a text column raises a TypeError and leaves the column as it was."""
    table = frame([failure(error="boom")], FAILURE_COLUMNS)
    with pytest.raises(TypeError):
        table.loc[0, "error"] = 5
    assert table["error"].tolist() == ["boom"]


def test_B1_merges_with_a_users_own_frame():
    """A text column joins with the user's column of whatever text dtype pandas gives it."""
    table = frame([failure(document="a"), failure(document="b")], FAILURE_COLUMNS)
    own = pd.DataFrame({"document": ["b", "a"], "ticker": ["BB", "AA"]})
    assert table.merge(own, on="document")["ticker"].tolist() == ["AA", "BB"]


def test_values_arrive_as_they_are():
    """Times are UTC in microseconds, unknown durations NaN, missing counts NA, structures strict JSON text."""
    at = datetime(2026, 11, 25, 9, 30, 0, 123456, tzinfo=timezone(timedelta(hours=2)))
    table = frame(
        [
            {
                "operation": "llm",
                "started_at": at,
                "duration_s": None,
                "ok": np.True_,
                "metadata": {"n": np.int64(2)},
            },
            {
                "operation": "llm",
                "started_at": None,
                "duration_s": np.float32(1.5),
                "ok": None,
                "metadata": None,
            },
        ],
        METRIC_COLUMNS,
    )
    assert table["started_at"][0] == datetime(2026, 11, 25, 7, 30, 0, 123456, tzinfo=UTC)
    assert table["started_at"][1] is pd.NaT
    assert np.isnan(table["duration_s"][0])
    assert table["duration_s"][1] == 1.5
    assert table["ok"][0]
    assert table["ok"][1] is pd.NA
    assert json.loads(table["metadata"][0]) == {"n": 2}
    assert table["metadata"][1] is pd.NA


def test_json_text_is_strict_whatever_comes():
    """NaN, infinities, arrays, sets, exceptions and odd keys all become JSON that a strict parser takes."""
    odd = {
        1: float("nan"),
        "inf": np.float64("inf"),
        "a": np.arange(2),
        "e": ValueError("no"),
        "s": {3},
        "b": True,
    }
    strict = json.loads(frames.json_text(odd), parse_constant=pytest.fail)
    assert strict == {"1": None, "inf": None, "a": [0, 1], "e": "no", "s": [3], "b": True}


def test_missing_counts_stay_whole_numbers():
    """A token count that is missing in one row does not turn the others into floats."""
    base = {"position": 0, "repeat": 0, "attempts": 1, "words": 10}
    table = frame([{**base, "prompt_tokens": 812}, {**base, "prompt_tokens": float("nan")}], ROW_COLUMNS)
    assert table["prompt_tokens"].tolist() == [812, pd.NA]
    assert table["prompt_tokens"].sum() == 812


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        (["AA", None], "string"),
        ([1, None], "Int64"),
        ([1.5, None], "float64"),
        ([1, 2.5], "float64"),
        ([True, None], "boolean"),
        ([datetime(2026, 1, 2), None], "datetime64[us]"),  # noqa: DTZ001 - a user may keep such
        ([pd.Timestamp("2026-01-02", tz="Europe/Paris"), pd.NaT], "datetime64[us, UTC]"),
        (["AA", 1], "object"),
        ([None, None], "object"),
    ],
)
def test_extra_columns_get_one_dtype_on_every_pandas(values, dtype):
    """A user's kept column gets its dtype from its values by our rule and not by that of the pandas at hand."""
    records = [{"workers": 1, "repeat": 0, "wall_s": 1.0, "mine": value} for value in values]
    table = frame(records, SPEEDUP_COLUMNS, extra=["mine"])
    assert str(table["mine"].dtype) == dtype
    assert table.columns[-1] == "mine"
    assert table["mine"].isna().tolist() == [value is None or value is pd.NaT for value in values]


def test_extra_column_can_be_described():
    """An extra column given as a Column has that dtype also where all its values are missing."""
    table = frame([], SPEEDUP_COLUMNS, extra=[Column("ticker", "string", "", "")])
    assert str(table["ticker"].dtype) == "string"


@pytest.mark.parametrize(
    ("record", "extra", "says"),
    [
        ({"workers": 1, "wall": 2.0}, (), "wall"),
        ({"workers": 1}, ("workers",), "named twice: 'workers'"),
        ({"workers": None, "repeat": 0}, (), "'workers' takes int64"),
        ({"workers": 1.5, "repeat": 0}, (), "'workers' takes int64"),
        ({"workers": 1, "repeat": 0, "wall_s": "fast"}, (), "'wall_s' takes float64"),
    ],
)
def test_wrong_records_are_refused_by_name(record, extra, says):
    """A misspelt name, a name given twice, or a value of another kind is an error that names the column: none is dropped."""
    with pytest.raises(ConfigurationError, match=says):
        frame([record], SPEEDUP_COLUMNS, extra=extra)


def test_a_time_without_zone_is_refused():
    """A time of day without a zone is not taken for UTC."""
    with pytest.raises(ConfigurationError, match="no time zone"):
        frame([{"started_at": datetime(2026, 1, 2)}], METRIC_COLUMNS)  # noqa: DTZ001 - the point of the test


def test_text_column_takes_text_only():
    """A number in a text column is refused on the way in, too."""
    with pytest.raises(ConfigurationError, match="'error' takes string"):
        frame([failure(error=5)], FAILURE_COLUMNS)


def test_text_that_no_file_can_hold_is_made_so_that_one_can():
    """A lone surrogate, in text or inside JSON, becomes U+FFFD, so that the table can be written as UTF-8."""
    table = frame([{"thread": "a\ud800b", "metadata": {"k": "\udfff"}}], METRIC_COLUMNS)
    assert table["thread"][0] == "a\ufffdb"
    assert json.loads(table["metadata"][0]) == {"k": "\ufffd"}
    table.to_csv().encode("utf-8")


@pytest.mark.parametrize("name", TABLES)
def test_every_column_is_described(name):
    """Every column of every table has a meaning in words, and every one in seconds ends in _s."""
    table = frames.describe(TABLES[name])
    assert table["column"].tolist() == [column.name for column in TABLES[name]]
    assert table["description"].str.len().min() > 2
    assert all(column.unit == "s" for column in TABLES[name] if column.name.endswith("_s"))
    assert all(column.name.endswith("_s") for column in TABLES[name] if column.unit == "s")
    assert frames.describe_markdown(TABLES[name]).count("\n") == len(TABLES[name]) + 1


def test_frames_survive_csv_and_parquet_types():
    """A table written as CSV reads back with the same columns, missing text as missing."""
    import io

    table = frame([failure(error=None), failure(error='a;b\n"c"')], FAILURE_COLUMNS)
    back = pd.read_csv(io.StringIO(table.to_csv(index=False)), dtype={"error": "string"})
    assert back["error"].isna().tolist() == [True, False]
    assert back["error"][1] == 'a;b\n"c"'


def test_import_is_light():
    """Importing the module loads no pandas; the tables are plain tuples."""
    import subprocess

    code = "import sys, analysis_kit.frames; print('pandas' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "False"
