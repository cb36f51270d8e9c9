"""Which lines are labels in the common layouts, and who the speakers are."""

import pytest

from analysis_kit.transcripts.parse import parse_transcript


def turns(text):
    """Return speaker and text of each turn."""
    return [(turn.speaker, turn.text) for turn in parse_transcript(text).turns]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "Operator: Welcome.\nJane: Thanks.\nMark: Hi.",
            [("Operator", "Welcome."), ("Jane", "Thanks."), ("Mark", "Hi.")],
        ),
        ("Alice: hello\nBob: hi", [("Alice", "hello"), ("Bob", "hi")]),
        ("OPERATOR: Welcome.\nJANE DOE: Thanks.", [("Operator", "Welcome."), ("JANE DOE", "Thanks.")]),
        (
            "[Operator]\nWelcome.\n\nJane Doe - CEO\nThanks.",
            [("Operator", "Welcome."), ("Jane Doe", "Thanks.")],
        ),
        ("<Q - Priya Nair>: Why?\n<A - Jane Doe>: So.", [("Priya Nair", "Why?"), ("Jane Doe", "So.")]),
        ("Q: Why?\nA: So.\nQ: And?", [("Q", "Why?"), ("A", "So."), ("Q", "And?")]),
        ("Speaker 1: Hi\nSpeaker 2: Ho", [("Speaker 1", "Hi"), ("Speaker 2", "Ho")]),
        (
            "Unidentified Analyst: Why?\nJane Doe: So.",
            [("Unidentified Analyst", "Why?"), ("Jane Doe", "So.")],
        ),
        (
            "\u738b\u4f1f: \u4f60\u597d\n\u674e\u5a1c\uff1a\u8c22\u8c22",
            [("\u738b\u4f1f", "\u4f60\u597d"), ("\u674e\u5a1c", "\u8c22\u8c22")],
        ),
        ("Jos\u00e9 d'Ornano-L\u00f3pez Jr.: Hola.", [("Jos\u00e9 d'Ornano-L\u00f3pez Jr.", "Hola.")]),
        ("John Smith, Jr., CEO: Hi.", [("John Smith Jr.", "Hi.")]),
        (
            "Michael Price: Hi.\nJane Doe: Ho.\nMichael Price: Hm.",
            [("Michael Price", "Hi."), ("Jane Doe", "Ho."), ("Michael Price", "Hm.")],
        ),
        (
            "Ana Roy -- Directrice g\u00e9n\u00e9rale\n\nOui.\n\nAna Roy -- Directrice g\u00e9n\u00e9rale\n\nNon.",
            [("Ana Roy", "Oui."), ("Ana Roy", "Non.")],
        ),
        (
            "Operator\n\nHi.\n\nJane Doe\n\nHo.\n\nTom Ek\n\nHm.\n\nJane Doe\n\nYes.\n\nTom Ek\n\nBye.",
            [
                ("Operator", "Hi."),
                ("Jane Doe", "Ho."),
                ("Tom Ek", "Hm."),
                ("Jane Doe", "Yes."),
                ("Tom Ek", "Bye."),
            ],
        ),
        ("Jane Doe:Good morning.", [("Jane Doe", "Good morning.")]),
        (
            "Operator\nHi.\n\nTom Ek\nCFO\nCosts fell.\n\nLena Hart\nAnalyst\nWhy?",
            [("Operator", "Hi."), ("Tom Ek", "Costs fell."), ("Lena Hart", "Why?")],
        ),
        (
            "[Operator]: Hi.\n[Jane Doe, CEO]: Ho.\n[Laughter]\n[Tom Ek]: Hm.",
            [("Operator", "Hi."), ("Jane Doe", "Ho.\n[Laughter]"), ("Tom Ek", "Hm.")],
        ),
        ("Jane Doe- CEO: Hi.\nTom Ek -CFO: Ho.", [("Jane Doe", "Hi."), ("Tom Ek", "Ho.")]),
        (
            "Question \u2013 Priya Nair: Why?\nAnswer \u2013 Jane Doe: So.",
            [("Priya Nair", "Why?"), ("Jane Doe", "So.")],
        ),
        (
            "Executives\nJane Doe, CEO\n\nAnalysts\nPriya Nair, Arden\n\nOperator\n\nHi.\n\nPriya Nair, Arden\n\nWhy?",
            [("Operator", "Hi."), ("Priya Nair", "Why?")],
        ),
    ],
)
def test_common_labels_name_their_speakers(text, expected):
    """Each common kind of label is cut off its speech and names the speaker."""
    assert turns(text) == expected


def test_text_before_the_first_label_is_kept_as_unknown():
    """Words that no label claims become a turn of "Unknown" at their place."""
    call = parse_transcript("Some stray text came first.\nAnd more.\n\nJane Doe: Hi.")

    assert [(turn.speaker, turn.role) for turn in call.turns] == [
        ("Unknown", "unknown"),
        ("Jane Doe", "unknown"),
    ]
    assert call.turns[0].text == "Some stray text came first.\nAnd more."


