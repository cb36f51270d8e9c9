"""One call in many layouts gives the same turns; calls without questions; colons inside speech."""

import pytest

from analysis_kit.transcripts.parse import parse_transcript

#: Speaker -> title and house, as the participants of the one call that every layout below writes down.
PEOPLE = {
    "Operator": (None, None),
    "Nora Whitlock": ("Chief Executive Officer", None),
    "Victor Amadi": ("Chief Financial Officer", None),
    "Elena Sorvino": ("Analyst", "Kestrel Capital"),
    "Mei-Lin van der Croft": ("Analyst", "Bernmark"),
}
SPEECHES = [
    ("Operator", "Welcome. A question-and-answer session will follow. Please begin, Nora Whitlock."),
    (
        "Nora Whitlock",
        "Good morning. But know this: we grew 5%.\nBut know this: it was hard.\n\nMargins held.",
    ),
    (
        "Victor Amadi",
        "Net sales were $186.4 million -- up 11% -- and debt fell.\nGuidance: we raise it to $770 million.",
    ),
    ("Operator", "Our first question comes from the line of Elena Sorvino with Kestrel Capital."),
    ("Elena Sorvino", "Is it flour - or the new line?"),
    ("Victor Amadi", "Both."),
    ("Elena Sorvino", "And next year?"),
    ("Nora Whitlock", "Too early to say"),
    ("Operator", "The next question is from Mei-Lin van der Croft with Bernmark."),
    ("Mei-Lin van der Croft", "Capacity?"),
    ("Nora Whitlock", "Thirty-five million a quarter."),
    ("Operator", "That concludes the call."),
]
SECTIONS = {
    "Prepared remarks": 3,
    "Q&A 1: Elena Sorvino": 5,
    "Q&A 2: Mei-Lin van der Croft": 4,
}
HEADER = "Fernhill Bakeries, Inc. (NASDAQ: FNH)\nQ1 2025 Earnings Call\nApril 24, 2025\n\n"


def dashed(dash, *, gap="\n\n", before_text="\n\n"):
    """Write the call with titles behind a dash."""

    def label(name):
        title, house = PEOPLE[name]
        return dash.join(part for part in (name, house, title) if part)

    return HEADER + gap.join(f"{label(name)}{before_text}{text}" for name, text in SPEECHES)


def next_line(blank):
    """Write the call with each title on the line after the name."""

    def label(name):
        title, house = PEOPLE[name]
        return f"{name}{blank}{house + ' -- ' if house else ''}{title}" if title else name

    return HEADER + "\n\n".join(f"{label(name)}\n\n{text}" for name, text in SPEECHES)


def colon(*, gap="\n\n", titled="first", shape="{name}, {title}", frame="{}:", before_text=" "):
    """Write the call with labels before a colon, titles at the first or at every label."""
    seen = set()
    parts = []
    for name, text in SPEECHES:
        title, house = PEOPLE[name]
        label = name
        if title and (titled == "always" or name not in seen):
            label = shape.format(name=name, title=f"{house}, {title}" if house else title)
        seen.add(name)
        parts.append(f"{frame.format(label)}{before_text}{text}")
    return HEADER + gap.join(parts)


def listed(label="{name}", *, gap="\n", operator="Operator", before_text="\n"):
    """Write the call with a list of participants, and bare names as labels."""
    company = "".join(f"{n} - {t}\n" for n, (t, h) in PEOPLE.items() if t and not h)
    callers = "".join(f"{n} - {h} - {t}\n" for n, (t, h) in PEOPLE.items() if h)
    lists = f"Company Participants\n{company}\nConference Call Participants\n{callers}\n"
    heads = {name: label.format(name=name) for name in PEOPLE} | {"Operator": operator}
    return HEADER + lists + gap.join(f"{heads[name]}{before_text}{text}" for name, text in SPEECHES)


def marked():
    """Write the call as some services do, with Q and A before the names of the second half."""
    company = "".join(f"{n} - {t}\n" for n, (t, h) in PEOPLE.items() if t and not h)
    callers = "".join(f"{n} - {h} - {t}\n" for n, (t, h) in PEOPLE.items() if h)
    lists = (
        f"CORPORATE PARTICIPANTS\n{company}\nOTHER PARTICIPANTS\n{callers}\nMANAGEMENT DISCUSSION SECTION\n\n"
    )
    parts = []
    for at, (name, text) in enumerate(SPEECHES):
        mark = "" if at < 4 or name == "Operator" else "Q - " if PEOPLE[name][1] else "A - "
        parts.append(f"{mark}{name}\n{text}")
        if at == 2:
            parts.append("QUESTION AND ANSWER SECTION")
    return HEADER + lists + "\n\n".join(parts)


