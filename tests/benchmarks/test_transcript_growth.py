"""How the time of parsing grows with the text: fourfold text, about fourfold time, for ordinary and for hostile shapes.

Run on demand, with ``-s`` to see the figures: ``pytest tests/benchmarks/test_transcript_growth.py -s``.
"""

import contextlib
import time
from pathlib import Path

import pytest

from analysis_kit.errors import TranscriptError
from analysis_kit.transcripts.parse import parse_transcript

LONG = (Path(__file__).parents[2] / "data" / "tarnbrook_q3_2025.txt").read_text()
BODY = LONG[LONG.index("Prepared Remarks") :]
REPEATS = 7

#: Name -> what makes the text of about ``n`` kilobytes.
SHAPES = {
    "an ordinary call": lambda n: LONG + BODY * (n // 20),
    "one line": lambda n: "Jane Doe: " + "word " * (200 * n),
    "short labelled lines": lambda n: "Jane Doe: hi\n" * (80 * n),
    "names only": lambda n: "Jane Doe\n" * (100 * n),
    "a new name a line": lambda n: "".join(
        f"Jane {chr(97 + i % 26) * (i % 40 + 1)}x: hi\n" for i in range(40 * n)
    ),
    "headings only": lambda n: "Some Heading\n\n" * (70 * n) + "Jane Doe: x",
    "blank lines": lambda n: "\n" * (1000 * n) + "Jane Doe: x",
    "spaces": lambda n: "Jane Doe: " + " " * (1000 * n) + "x",
    "dashes": lambda n: "Jane Doe -- " + "- " * (500 * n),
    "clocks": lambda n: ("A " + "00:00 " * 18 + "\n") * (8 * n),
    "open tags": lambda n: "WEBVTT\n\n00:00:01.000 --> 00:00:02.000\n" + "<v " * (300 * n),
    "cues": lambda n: "WEBVTT\n\n" + "00:01.000 --> 00:02.000\n<v Jane Doe>hi there\n\n" * (20 * n),
}


def took(text):
    """Return the seconds of one parse; a text that is no transcript counts as well."""
    start = time.perf_counter()
    with contextlib.suppress(TranscriptError):
        parse_transcript(text)
    return time.perf_counter() - start


@pytest.mark.parametrize("shape", SHAPES)
def test_time_grows_with_the_text_and_no_faster(shape):
    """Four times the text takes less than seven times the time: quadratic work would take sixteen times."""
    small, large = SHAPES[shape](60), SHAPES[shape](240)
    pairs = [(took(small), took(large)) for _ in range(REPEATS)]
    ratio = min(large for _, large in pairs) / min(small for small, _ in pairs)
    print(
        f"\n{shape}: {1e3 * min(large for _, large in pairs) / (len(large) / 1e6):.0f} ms per MB, x4 text = x{ratio:.2f} time"
    )

    assert ratio < 7