def test_text_behind_a_closing_list_of_participants_is_kept_as_unknown():
    """A list at the end takes no words from the last speaker, and what follows it is nobody's."""
    call = parse_transcript(
        "Jane Doe -- CEO\n\nWe grew.\n\nTom Ek -- Calder -- Analyst\n\nWhy?\n\nCall participants:\n\nJane Doe -- CEO\n\n"
        "Tom Ek -- Calder -- Analyst\n\nAll rights reserved."
    )

    assert [(t.speaker, t.text) for t in call.turns] == [
        ("Jane Doe", "We grew."),
        ("Tom Ek", "Why?"),
        ("Unknown", "All rights reserved."),
    ]


def test_a_page_head_that_recurs_is_no_speaker():
    """A company's name that stands on its own line of every page stays text where the speakers are named otherwise."""
    call = parse_transcript(
        "Jane Doe -- CEO\n\nWe grew.\n\nAlder Creek\n\nAnd grew.\n\nAlder Creek\n\nAgain."
    )

    assert list(call.speakers) == ["Jane Doe"]
    assert call.speakers["Jane Doe"].count("Alder Creek") == 2


@pytest.mark.parametrize(
    ("entry", "title", "affiliation", "role"),
    [
        ("Jane Doe -- Chief Executive Officer", "Chief Executive Officer", None, "executive"),
        ("Jane Doe, EVP & CFO", "EVP & CFO", None, "executive"),
        ("Jane Doe (Head of Investor Relations)", "Head of Investor Relations", None, "executive"),
        ("* Jane Doe; Director of Finance", "Director of Finance", None, "executive"),
        ("Jane Doe -- Harbor Lane -- Analyst", "Analyst", "Harbor Lane", "analyst"),
        ("Jane Doe, Harbor Lane - Senior Analyst", "Senior Analyst", "Harbor Lane", "analyst"),
        ("Jane Doe - Harbor Lane Securities", None, "Harbor Lane Securities", "analyst"),
        ("Jane Doe\nChief Executive Officer", "Chief Executive Officer", None, "executive"),
        ("Jane Doe\nHarbor Lane Securities, Analyst", "Analyst", "Harbor Lane Securities", "analyst"),
        ("Jane Doe - Fernhill Foods", None, "Fernhill Foods", "executive"),
    ],
)
def test_lists_of_participants_give_titles_and_roles(entry, title, affiliation, role):
    """A bare name before a colon gets title, house and role from the list of participants, in each form of entry."""
    call = parse_transcript(
        f"Fernhill Foods (FNH) Q1 2025\n\nParticipants:\n{entry}\nMark Roe, CEO\n\nJane Doe: Hi.\nMark Roe: Ho."
    )

    person = call.people["Jane Doe"]
    assert (person.title, person.affiliation, person.role) == (title, affiliation, role)
    assert [turn.text for turn in call.turns] == ["Hi.", "Ho."]
    assert entry.split("\n")[0] in call.header


def test_listed_people_who_do_not_speak_are_known():
    """Somebody on the list who says nothing is among the people and not among the speakers."""
    call = parse_transcript("Participants: Jane Doe, CEO; Mark Roe, CFO\n\nJane Doe: Hi.")

    assert call.people["Mark Roe"].title == "CFO"
    assert list(call.speakers) == ["Jane Doe"]


