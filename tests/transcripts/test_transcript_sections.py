"""Where exchanges begin and end, and which role everybody has."""

from analysis_kit.transcripts.parse import parse_transcript

TITLES = {
    "Jane": "Jane Doe -- CEO",
    "Mark": "Mark Roe -- CFO",
    "Priya": "Priya Nair -- Harbor Lane -- Analyst",
    "Tom": "Tom Ek -- Calder -- Analyst",
}


def call(script):
    """Return the sections of a call from lines "who: what", as section -> texts."""
    lines = []
    for line in script.strip().split("\n"):
        who, _, what = line.strip().partition(": ")
        lines.append(f"{TITLES.get(who, who)}\n\n{what}" if what else who)
    found = {}
    for turn in parse_transcript("\n\n".join(lines)).turns:
        found.setdefault(turn.section, []).append(turn.text)
    return found


def test_operator_lines_open_the_exchange_that_they_announce_and_close_the_last():
    """The operator's words before an analyst belong to that analyst's exchange, those at the end to the last one."""
    assert call("""
        Operator: Welcome.
        Jane: We grew.
        Operator: First, Priya.
        Priya: Why?
        Jane: So.
        Operator: Next, Tom.
        Tom: How?
        Mark: Thus.
        Operator: Goodbye.
    """) == {
        "Prepared remarks": ["Welcome.", "We grew."],
        "Q&A 1: Priya Nair": ["First, Priya.", "Why?", "So."],
        "Q&A 2: Tom Ek": ["Next, Tom.", "How?", "Thus.", "Goodbye."],
    }


def test_a_follow_up_stays_in_its_exchange_and_a_return_opens_another():
    """An analyst's follow-ups, with or without the operator, stay; coming back after another analyst is a new exchange."""
    assert call("""
        Jane: We grew.
        Priya: Why?
        Jane: So.
        Operator: Priya, go on.
        Priya: And?
        Tom: How?
        Mark: Thus.
        Priya: One more?
    """) == {
        "Prepared remarks": ["We grew."],
        "Q&A 1: Priya Nair": ["Why?", "So.", "Priya, go on.", "And?"],
        "Q&A 2: Tom Ek": ["How?", "Thus."],
        "Q&A 3: Priya Nair": ["One more?"],
    }


def test_all_before_the_first_analyst_under_a_heading_belongs_to_the_first_exchange():
    """Under "Questions and Answers" nothing falls between the prepared remarks and the first exchange."""
    assert call("""
        PREPARED REMARKS
        Jane: We grew.
        Questions and Answers:
        Operator: Press star one.
        Jane: While we wait, thanks.
        Operator: Priya.
        Priya: Why?
    """) == {
        "Prepared remarks": ["We grew."],
        "Q&A 1: Priya Nair": ["Press star one.", "While we wait, thanks.", "Priya.", "Why?"],
    }


def test_questions_without_an_analyst_are_one_section():
    """Where nobody is known to ask, the part under the heading is one section, and nothing is lost."""
    assert call("""
        Jane: We grew.
        Q&A
        Mark: Somebody wrote in.
        Jane: Yes.
    """) == {"Prepared remarks": ["We grew."], "Q&A": ["Somebody wrote in.", "Yes."]}


def test_own_headings_name_sections_and_win():
    """Headings of the text's own part the remarks and the end under their own words; a second "Outlook" is told apart."""
    found = call("""
        Opening Remarks
        Operator: Welcome.
        Financial Review
        Mark: Numbers.
        # Outlook
        Jane: Up.
        Q&A Session
        Operator: Priya.
        Priya: Why?
        ## Outlook
        Jane: Up again.
        Priya: Really?
    """)

    assert found == {
        "Prepared remarks": ["Welcome."],
        "Financial Review": ["Numbers."],
        "Outlook": ["Up."],
        "Q&A 1: Priya Nair": ["Priya.", "Why?"],
        "Outlook (2)": ["Up again.", "Really?"],
    }


def test_a_heading_inside_a_speech_cuts_it_and_the_speaker_goes_on():
    """Under a heading without a label the speaker before it goes on; underlined and capital headings count too."""
    text = "Jane Doe -- CEO\n\nHello.\n\nStrategy\n========\n\nWe plan.\n\nTHE YEAR AHEAD\n\nWe hope.\n\nGOODBYE TO ALL"
    turns = parse_transcript(text).turns

    assert [(turn.section, turn.speaker, turn.text) for turn in turns] == [
        ("Prepared remarks", "Jane Doe", "Hello."),
        ("Strategy", "Jane Doe", "We plan."),
        ("THE YEAR AHEAD", "Jane Doe", "We hope.\n\nGOODBYE TO ALL"),
    ]


