"""Numbers: each way to say one, what is none, what it measures and when, and that any text is survived."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis_kit import NumericalAnalyzer


def numbers(text):
    """Return the numbers found in ``text``."""
    return NumericalAnalyzer().ask(text).values["numbers"]


def only(text):
    """Return the one number found in ``text``."""
    (number,) = numbers(text)
    return number


@pytest.mark.parametrize(
    ("text", "value", "unit"),
    [
        ("$412.8 million", 412.8e6, "USD"),
        ("\u20ac3bn", 3e9, "EUR"),
        ("\u00a35.2m", 5.2e6, "GBP"),
        ("US$5 million", 5e6, "USD"),
        ("C$3 billion", 3e9, "CAD"),
        ("EUR 5 million", 5e6, "EUR"),
        ("12 million euros", 12e6, "EUR"),
        ("5 million Canadian dollars", 5e6, "CAD"),
        ("Rs. 500 crore", 5e9, "INR"),
        ("$1,234,567", 1234567.0, "USD"),
        ("$675,000", 675000.0, "USD"),
        ("$.45", 0.45, "USD"),
        ("EUR 3,5 million", 3.5e6, "EUR"),
        ("one point two billion dollars", 1.2e9, "USD"),
        ("two hundred and fifty million dollars", 250e6, "USD"),
        ("half a billion dollars", 0.5e9, "USD"),
        ("three and a half percent", 3.5, "%"),
        ("(1.2) million", -1.2e6, None),
        ("$(1.2) million", -1.2e6, "USD"),
        ("($0.12) per share", -0.12, "USD/share"),
        ("($1.2 million)", 1.2e6, "USD"),
        ("-5%", -5.0, "%"),
        ("\u22124.5%", -4.5, "%"),
        ("negative 7 percent", -7.0, "%"),
        ("-$3 million", -3e6, "USD"),
        ("$-3 million", -3e6, "USD"),
        ("(5)%", -5.0, "%"),
        ("45 per cent", 45.0, "%"),
        ("2 percentage points", 2.0, "pp"),
        ("150 basis points", 150.0, "bps"),
        ("a 150-basis-point spread", 150.0, "bps"),
        ("25bps", 25.0, "bps"),
        ("$1.23 per share", 1.23, "USD/share"),
        ("$1.05 per diluted share", 1.05, "USD/share"),
        ("12 cents a share", 0.12, "USD/share"),
        ("$70 per barrel", 70.0, "USD/barrel"),
        ("2.1x", 2.1, "x"),
        ("3.5 times", 3.5, "x"),
        ("1,200 new enterprise customers", 1200.0, "count"),
        ("2.5 million users", 2.5e6, "count"),
        ("five countries", 5.0, "count"),
        ("$7 million a year ago", 7e6, "USD"),
        ("EUR18 .9 m", 18.9e6, "EUR"),
        ("1 000 000 euros", 1e6, "EUR"),
        ("EUR -1\u00a0050 million", -1.05e9, "EUR"),
        ("EUR 1\u202f250,5 million", 1.2505e9, "EUR"),
        ("5 000,50 euros", 5000.5, "EUR"),
        ("5 000 customers", 5_000.0, "count"),
    ],
)
def test_each_way_to_say_a_number(text, value, unit):
    """Currency, scale, sign, words, per share, percent, basis points, multiples and counts come out normalised."""
    number = only(f"It was {text}.")
    assert (number["value"], number["unit"], number["low"], number["high"]) == (value, unit, None, None)


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("Our top 10 500 customers stayed.", [500.0]),
        ("In 2024 500 customers stayed.", [500.0]),
        ("Segment A had 120 130 140 million.", [140e6]),
        ("It rose 10 100 200 bps.", [200.0]),
        ("It was $120 115 and 110 million.", [120.0, 110e6]),
        ("At $45 300 holders sold.", [45.0]),
        ("USD 250 300 customers", [250.0, 300.0]),
        ("EUR 5 100 employees", [5.0, 100.0]),
        ("$5 200 basis points", [5.0, 200.0]),
        ("Dividend is $2\n500 employees joined", [2.0, 500.0]),
        ("South: 100\n200\n300 stores", [300.0]),
        ("Stores: 100\n000 customers", []),
        ("Revenue\t$412\t398\t377", [412.0]),
        ("Our Model 3 100 000 units", []),
    ],
)
def test_numbers_side_by_side_are_no_thousands(text, values):
    """A blank parts thousands only where the digits behind it are no number of their own, and no line and no cell ends."""
    assert [number["value"] for number in numbers(text)] == values


@pytest.mark.parametrize(
    ("text", "low", "high", "unit"),
    [
        ("$2.0 to $2.2 billion", 2.0e9, 2.2e9, "USD"),
        ("$2.0-2.2 billion", 2.0e9, 2.2e9, "USD"),
        ("2 to 2.2 billion dollars", 2.0e9, 2.2e9, "USD"),
        ("$900 million to $1.1 billion", 0.9e9, 1.1e9, "USD"),
        ("$900,000 to $1.1 million", 0.9e6, 1.1e6, "USD"),
        ("between 3% and 5%", 3.0, 5.0, "%"),
        ("between 3 and 5 percent", 3.0, 5.0, "%"),
        ("3-5%", 3.0, 5.0, "%"),
        ("3% \u2013 5%", 3.0, 5.0, "%"),
        ("-5% to -3%", -5.0, -3.0, "%"),
        ("100 to 150 basis points", 100.0, 150.0, "bps"),
        ("$1.10 to $1.20 per share", 1.1, 1.2, "USD/share"),
        ("$1.10 to 1.20 per share", 1.1, 1.2, "USD/share"),
        ("10 to 12 times", 10.0, 12.0, "x"),
        ("10 to 15 new stores", 10.0, 15.0, "count"),
        ("$2.1 billion, plus or minus $50 million", 2.05e9, 2.15e9, "USD"),
        ("$2.0 billion plus or minus 5%", 1.9e9, 2.1e9, "USD"),
        ("24% plus or minus 100 basis points", 23.0, 25.0, "%"),
        ("a range from $3 million to $5 million", 3e6, 5e6, "USD"),
        ("EUR 1 000-1 200 million", 1e9, 1.2e9, "EUR"),
        ("EUR 1 000 million to EUR 1 200 million", 1e9, 1.2e9, "EUR"),
        ("between 10 000 and 12 500 customers", 10_000.0, 12_500.0, "count"),
        ("between EUR 1\u202f100 and 1\u202f300 million", 1.1e9, 1.3e9, "EUR"),
    ],
)
def test_each_way_to_say_a_range(text, low, high, unit):
    """Ranges and tolerances have ends, the unit may stand at one end only, and the value is the middle."""
    number = only(f"It is {text}.")
    assert (number["low"], number["high"], number["unit"]) == (low, high, unit)
    assert number["value"] == pytest.approx((low + high) / 2)


@pytest.mark.parametrize(
    "text",
    [
        "In Q3 2025 and 3Q25, fiscal 2026 and FY25, and in 2019.",
        "On March 31, 2025, on 31 March, on 10/21/2025 and on 2025-10-21 at 8:30 a.m.",
        "Call 1-800-555-0123, (877) 407-0784 or 555-0100, passcode 1374567.",
        "See Form 10-K, item 1A, ASC 606, slide 7, note 3.1.4 and section 21.",
        "A 5G phone, the A320, the 737, version 2.0, 3M and COVID-19.",
        "In 2025 customers asked for it. On March 31 customers left.",
        "One customer and a store, for the first time in 12 months.",
        "12345678901234567890123456789 dollars",
        "",
    ],
)
def test_what_is_no_number(text):
    """Years, dates, times, telephone numbers, forms, names and bare numbers are no findings."""
    assert numbers(text) == []


@pytest.mark.parametrize(
    "text",
    [
        "Sales rose from $3 million to $4 million.",
        "Sales went from $3 to $4 million.",
        "Sales grew $3 million to $40 million.",
    ],
)
def test_from_one_to_another_is_two_numbers(text):
    """A move between two amounts is both, and no range."""
    found = numbers(text)
    assert len(found) == 2
    assert found[0]["value"] == 3e6
    assert all(number["low"] is None for number in found)


@pytest.mark.parametrize(
    ("text", "kind", "value", "direction"),
    [
        ("Revenue grew 12%.", "growth", 12.0, "up"),
        ("Revenue fell by roughly 8%.", "growth", -8.0, "down"),
        ("Margins fell 150 basis points.", "growth", -150.0, "down"),
        ("A 7% decline in volumes.", "growth", -7.0, "down"),
        ("Growth in the quarter was 5%.", "growth", 5.0, "up"),
        ("We reduced costs by $10 million.", "growth", -10e6, "down"),
        ("An increase in revenue of $5 million.", "growth", 5e6, "up"),
        ("Sales were 4% lower.", "growth", -4.0, "down"),
        ("Volumes fell 3% to 5%.", "growth", -4.0, "down"),
        ("Gross margin was 45%.", "percent", 45.0, None),
        ("Gross margin was flat at 45%.", "percent", 45.0, "flat"),
        ("Gross margin rose to 45%.", "percent", 45.0, "up"),
        ("A record $1.4 billion of orders.", "amount", 1.4e9, None),
        ("Higher revenue of $5 million.", "amount", 5e6, "up"),
        ("We expect revenue growth of 8%.", "guidance", 8.0, "up"),
    ],
)
def test_a_change_has_a_sign_and_a_level_has_none(text, kind, value, direction):
    """The size of a change is growth and carries its sign; what is risen to, or stands, is a level."""
    number = only(text)
    assert (number["kind"], number["value"], number["direction"]) == (kind, value, direction)


def test_a_sum_or_a_share_of_one_change_is_one_change():
    """In "15 million or 7%", "up 12% to 480 million, from 430": each number is a change or a level as said."""
    found = numbers("Revenue rose $15 million or 7%, to $230 million, up from $215 million.")
    assert [(n["kind"], n["value"]) for n in found] == [
        ("growth", 15e6),
        ("growth", 7.0),
        ("amount", 230e6),
        ("amount", 215e6),
    ]


@pytest.mark.parametrize(
    ("text", "guided"),
    [
        ("We expect revenue of $5 million.", [True]),
        ("For the full year we guide to $5 million.", [True]),
        ("$5 million is our target.", [True]),
        ("Revenue should be $5 million.", [True]),
        ("Revenue was $5 million.", [False]),
        ("Revenue was better than expected at $5 million.", [False]),
        ("We expect $5 million, compared with $4 million last year.", [True, False]),
        ("We expect $5 million of revenue and a margin of 10%.", [True, True]),
        ("We expect growth, but revenue was $5 million.", [False]),
        ("We expect capex to rise from $3 million to $5 million.", [False, True]),
    ],
)
def test_guidance_looks_ahead(text, guided):
    """A number after a word that looks ahead is guidance; what it is compared with, and what was, is not."""
    finding = NumericalAnalyzer().ask(text)
    assert [number["kind"] == "guidance" for number in finding.values["numbers"]] == guided
    assert finding.values["guidance_count"] == sum(guided)
    assert finding.values["count"] == len(guided)


@pytest.mark.parametrize(
    ("text", "metrics"),
    [
        ("Revenue was $5 million.", ["revenue"]),
        ("$5 million of free cash flow", ["free cash flow"]),
        ("R&D at 12% of sales", ["R&D"]),
        ("A 7% decline in our volumes", ["volume"]),
        ("Revenue was $5 million and gross margin 40%", ["revenue", "gross margin"]),
        ("Revenue of $5 and EPS of $6, against $4 and $3", ["revenue", "EPS", "revenue", "EPS"]),
        ("2.1x net leverage", ["leverage"]),
        ("1,200 customers and 14 ships", ["customers", "ships"]),
        ("It was $5 million.", [None]),
        (
            "Metering revenue fell 7%, to $96.7 million, and the segment lost $6.3 million.",
            ["revenue", "revenue", "loss"],
        ),
        ("Revenue fell, and we lost about $5 million of sales.", ["sales"]),
        ("On-time delivery improved to 94%, and inventory was $141 million.", [None, "inventory"]),
        ("About 94%, and inventory was $141 million.", [None, "inventory"]),
        ("We delivered 5% growth, and EBITDA margin was 12%.", [None, "EBITDA margin"]),
        ("Up 9.4%, revenue reached $412.6 million.", ["revenue", "revenue"]),
        ("Up 9.4%, and revenue reached $412.6 million.", ["revenue", "revenue"]),
        ("It was $5 million, and $6 million, of revenue.", ["revenue", "revenue"]),
        ("With 12%, and again 13%, operating margin stood out.", ["operating margin", "operating margin"]),
        ("At $3, $4, and $5 of EPS.", [None, "EPS", "EPS"]),
        ("It was 4%, 5%, and 6% in sales growth.", [None, "sales", "sales"]),
    ],
)
def test_what_a_number_measures(text, metrics):
    """The metric right behind a number, else before it; of a comparison the one compared; of a count what is counted."""
    assert [number["metric"] for number in numbers(text)] == metrics


@pytest.mark.parametrize(
    ("text", "periods"),
    [
        ("Revenue was $5 million in the third quarter of 2025.", ["Q3 2025"]),
        ("In Q3'25 revenue was $5 million.", ["Q3 2025"]),
        ("Revenue for 3Q25 was $5 million.", ["Q3 2025"]),
        ("For fiscal 2026 we expect $5 million.", ["FY2026"]),
        ("For the full year we expect $5 million.", ["FY"]),
        ("In the second half we expect $5 million.", ["H2"]),
        ("In 2024 we sold $5 million.", ["2024"]),
        ("Revenue was $5 million in Q3, compared with $4 million last year.", ["Q3", "last year"]),
        ("In Q3 revenue was $5 million, up from $4 million.", ["Q3", None]),
        ("Revenue was $5 million, up 3% over the prior year.", [None, None]),
        ("Revenue was $5 million.", [None]),
    ],
)
def test_which_period_a_number_is_about(text, periods):
    """The nearest period in the clause, normalised; a basis of comparison is no period of the number."""
    assert [number["period"] for number in numbers(text)] == periods


def test_eps_without_per_share_is_per_share():
    """A plain dollar amount of EPS is per share."""
    assert [n["unit"] for n in numbers("EPS was $1.23, and revenue $4.")] == ["USD/share", "USD"]


def test_evidence_is_guidance_first():
    """Of many numbers the evidence keeps guidance and growth, in the order of the text."""
    text = "Cash was $5 million. " * 20 + "We expect revenue of $9 million."
    finding = NumericalAnalyzer().ask(text)
    assert len(finding.evidence) == 12
    assert finding.evidence[-1].note == "guidance revenue"
    assert finding.score is None
    assert finding.label is None


PIECES = "$ \u20ac 5 2.0 1,200 million bn % ( ) - \u2013 to and between from per share EPS we expect fell x ' a half two 2025 Q3 ."
PIECE = st.sampled_from(PIECES.split())


@given(
    st.one_of(
        st.text(max_size=300),
        st.text(alphabet="0123456789$%.,() tobps-bn\u20ac", max_size=80),
        st.lists(PIECE, max_size=60).map(" ".join),
        st.lists(PIECE, max_size=60).map("".join),
    )
)
@settings(max_examples=400, deadline=None)
def test_every_number_is_where_it_says_in_any_text(text):
    """Whatever the text, a number's text is its slice, its ends are in order, and the whole is JSON."""
    finding = NumericalAnalyzer().ask(text)
    for number in finding.values["numbers"]:
        assert text[number["start"] : number["end"]] == number["text"]
        assert (number["low"] is None) == (number["high"] is None)
        if number["low"] is not None:
            assert number["low"] <= number["value"] <= number["high"]
    assert all(text[span.start : span.end] == span.text for span in finding.evidence)
    json.dumps(dict(finding.values), allow_nan=False)