@pytest.mark.parametrize(
    ("front", "company", "ticker", "quarter", "date"),
    [
        (
            "Fernhill Foods, Inc. (NYSE: FNH)\nThird Quarter 2025 Earnings Call\nOctober 28, 2025, 8:30 a.m. ET",
            "Fernhill Foods, Inc.",
            "FNH",
            "Q3 2025",
            "2025-10-28",
        ),
        ("Fernhill Foods (FNH) Q3 2025 Earnings Call Transcript", "Fernhill Foods", "FNH", "Q3 2025", None),
        (
            "Transcript of the Fernhill Foods 3Q25 Results Call\n28 Oct 2025",
            "Fernhill Foods",
            None,
            "Q3 2025",
            "2025-10-28",
        ),
        (
            "Company: Fernhill Foods\nTicker: FNH\nQuarter: Q3 FY2025\nDate: 2025-10-28",
            "Fernhill Foods",
            "FNH",
            "Q3 2025",
            "2025-10-28",
        ),
        (
            "Fernhill Foods\nFourth Quarter and Full Year 2024 Results",
            "Fernhill Foods",
            None,
            "Q4 2024",
            None,
        ),
        ("# Fernhill Foods -- Q3 2025 Earnings Call", "Fernhill Foods", None, "Q3 2025", None),
        ("Fernhill Foods: Q3 2025 Earnings Call", "Fernhill Foods", None, "Q3 2025", None),
        ("NASDAQ: FNH", None, "FNH", None, None),
        ("Fernhill Foods (FNH 0.35%)", "Fernhill Foods", "FNH", None, None),
        ("Fernhill Foods (FNH -1.2%)", "Fernhill Foods", "FNH", None, None),
        ("Q3 2025 Fernhill Foods Inc Earnings Call", "Fernhill Foods Inc", None, "Q3 2025", None),
        ("Q3 FY26 Fernhill Foods Conference Call", "Fernhill Foods", None, "Q3 2026", None),
        ("Q3 2025 Preliminary Results Conference Call", None, None, "Q3 2025", None),
        ("Q3 2025 Earnings Call", None, None, "Q3 2025", None),
        ("Q3 Earnings Call, 05/06/2025", None, None, "Q3", None),
        ("Earnings Call, 10/28/2025", None, None, None, "2025-10-28"),
        ("", None, None, None, None),
    ],
)
@pytest.mark.parametrize("label", ["Jane Doe -- CEO\n\n", "Jane Doe: "])
def test_title_lines_fill_the_facts_and_are_no_speech(front, company, ticker, quarter, date, label):
    """Lines before the first label give company, ticker, quarter and date, None where they do not say; none is a turn."""
    call = parse_transcript(f"{front}\n\n{label}Q1 2019 and (XYZ) were good.")

    found = (call.company, call.ticker, call.quarter, str(call.date) if call.date else None)
    assert found == (company, ticker, quarter, date)
    assert len(call.turns) == 1
    assert call.header == front.replace("\n\n", "\n")


@pytest.mark.parametrize("gap", ["", "\n"], ids=["close", "apart"])
def test_a_house_in_capitals_in_parentheses_is_no_ticker(gap):
    """A label such as "Tom Ek (UBS):" on a line of its own names the analyst, in any case, and starts the turn."""
    for name in ("Tom Ek", "TOM EK"):
        call = parse_transcript(
            f"Jane Doe (CEO):\nWe grew.\n{gap}{name} (UBS):\nBy how much?\n{gap}Jane Doe (CEO):\nA lot."
        )
        assert [(turn.speaker, turn.text) for turn in call.turns] == [
            ("Jane Doe", "We grew."),
            (name, "By how much?"),
            ("Jane Doe", "A lot."),
        ]
        assert call.people[name].affiliation == "UBS"


@pytest.mark.parametrize("label", ["SPEAKER_00:", "[SPEAKER_00]:", "Speaker 0:"])
def test_the_speakers_of_a_diarisation_are_labels(label):
    """What tools that tell voices apart call the speakers are names of speakers."""
    call = parse_transcript(
        f"{label} We grew.\n\n{label.replace('0:', '1:').replace('0]', '1]')} By how much?"
    )
    assert [turn.text for turn in call.turns] == ["We grew.", "By how much?"]
    assert len(call.speakers) == 2


def test_a_bar_parts_name_and_house_as_a_dash_does():
    """A line of its own such as "Tom Ek | UBS" is a label, and not the end of the speech before it."""
    call = parse_transcript("Jane Doe | CEO\n\nWe grew.\n\nTom Ek | UBS\n\nBy how much?")
    assert [(turn.speaker, turn.text) for turn in call.turns] == [
        ("Jane Doe", "We grew."),
        ("Tom Ek", "By how much?"),
    ]
    assert call.people["Tom Ek"].affiliation == "UBS"


def test_a_name_with_a_house_in_parentheses_is_a_label_where_it_recurs():
    """Said by itself once it may be a place that was opened; said twice it is who speaks."""
    call = parse_transcript(
        "Jane Doe (CEO)\n\nWe opened\n\nFernhill Mitte (Berlin)\n\nTom Ek (Harbor Lane)\n\nHow was it?\n\n"
        "Jane Doe (CEO)\n\nGood.\n\nTom Ek (Harbor Lane)\n\nThanks."
    )
    assert [(turn.speaker, turn.text) for turn in call.turns] == [
        ("Jane Doe", "We opened\n\nFernhill Mitte (Berlin)"),
        ("Tom Ek", "How was it?"),
        ("Jane Doe", "Good."),
        ("Tom Ek", "Thanks."),
    ]


@pytest.mark.parametrize("label", ["**{}** (CEO)", "**{}** -- CEO", "**{} (CEO)**", "**{}** | CEO"])
def test_a_name_in_bold_is_a_name(label):
    """Markdown around the name alone, or around the whole label, is neither name nor title."""
    call = parse_transcript(
        f"{label.format('Jane Doe')}\n\nWe grew by **5%**.\n\n{label.format('Tom Ek')}\n\nIndeed."
    )
    assert [(turn.speaker, turn.text) for turn in call.turns] == [
        ("Jane Doe", "We grew by **5%**."),
        ("Tom Ek", "Indeed."),
    ]
    assert call.people["Tom Ek"].title == "CEO"