def test_the_first_analyst_ends_a_heading_of_the_remarks():
    """Without a heading of questions, the exchanges begin under whatever heading the remarks ended with."""
    assert list(
        call("""
        # Review
        Jane: We grew.
        # Outlook
        Mark: Up.
        Operator: Priya.
        Priya: Why?
        Jane: So.
    """)
    ) == ["Review", "Outlook", "Q&A 1: Priya Nair"]


def test_roles_come_from_the_operator_where_titles_are_silent():
    """Without titles, whoever the operator announces for a question is an analyst and who spoke before is an executive."""
    found = parse_transcript(
        "Operator: Welcome. A question-and-answer session will follow. Jane Doe, please go ahead.\n"
        "Jane Doe: We grew.\nMark Roe: Numbers.\n"
        "Operator: Our first question comes from Priya Nair.\nPriya Nair: Why?\nJane Doe: So.\n"
        "Operator: Next is Tom Ek.\nTom Ek: How?\nLuca Maes: I can take that.\nOperator: Bye."
    )

    roles = {name: person.role for name, person in found.people.items()}
    assert roles == {
        "Operator": "operator",
        "Jane Doe": "executive",
        "Mark Roe": "executive",
        "Priya Nair": "analyst",
        "Tom Ek": "analyst",
        "Luca Maes": "unknown",
    }
    assert list(found.sections) == ["Prepared remarks", "Q&A 1: Priya Nair", "Q&A 2: Tom Ek"]


def test_roles_come_from_the_questions_under_a_heading():
    """Under a heading of questions, a new voice that asks is an analyst also where no operator speaks."""
    found = parse_transcript(
        "Jane Doe: We grew.\n\nQuestions and Answers\n\nPriya Nair: Why?\nJane Doe: So.\nTom Ek: How?\nJane Doe: Thus."
    )

    assert list(found.sections) == ["Prepared remarks", "Q&A 1: Priya Nair", "Q&A 2: Tom Ek"]
    assert found.people["Jane Doe"].role == "executive"


def test_nothing_is_inferred_about_a_talk_that_is_no_call():
    """Two people talking, without operator, titles or questions: their roles stay unknown."""
    found = parse_transcript("Alice Roe: hello?\nBob Ek: hi")

    assert {turn.role for turn in found.turns} == {"unknown"}


def test_two_unidentified_analysts_are_two_exchanges():
    """Callers without a name are told apart where the operator speaks between them."""
    found = call("""
        Operator: First caller.
        Unidentified Analyst: Why?
        Jane: So.
        Operator: Next caller.
        Unidentified Analyst: How?
        Jane: Thus.
    """)

    assert list(found) == ["Q&A 1: Unidentified Analyst", "Q&A 2: Unidentified Analyst"]


def test_a_table_of_contents_is_no_heading():
    """Headings in a list of contents before the call neither open sections nor become speech."""
    text = "Contents:\n* Prepared Remarks\n* Questions and Answers\n* Call Participants\n\nPrepared Remarks:\n\nJane Doe -- CEO\n\nHi."
    found = parse_transcript(text)

    assert [(turn.section, turn.text) for turn in found.turns] == [("Prepared remarks", "Hi.")]


def test_a_rule_above_a_label_does_not_make_a_heading_of_speech():
    """In layouts with rules around labels, a short last paragraph stays speech."""
    text = "-----\nJane Doe - CEO [1]\n-----\nWe grew.\n\nToo early\n-----\nMark Roe - CFO [2]\n-----\nYes."

    assert [turn.text for turn in parse_transcript(text).turns] == ["We grew.\n\nToo early", "Yes."]


def test_courtesies_and_names_between_turns_are_speech():
    """A short line in title case before a label is a heading only if it has words of business or of speech."""
    text = "Jane Doe -- CEO\n\nWe grew.\n\n{}\n\nMark Roe -- CFO\n\nYes."

    for line in ("Good Morning", "Thanks, Mark", "Great Quarter", "Alder Creek", "Yes", "Mark"):
        assert parse_transcript(text.format(line)).turns[0].text == f"We grew.\n\n{line}"
    assert list(parse_transcript(text.format("Segment Results")).sections) == [
        "Prepared remarks",
        "Segment Results",
    ]
