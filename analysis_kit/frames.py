"""Records to DataFrames: every table's columns, dtypes and units are fixed here, also for no records at all.

The same answers on pandas 2.2 and 3.x, with and without pyarrow: text is ``string`` with ``pd.NA`` for what is
missing, whole numbers that can be missing are ``Int64``, truth values are ``boolean``, times of day are UTC in
microseconds, durations are seconds in ``float64`` with NaN for what cannot be known. Knows no record class.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from analysis_kit.errors import ConfigurationError

if TYPE_CHECKING:
    import pandas as pd

_LONE_SURROGATE = re.compile("[\ud800-\udfff]")

#: Dtypes of the tables. ``json`` is text that holds one JSON value.
TEXT: Final = "string"
JSON: Final = "json"
INT: Final = "int64"
MAYBE_INT: Final = "Int64"
FLOAT: Final = "float64"
BOOL: Final = "boolean"
TIME: Final = "datetime64[us, UTC]"


class Column(NamedTuple):
    """One column of a table: its name, dtype, unit ("" where it has none) and meaning."""

    name: str
    dtype: str
    unit: str
    description: str


Columns = tuple[Column, ...]
"""The columns of one table, in order."""

TURN_COLUMNS: Final[Columns] = (
    Column("document", TEXT, "", "stable short name of the transcript"),
    Column("index", INT, "", "place of the turn in the call, from 0"),
    Column("section", TEXT, "", "section the turn belongs to"),
    Column("speaker", TEXT, "", "who speaks"),
    Column("role", TEXT, "", "executive, analyst, operator or unknown"),
    Column("title", TEXT, "", "the speaker's title, where the transcript has one"),
    Column("words", INT, "words", "length of the turn"),
    Column("text", TEXT, "", "what is said"),
)

_TIME_SPLIT: Final[Columns] = (
    Column("wait_s", FLOAT, "s", "waiting for a slot of our own pool"),
    Column("queue_s", FLOAT, "s", "inside the server, not accounted for by the next three"),
    Column("load_s", FLOAT, "s", "loading the model"),
    Column("prompt_s", FLOAT, "s", "reading the prompt"),
    Column("generate_s", FLOAT, "s", "writing the answer"),
    Column("other_s", FLOAT, "s", "client and network"),
)

_UNIT: Final[Columns] = (
    Column("document", TEXT, "", "stable short name of the document"),
    Column("by", TEXT, "", "kind of unit: section, speaker, turn or row"),
    Column("unit", TEXT, "", "name of the unit"),
)

ROW_COLUMNS: Final[Columns] = (
    *_UNIT,
    Column("position", INT, "", "place of the unit in its document, from 0"),
    Column("analyzer", TEXT, "", "who analysed it"),
    Column("model", TEXT, "", "model asked; missing for rules"),
    Column("repeat", INT, "", "which repeat, from 0"),
    Column("status", TEXT, "", "done, cached, failed, cancelled or not started"),
    Column("score", FLOAT, "", "from -1 (bad) to 1 (good), where the analyzer has a scale"),
    Column("label", TEXT, "", "one word of the analyzer's closed list"),
    Column("confidence", FLOAT, "", "from 0 to 1, where the analyzer states one"),
    Column("values", JSON, "", "everything else that was found"),
    Column("evidence", JSON, "", "spans of the text: start, end, text, note"),
    Column("flags", TEXT, "", "what to know before trusting it, joined by ';'"),
    Column("method", TEXT, "", "rules, or the model's name"),
    Column("cached", BOOL, "", "whether the answer came from the cache"),
    Column("attempts", INT, "", "how often it was tried"),
    Column("duration_s", FLOAT, "s", "from the first attempt's start to the end"),
    *_TIME_SPLIT,
    Column("prompt_tokens", MAYBE_INT, "tokens", "length of the prompt as the model reads it"),
    Column("generated_tokens", MAYBE_INT, "tokens", "length of the answer"),
    Column("host", TEXT, "", "server that answered"),
    Column("digest", TEXT, "", "digest of the model that answered"),
    Column("words", INT, "words", "length of the unit's text"),
    Column("started_at", TIME, "UTC", "when the first attempt began"),
    Column("error_type", TEXT, "", "kind of failure"),
    Column("error", TEXT, "", "the failure in words"),
)

FAILURE_COLUMNS: Final[Columns] = (
    *_UNIT,
    Column("analyzer", TEXT, "", "who should have analysed it"),
    Column("model", TEXT, "", "model asked; missing for rules"),
    Column("repeat", INT, "", "which repeat, from 0"),
    Column("status", TEXT, "", "failed, cancelled or not started"),
    Column("error_type", TEXT, "", "kind of failure"),
    Column("error", TEXT, "", "the failure in words"),
    Column("attempts", INT, "", "how often it was tried"),
    Column("duration_s", FLOAT, "s", "from the first attempt's start to the failure"),
)

NUMBER_COLUMNS: Final[Columns] = (
    *_UNIT,
    Column("text", TEXT, "", "the number as said, with its words"),
    Column("kind", TEXT, "", "amount, percentage, growth, guidance, ..."),
    Column("metric", TEXT, "", "what it measures (revenue, margin), where said"),
    Column("value", FLOAT, "unit_of_value", "the number, normalised; the middle of a range"),
    Column("low", FLOAT, "unit_of_value", "lower end of a range"),
    Column("high", FLOAT, "unit_of_value", "upper end of a range"),
    Column("unit_of_value", TEXT, "", "unit of the three before"),
    Column("period", TEXT, "", "period it is about, where said"),
    Column("direction", TEXT, "", "up, down or flat, where said"),
    Column("start", MAYBE_INT, "characters", "where in the unit's text it begins"),
    Column("end", MAYBE_INT, "characters", "where in the unit's text it ends"),
)

LABEL_COLUMNS: Final[Columns] = (
    *_UNIT,
    Column("text", TEXT, "", "what is to be judged"),
    Column("your_label", TEXT, "", "empty, for a person to fill in"),
)

METRIC_COLUMNS: Final[Columns] = (
    Column("operation", TEXT, "", "what was measured"),
    Column("started_at", TIME, "UTC", "when it began"),
    Column("duration_s", FLOAT, "s", "how long it took"),
    Column("ok", BOOL, "", "whether it ended without an exception"),
    Column("error_type", TEXT, "", "kind of failure"),
    Column("thread", TEXT, "", "thread it ran on"),
    Column("metadata", JSON, "", "what the caller noted"),
)

STATS_COLUMNS: Final[Columns] = (
    Column("operation", TEXT, "", "what was measured"),
    Column("count", INT, "", "how often"),
    Column("total_s", FLOAT, "s", "sum of all durations"),
    Column("avg_s", FLOAT, "s", "arithmetic mean"),
    Column("min_s", FLOAT, "s", "shortest"),
    Column("median_s", FLOAT, "s", "median"),
    Column("p95_s", FLOAT, "s", "95th percentile"),
    Column("p99_s", FLOAT, "s", "99th percentile"),
    Column("max_s", FLOAT, "s", "longest"),
    Column("p95_low_s", FLOAT, "s", "lower end of the 95 % interval of p95_s"),
    Column("p95_high_s", FLOAT, "s", "upper end of the 95 % interval of p95_s"),
    Column("p95_note", TEXT, "", "why there is no such interval"),
    Column("p99_low_s", FLOAT, "s", "lower end of the 95 % interval of p99_s"),
    Column("p99_high_s", FLOAT, "s", "upper end of the 95 % interval of p99_s"),
    Column("p99_note", TEXT, "", "why there is no such interval"),
    Column("failure_count", INT, "", "how many ended in an exception"),
    Column("success_rate", FLOAT, "0..1", "share that ended without an exception"),
    Column("success_low", FLOAT, "0..1", "lower end of the 95 % interval of success_rate"),
    Column("success_high", FLOAT, "0..1", "upper end of the 95 % interval of success_rate"),
    Column("autocorrelation", FLOAT, "-1..1", "correlation of neighbours in time"),
    Column("source", TEXT, "", "what the percentiles rest on: exact or sketch"),
)

ALERT_COLUMNS: Final[Columns] = (
    Column("operation", TEXT, "", "what was slow"),
    Column("duration_s", FLOAT, "s", "how long it took"),
    Column("threshold_s", FLOAT, "s", "the limit it passed"),
    Column("at", TIME, "UTC", "when"),
    Column("metadata", JSON, "", "what the caller noted"),
)

COMPARE_COLUMNS: Final[Columns] = (
    Column("operation", TEXT, "", "what was measured"),
    Column("before_n", INT, "", "observations before"),
    Column("after_n", INT, "", "observations after"),
    Column("before_median_s", FLOAT, "s", "median before"),
    Column("after_median_s", FLOAT, "s", "median after"),
    Column("ratio", FLOAT, "after / before", "ratio of the medians"),
    Column("ratio_low", FLOAT, "after / before", "lower end of its 95 % interval"),
    Column("ratio_high", FLOAT, "after / before", "upper end of its 95 % interval"),
    Column("verdict", TEXT, "", "faster, slower or cannot tell"),
    Column("detectable_ratio", FLOAT, "after / before", "the ratio these sample sizes could have shown"),
)

SPLIT_COLUMNS: Final[Columns] = (
    Column("operation", TEXT, "", "analyzer or operation"),
    Column("requests", INT, "", "how many requests the sums hold"),
    *_TIME_SPLIT,
)

SPEEDUP_COLUMNS: Final[Columns] = (
    Column("workers", INT, "", "workers at the same time"),
    Column("repeat", INT, "", "which repeat, from 0"),
    Column("wall_s", FLOAT, "s", "wall time of the whole work"),
)


def frame(
    records: Iterable[Mapping[str, Any]], columns: Columns, *, extra: Sequence[str | Column] = ()
) -> pd.DataFrame:
    """Return ``records`` as a table with exactly ``columns``, then ``extra``, in that order.

    Parameters
    ----------
    records : iterable of mapping
        One mapping a row, column name -> value. A name that is left out, and None, are missing values.
    columns : Columns
        One of the tables of this module.
    extra : sequence of str or Column, optional
        Further columns. One given by its bare name gets the dtype its values have (text, whole numbers, numbers, truth
        values, times), spelled as in the fixed tables; values of several kinds stay ``object``.

    Returns
    -------
    pandas.DataFrame
        With a default index; the dtypes are the same for no records.

    Raises
    ------
    ConfigurationError
        If a record has a name that is no column, a column is named twice, or a value cannot be of its column's dtype.

    Examples
    --------
    >>> frame([{"workers": 1, "repeat": 0, "wall_s": 2.5}], SPEEDUP_COLUMNS).dtypes.astype(str).to_dict()
    {'workers': 'int64', 'repeat': 'int64', 'wall_s': 'float64'}
    """
    import pandas as pd

    rows = list(records)
    wanted = [*columns, *(each if isinstance(each, Column) else Column(each, "", "", "") for each in extra)]
    names = [column.name for column in wanted]
    known = set(names)
    if len(known) < len(names):
        twice = sorted({name for name in names if names.count(name) > 1})
        raise ConfigurationError(
            f"columns named twice: {', '.join(map(repr, twice))}; rename your own, the kit's names are fixed"
        )
    for row in rows:
        if not known.issuperset(row):
            raise ConfigurationError(f"no such column: {sorted(set(row) - known)}; there are {names}")
    return pd.DataFrame(
        {c.name: _series([row.get(c.name) for row in rows], c) for c in wanted}, columns=names
    )


def _series(values: list[Any], column: Column) -> pd.Series[Any]:
    import pandas as pd

    dtype = column.dtype or _infer(values)
    try:
        if dtype == TEXT:
            return pd.Series([_text(v) for v in values], dtype=pd.StringDtype("python"))
        if dtype == JSON:
            texts = [v if v is None or isinstance(v, str) else json_text(v) for v in values]
            return pd.Series([_text(v) for v in texts], dtype=pd.StringDtype("python"))
        if dtype == TIME:
            return pd.Series([_utc(v) for v in values], dtype=pd.DatetimeTZDtype("us", "UTC"))
        if dtype == FLOAT:
            return pd.Series([math.nan if _missing(v) else float(v) for v in values], dtype=FLOAT)
        if dtype in (MAYBE_INT, BOOL):
            return pd.Series([None if _missing(v) else v for v in values], dtype=dtype)
        return pd.Series(values, dtype=dtype)
    except (TypeError, ValueError) as exc:
        raise ConfigurationError(
            f"column {column.name!r} takes {dtype}, and a value is not: {exc}; give values of that kind"
        ) from exc


def _infer(values: list[Any]) -> str:
    """Return the dtype for a column of the caller's own; pandas' own guess differs between 2.2 and 3.x."""
    import pandas as pd

    kind = pd.api.types.infer_dtype([v for v in values if not _missing(v)], skipna=True)
    known = {"string": TEXT, "boolean": BOOL, "integer": MAYBE_INT, "floating": FLOAT}
    if kind in {"datetime", "datetime64"}:
        aware = all(v.tzinfo is not None for v in values if isinstance(v, datetime) and not _missing(v))
        return TIME if aware else "datetime64[us]"
    return {**known, "mixed-integer-float": FLOAT}.get(kind, "object")


def _missing(value: Any) -> bool:
    """Return whether ``value`` stands for a missing one: None, ``pd.NA``, ``pd.NaT`` or NaN."""
    if isinstance(value, float):
        return math.isnan(value)
    return value is None or type(value).__name__ in {"NAType", "NaTType"}  # by name: called once a cell


def _text(value: Any) -> str | None:
    if _missing(value):
        return None
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is {type(value).__name__}")
    # a subclass (an enum member) must not change how the column compares, nor a lone surrogate fail its export
    return _LONE_SURROGATE.sub("\ufffd", str(value))


def _utc(value: Any) -> Any:
    import pandas as pd

    if _missing(value):
        return pd.NaT
    stamp = pd.Timestamp(value)
    if stamp.tzinfo is None:
        raise ValueError(f"{value!r} has no time zone")
    return stamp.tz_convert("UTC")


def json_text(value: Any) -> str:
    """Return ``value`` as strict JSON text: NaN and infinities become null, what JSON does not know becomes text.

    Examples
    --------
    >>> json_text({"words": 12, "rate": float("nan")})
    '{"words": 12, "rate": null}'
    """
    return json.dumps(json_value(value), ensure_ascii=False, allow_nan=False)


def json_value(value: Any) -> Any:
    """Return ``value`` as JSON holds it: numpy's numbers as numbers, NaN as None, what JSON does not know as text.

    Raises
    ------
    ConfigurationError
        If two keys of a mapping are the same as text, so that one would be lost.

    Examples
    --------
    >>> json_value({1: (2.0, float("nan"))})
    {'1': [2.0, None]}
    """
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, str):
        return str.__str__(value)  # an enum member's own text, whatever it prints as
    if isinstance(value, int):
        return int(value)
    if isinstance(value, Mapping):
        names = [str(json_value(key) if isinstance(key, (str, int)) else key) for key in value]
        if len(set(names)) < len(names):
            twice = sorted({name for name in names if names.count(name) > 1})
            raise ConfigurationError(
                f"a mapping has several keys that are {', '.join(map(repr, twice))} as text, as JSON's keys are; rename them"
            )
        return {name: json_value(item) for name, item in zip(names, value.values(), strict=True)}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [json_value(item) for item in value]
    item = getattr(value, "tolist", None)  # numpy scalars and arrays
    return json_value(item()) if callable(item) else str(value)


def describe(columns: Columns) -> pd.DataFrame:
    """Return what a table's columns hold: ``column``, ``dtype``, ``unit``, ``description``, one row a column.

    Examples
    --------
    >>> describe(SPEEDUP_COLUMNS)["column"].tolist()
    ['workers', 'repeat', 'wall_s']
    """
    heads = tuple(Column(name, TEXT, "", "") for name in ("column", "dtype", "unit", "description"))
    return frame(
        ({"column": c.name, "dtype": c.dtype, "unit": c.unit, "description": c.description} for c in columns),
        heads,
    )


def describe_markdown(columns: Columns) -> str:
    """Return `describe` as a Markdown table, for the documentation."""
    lines = ["| column | dtype | unit | description |", "|---|---|---|---|"]
    lines += [f"| `{c.name}` | {c.dtype} | {c.unit} | {c.description} |" for c in columns]
    return "\n".join(lines)
