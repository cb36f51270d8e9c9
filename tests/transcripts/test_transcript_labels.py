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
        ("Q3 FY26 Fernhill Foods (NYSE: FNH) Conference Call", "Fernhill Foods", "FNH", "Q3 2026", None),
        ("Q3 FY26 Fernhill Foods Conference Call", None, None, "Q3 2026", None),
        ("Q3 2025 Media Conference Call", None, None, "Q3 2025", None),
        ("Q3 2025 Live Earnings Call", None, None, "Q3 2025", None),
        ("Q3 2025 Edited Transcript", None, None, "Q3 2025", None),
        ("Q3 2025 Strong Results Call", None, None, "Q3 2025", None),
        ("Q3 2025 Dividend Results Call", None, None, "Q3 2025", None),
        ("Q3 2025 Group Results Call", None, None, "Q3 2025", None),
        ("Q3 2025 Holdings Results Call", None, None, "Q3 2025", None),
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


SPOKEN = "Operator\n\nWelcome.\n\nJane Doe -- CEO\n\nWe saw\n{}\nagain.\n\nTom Ek -- Harbor Lane -- Analyst\n\nSo\n{}\ntoo?"


@pytest.mark.parametrize("gap", ["", "\n"], ids=["close", "apart"])
@pytest.mark.parametrize(
    "line",
    [
        "Acme Inc | Earnings Call",
        "FactSet Research | Confidential",
        "North America | Europe",
        "Latin America (LATAM):",
        "Animal Health (AH):",
        "Ozempic Plus (Diabetes)",
        "Fernhill Mitte (Berlin)",
    ],
)
def test_page_feet_regions_and_products_do_not_speak(line, gap):
    """Lines in a speech that are shaped like a name and a house are speech, though they recur."""
    call = parse_transcript(SPOKEN.format(*[f"{gap}{line}{gap}"] * 2))
    assert [(turn.speaker, turn.text) for turn in call.turns] == [
        ("Operator", "Welcome."),
        ("Jane Doe", f"We saw\n{gap}{line}{gap}\nagain."),
        ("Tom Ek", f"So\n{gap}{line}{gap}\ntoo?"),
    ]


def test_regions_in_a_row_do_not_speak():
    """Several "Latin America (LATAM):" do not make each other labels."""
    regions = "Latin America (LATAM):\nIt rose 5%.\n\nAsia Pacific (APAC):\nIt fell."
    call = parse_transcript(f"Jane Doe (CEO):\nBy region.\n\n{regions}\n\nTom Ek: Why?")
    assert [turn.text for turn in call.turns] == [f"By region.\n\n{regions}", "Why?"]


@pytest.mark.parametrize("above", ["", "\n", "Transcript\n"])
def test_a_title_with_a_colon_is_no_speaker(above):
    """A company with its ticker and a colon is a title line wherever it stands in the front matter."""
    call = parse_transcript(f"{above}Acme Corp (ACME):\nQ1 2025 Earnings Call\n\nJane Doe (CEO):\nWe grew.")
    assert (call.company, call.ticker, call.quarter) == ("Acme Corp", "ACME", "Q1 2025")
    assert list(call.speakers) == ["Jane Doe"]


def test_a_title_with_a_bar_keeps_its_date():
    """A title line in two parts is no speaker, and the line under it is still a title line."""
    call = parse_transcript("Acme Inc | Transcript\nApril 24, 2025\n\nJane Doe | CEO\n\nWe grew.")
    assert (str(call.date), list(call.speakers)) == ("2025-04-24", ["Jane Doe"])


@pytest.mark.parametrize("gap", ["", "\n"], ids=["close", "apart"])
@pytest.mark.parametrize("label", ["Tom Ek (UBS):", "TOM EK (UBS):", "Tom Ek (UBS)"])
def test_a_house_in_capitals_is_no_ticker_behind_a_known_name(label, gap):
    """A line such as "Tom Ek (UBS):" starts the turn of an analyst who is listed."""
    call = parse_transcript(
        "Participants\nJane Doe -- CEO\nTom Ek -- UBS -- Analyst\n\n"
        f"Jane Doe (CEO):\nWe grew.\n{gap}{label}\nBy how much?\n{gap}Jane Doe (CEO):\nA lot."
    )
    assert [(turn.speaker, turn.text) for turn in call.turns] == [
        ("Jane Doe", "We grew."),
        ("Tom Ek", "By how much?"),
        ("Jane Doe", "A lot."),
    ]
    assert (call.people["Tom Ek"].title, call.people["Tom Ek"].affiliation) == ("Analyst", "UBS")


@pytest.mark.parametrize("label", ["SPEAKER_00:", "[SPEAKER_00]:", "Speaker 0:"])
def test_the_speakers_of_a_diarisation_are_labels(label):
    """What tools that tell voices apart call the speakers are names of speakers."""
    call = parse_transcript(
        f"{label} We grew.\n\n{label.replace('0:', '1:').replace('0]', '1]')} By how much?"
    )
    assert [turn.text for turn in call.turns] == ["We grew.", "By how much?"]
    assert len(call.speakers) == 2


def test_marks_name_a_role_only_where_none_is_known():
    """Q and A alone under labels tell analysts from executives; under another's title they are words."""
    call = parse_transcript(
        "Tom Ek -- Harbor Lane\nQ\nWhy?\n\nJane Doe -- Acme\nA\nBecause.\n\n"
        "Priya Nair -- Analyst\nA\nquestion on margin.\n\nOperator\nA\nmoment, please."
    )
    assert [(turn.speaker, turn.text, call.people[turn.speaker].role) for turn in call.turns] == [
        ("Tom Ek", "Why?", "analyst"),
        ("Jane Doe", "Because.", "executive"),
        ("Priya Nair", "A\nquestion on margin.", "analyst"),
        ("Operator", "A\nmoment, please.", "operator"),
    ]


def test_one_mark_alone_is_a_word():
    """Where no label has a Q under it, an A under one is the first word of the speech."""
    call = parse_transcript("Jane Doe -- CEO\nA\ngood year.\n\nTom Ek -- Analyst\nThanks.")
    assert [turn.text for turn in call.turns] == ["A\ngood year.", "Thanks."]


def test_titles_keep_their_last_letter():
    """A title or a house that ends in a letter of its own is not cut."""
    call = parse_transcript("Jane Doe\nDirector, Class A\nWe grew.\n\nTom Ek\nAnalyst, Harbor Q\nWhy?")
    assert call.people["Jane Doe"].title == "Director, Class A"
    assert (call.people["Tom Ek"].title, call.people["Tom Ek"].affiliation) == ("Analyst", "Harbor Q")


def test_bars_part_house_and_title_as_dashes_do():
    """Behind a name, bars stand between house and title, on its line and on the next."""
    for label in ("Tom Ek | UBS | Analyst", "Tom Ek\nAnalyst | UBS"):
        call = parse_transcript(f"Jane Doe | CEO\n\nWe grew.\n\n{label}\n\nBy how much?")
        assert [turn.speaker for turn in call.turns] == ["Jane Doe", "Tom Ek"]
        assert (call.people["Tom Ek"].title, call.people["Tom Ek"].affiliation) == ("Analyst", "UBS")


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