def marked_under():
    """Write the call with Q and A alone under the titles, and rows of dots between the speeches."""
    parts = []
    for at, (name, text) in enumerate(SPEECHES):
        title, house = PEOPLE[name]
        known_as = f"{house} -- {title}" if house else title
        mark = "" if at < 4 or not title else "\nQ" if house else "\nA"
        parts.append(f"{name}\n{known_as}{mark}\n{text}" if title else f"{name}: {text}")
        if at == 2:
            parts.append("QUESTION AND ANSWER SECTION")
    return HEADER + f"\n{'.' * 90}\n".join(parts)


def ruled():
    """Write the call with numbered labels between drawn lines."""
    parts = []
    for number, (name, text) in enumerate(SPEECHES, start=1):
        title, house = PEOPLE[name]
        known_as = f", {house} - {title}" if house else f" - {title}" if title else ""
        parts.append(f"{'-' * 60}\n{name}{known_as}   [{number}]\n{'-' * 60}\n{text}")
    return HEADER + "=" * 60 + "\nPresentation\n" + "=" * 60 + "\n" + "\n".join(parts)


BASE = dashed(" -- ")
LAYOUTS = {
    "double hyphen": BASE,
    "double hyphen without spaces": dashed("--"),
    "en dash": dashed(" \u2013 "),
    "em dash": dashed(" \u2014 "),
    "em dash without spaces": dashed("\u2014"),
    "hyphen with spaces": dashed(" - "),
    "no blank lines": dashed(" -- ", gap="\n", before_text="\n"),
    "title on the next line": next_line("\n"),
    "title after a blank line": next_line("\n\n")
    .replace("\n\nKestrel", "\nKestrel")
    .replace("\n\nBern", "\nBern"),
    "name, title:": colon(),
    "name, title: every time": colon(titled="always"),
    "name (title):": colon(shape="{name} ({title})"),
    "name -- title:": colon(shape="{name} -- {title}"),
    "colon, no blank lines": colon(gap="\n"),
    "colon, text on the next line": colon(before_text="\n"),
    "colon, full-width": colon(frame="{}\uff1a"),
    "bold Markdown": colon(frame="**{}:**"),
    "clock before the name": colon(frame="[00:12:33] {}:"),
    "clock behind the name": colon(frame="{} (12:33):"),
    "list, bare names": listed(),
    "list, names in capitals": HEADER
    + listed("{name}:", operator="OPERATOR:", before_text=" ")
    .removeprefix(HEADER)
    .replace("Nora Whitlock:", "NORA WHITLOCK:"),
    "list, operator in brackets": listed(operator="[Operator]"),
    "list, surnames before a colon": listed("{name}:", operator="Operator:", before_text=" ").replace(
        "Victor Amadi:", "Amadi:"
    ),
    "Q and A before the names": marked(),
    "Q and A under the titles": marked_under(),
    "numbered, between rules": ruled(),
    "CRLF": BASE.replace("\n", "\r\n"),
    "CR": BASE.replace("\n", "\r"),
    "byte order mark": "\ufeff" + BASE,
    "NBSP": BASE.replace(" ", "\u00a0"),
    "thin spaces around the dash": BASE.replace(" -- ", "\u2009\u2014\u2009").replace(
        "million\u2009\u2014\u2009up 11%\u2009\u2014\u2009and", "million -- up 11% -- and"
    ),
    "direction marks at the labels": BASE.replace("\nNora", "\n\u200fNora").replace(
        "Officer\n", "Officer\u200e\n"
    ),
    "indented": "\n".join("    " + line for line in BASE.split("\n")),
    "trailing spaces": BASE.replace("\n", "  \n"),
    "headings": BASE.replace("Operator\n\nWelcome", "Prepared Remarks:\n\nOperator\n\nWelcome").replace(
        "Operator\n\nOur first", "Questions & Answers:\n\nOperator\n\nOur first"
    ),
    "soft hyphens": BASE.replace("Margins", "Mar\u00adgins"),
    "ligatures of a PDF": BASE.replace("flour", "\ufb02our").replace("Officer", "O\ufb03cer"),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_T4_every_layout_of_one_call_gives_the_same_turns(layout):
    """The same call in each layout has the same turns, sections, roles, people and facts, and speech is joined exactly."""
    call = parse_transcript(LAYOUTS[layout])

    assert [(turn.speaker, turn.text) for turn in call.turns] == SPEECHES
    assert {name: sum(turn.section == name for turn in call.turns) for name in call.sections} == SECTIONS
    assert call.turns == parse_transcript(BASE).turns
    people = {name: (person.title, person.affiliation) for name, person in call.people.items()}
    assert people == PEOPLE
    assert (call.company, call.ticker, call.quarter, str(call.date)) == (
        *("Fernhill Bakeries, Inc.", "FNH", "Q1 2025"),
        "2025-04-24",
    )


@pytest.mark.parametrize(
    "text",
    [
        "Operator: Welcome.\n\nNora Whitlock, CEO: We grew.\n\nOperator: Goodbye.",
        "Operator\n\nWelcome.\n\nNora Whitlock -- CEO\n\nWe grew.\n\nQuestions and Answers\n",
        '{"turns": [{"speaker": "Operator", "text": "Welcome."}, {"speaker": "Nora Whitlock", "text": "We grew."}]}',
        "WEBVTT\n\n00:01.000 --> 00:02.000\n<v Operator>Welcome.\n\n00:02.000 --> 00:03.000\n<v Nora Whitlock>We grew.",
    ],
)
def test_T1_a_call_without_questions_has_one_prepared_section(text):
    """No questions, in any format: one section of prepared remarks with every turn, and no section of questions."""
    call = parse_transcript(text)

    assert list(call.sections) == ["Prepared remarks"]
    assert "We grew." in call.sections["Prepared remarks"]


INLINE = [
    "Make No Mistake: we will win.",
    "Long Story Short: we won.",
    "Case In Point: Alder Creek.",
    "Alder Creek: up 5%.",
    "Simply Put: good.",
    "But know this: we will win.",
    "And here is the thing: it works.",
    "Remember: cash is king.",
    "Guidance: we raise it.",
    "Bottom Line: up again.",
    "Free Cash Flow: $52 million.",
    "Industrial Coatings: sales rose 8%.",
    "Our Plan: grow.",
    "Three Things: one, two, three.",
    "To sum up: good.",
    "At 10:30 we open.",
    "https://example.com is our site",
    "Europe: up 5%.",
    "Q3: a record.",
    "North America -- strong",
    "Thank you -- Good night",
    "In short, Nora: no.",
    "Yes, Chief: I agree.",
    "We asked Nora Whitlock: she agreed.",
    "Nora Whitlock, who joined in May: welcome.",
    "Price: up 2%.",
    "[Operator Instructions]",
    "(Operator Instructions)",
    "Nora Whitlock -- our chief executive -- will explain",
    "Revenue - Americas",
]


@pytest.mark.parametrize("style", ["line", "colon"])
@pytest.mark.parametrize("line", INLINE)
def test_T2_an_inline_colon_or_dash_is_speech(line, style):
    """A line inside a speech that is only like a label stays in the turn, word for word, in both kinds of layout."""
    end = "\n\n" if style == "line" else ": "
    title = " -- CEO" if style == "line" else ", CEO"
    text = (
        f"Operator{end}Welcome.\n\nNora Whitlock{title}{end}We begin.\n{line}\nWe go on.\n\n"
        f"Victor Amadi{title}{end}Thanks.\n\nMichael Price{title}{end}Ditto.\n\nOperator{end}Bye."
    )
    call = parse_transcript(text)

    assert [turn.speaker for turn in call.turns] == [
        "Operator",
        "Nora Whitlock",
        "Victor Amadi",
        "Michael Price",
        "Operator",
    ]
    assert call.turns[1].text == f"We begin.\n{line}\nWe go on."


def test_T2_a_line_that_recurs_inside_speech_is_still_speech():
    """A segment's name before a colon that comes in two speeches is no speaker where speakers have titles in another layout."""
    text = "Nora Whitlock -- CEO\n\nWe grew.\nAlder Creek: up 5%.\n\nVictor Amadi -- CFO\n\nNumbers.\nAlder Creek: up 7%.\nBut know this: hm.\n"
    call = parse_transcript(text)

    assert list(call.speakers) == ["Nora Whitlock", "Victor Amadi"]


def test_dotted_lines_part_speeches_and_say_nothing():
    """A line of dots is drawn, as some services draw it between speeches; three dots are still an ellipsis."""
    line = "." * 120
    call = parse_transcript(
        "\n".join(
            [
                *("Fernhill Foods (FNH)", "Q3 2025 Earnings Call", "", "OTHER PARTICIPANTS", "", "Tom Ek"),
                *("Analyst, Harbor Lane", "", line, "", "Operator: Welcome.", line, "", "Jane Doe"),
                *("Chief Executive Officer, Fernhill Foods", "", "We grew", "...", line, "", "Tom Ek"),
                *("Analyst, Harbor Lane", "", "By how much?", line),
            ]
        )
    )
    assert [(turn.speaker, turn.text) for turn in call.turns] == [
        ("Operator", "Welcome."),
        ("Jane Doe", "We grew\n..."),
        ("Tom Ek", "By how much?"),
    ]
    assert list(call.sections) == ["Prepared remarks", "Q&A 1: Tom Ek"]


def test_the_company_may_stand_behind_the_quarter():
    """A title such as "Q2 2024 Acme Corp Earnings Call" names the company, under a line that names the service."""
    call = parse_transcript(
        "REFINITIV STREETEVENTS\nEDITED TRANSCRIPT\nQ2 2024 Acme Corp Earnings Call\n\n"
        "EVENT DATE/TIME: JULY 25, 2024 / 12:30PM GMT\n\nPRESENTATION\n\nJane Doe -- CEO\n\nWe grew."
    )
    assert (call.company, call.quarter, str(call.date)) == ("Acme Corp", "Q2 2024", "2024-07-25")
    assert parse_transcript("Q2 2024 Earnings Call\n\nJane Doe -- CEO\n\nWe grew.").company is None
