"""What a name, a title, a house and a role look like: the words that labels are told from speech by."""

from __future__ import annotations

import re

from analysis_kit.transcripts.model import Role


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


#: Lower-case words that stand inside names.
PARTICLES = _words(
    "af al ap bin da das de del della den der di do dos du e el ibn la le ten ter van von y zu"
)
_CONNECTORS = _words("a and at de der des et for für in of on the to und")
#: Never part of a name: a head with one of these is speech.
_GRAMMAR = _words(
    """about after again all also although any are around as because been before being but by can could did does
    from had has have her here his how i if into is it its just know let like me my not now our over please she
    should some than thank thanks that their them then there these they this those through under until was we
    were what when where which while who why with would yes you your"""
)
#: Words of business and of discourse: a head with one is no name on its own account.
_BUSINESS = _words(
    """account additionally adjusted agenda alert americas amortization annual answer answers asia ask
    assets assumptions assured average backlog balance begin bluntly bookings bottom brazil brief briefly
    business businesses canada candidly capacity capex capital case cash category caution cautionary caveat
    challenge challenges channel channels china clear clearly closing comments commercial company comparable
    compare conclusion consequently consider consumer continuing core corporate cost costs countries
    currency customer customers date dear debt definition demand depreciation detail details digital
    disclaimer disclosure discussion dividend dollars domestic earlier earnings ebitda efficiency emea
    energy enough eps equipment europe event example exchange execution expectations expense expenses
    exports fact factor facts fair final finally finance financial financials fiscal five focus following
    footnote forecast foreign forward four fourth frankly free full fun further germany give global goal
    goals good goodbye great gross group growth guidance half headwinds healthcare hello hi highlights
    however imagine impact importantly improvement income indeed india industrial industries industry
    inflation initiative initiatives innovation instructions interest interestingly international
    inventories inventory investment investments item items japan keep key last leverage line liquidity
    listen logistics long look loss lower make manufacturing margin margins market marketing markets
    materials math measures message metrics mistake model momentum monthly net next no north notably note
    number numbers objective objectives obviously okay one operating operational operations opportunity
    orders other outlook overall overview part people performance perhaps period picture pillar pillars
    pipeline plan plans platform point points portfolio prepared presentation price prices pricing
    priorities priority pro problem procurement product production products profit profitability program
    progress project projects purpose put quarter quarterly question questions quick range rather re
    realistically reason recall record regarding region regions remarks remember reminder research result
    results retail retention return revenue revenues review risk risks safe safety sales savings say says
    scale schedule second secondly section sector see segment segments semiconductor service services share
    shares short similarly simply six so software solutions source south specifically spending spoiler start
    statement statements step steps still story strategic strategy study subject success summary supply
    suppose sure sustainability synergies system systems take takeaway takeaways target targets tax taxes
    team technologies technology term terms theme themes therefore thing things think third thirdly thought
    thoughts three throughput time timing tip title today together tomorrow top topic topics total
    transcript transition translation trend trends truth two ultimately unfortunately unit units update
    value view visit volume volumes warning well wholesale working world year years yesterday"""
)
_TITLE = _words(
    """analyst associate avp cao ceo cfo chair chairman chairperson chairwoman chief cio cmo co-founder cofounder
    comptroller controller coo coordinator counsel cro cto director evp executive founder head host manager managing
    moderator officer operator partner president principal relations representative secretary strategist svp
    treasurer vice vp"""
)
_HOUSE = _words(
    """advisers advisors bank brokerage brokers capital equities equity markets partners research securities"""
)
_LONGEST_NAME, _NAME_WORDS, _TITLE_WORDS, _HOUSE_WORDS = 64, 6, 16, 8
_LETTERS = re.compile(r"[^\W\d_](?:[^\W\d_]|[-'\u2019.\u0300-\u036f])*")
_GENERATION = re.compile(r",\s*((?:Jr|Sr|II|III|IV|Ph\.?D|M\.?D|CFA|CPA|Esq)\b\.?)", re.IGNORECASE)
_NO_SENTENCE_END = _words(
    "a.m. ag. bros. cie. co. corp. inc. jr. llc. ltd. n.v. p.l.c. p.m. plc. s.a. s.p.a. sr. st. u.k. u.s."
)
_END = re.compile(r"[.!?\u2026][\"\u201d\u2019')\]]*$")
_DASHES = re.compile(r"\s*(?:--+|[\u2013\u2014\u2015|])\s*|\s+-\s*|-\s+")
_SEPARATOR = re.compile(r"\s*(?:--+|[\u2013\u2014\u2015])\s*|\s+-\s*|-\s+|\s*[,;|(\[]\s*")

_NAMELESS = re.compile(
    r"(?P<operator>(?:the |conference |call )?(?:operator|moderator|coordinator|facilitator))"
    r"|(?P<analyst>(?:(?:unidentified|unknown) )?analyst(?: \d+)?|(?:unidentified|unknown) (?:questioner|caller))"
    r"|(?P<executive>(?:(?:unidentified|unknown) )?(?:(?:company|corporate) )?(?:executive|representative)(?: \d+)?"
    r"|unidentified (?:company|corporate) (?:speaker|participant)|ceo|cfo|coo|cto)"
    r"|(?P<unknown>(?:unidentified|unknown) (?:speaker|participant)|unknown|speaker[ _][a-z0-9]{1,3}|participant \d+)",
    re.IGNORECASE,
)


def nameless_role(text: str) -> Role | None:
    """Return the role of a label that says what somebody is and not who ("Operator", "Unidentified Analyst")."""
    found = _NAMELESS.fullmatch(text) if len(text) <= _LONGEST_NAME else None
    roles: dict[str | None, Role] = {"operator": "operator", "analyst": "analyst", "executive": "executive"}
    return roles.get(found.lastgroup, "unknown") if found else None


def is_anonymous(name: str) -> bool:
    """Tell whether two turns under ``name`` may be two people's."""
    return nameless_role(name) in ("analyst", "unknown") or name == "Q"


def is_name(text: str) -> bool:
    """Tell whether ``text`` has a name's shape: one to six words with capitals, particles and initials only.

    Examples
    --------
    >>> is_name("Ludwig van der Berg Jr."), is_name("But know this")
    (True, False)
    """
    words = text.split()
    if not 0 < len(words) <= _NAME_WORDS or len(text) > _LONGEST_NAME:
        return False
    capitals = 0
    for word in words:
        core = word.strip("\"\u201c\u201d'\u2018\u2019.,")
        if not _LETTERS.fullmatch(core):
            return False
        # Scripts without capitals (Chinese, Arabic) have no lower case either: their words may be names.
        if core[0].islower():
            if core not in PARTICLES and core[:2] not in ("d'", "d\u2019", "o'", "o\u2019"):
                return False
        else:
            capitals += 1
    return capitals > 0


def speaks(text: str) -> bool:
    """Tell whether ``text`` has a word that names, titles and houses do not have ("our", "this")."""
    return not _GRAMMAR.isdisjoint(word.strip(",;.!?()") for word in text.casefold().split())


def is_full_name(text: str) -> bool:
    """Tell whether a name has more than one word; scripts without spaces write a whole name as one."""
    return " " in text or not text.isascii()


def is_likely_name(text: str) -> bool:
    """Tell whether a name-shaped ``text`` is likely a person though nothing else says so."""
    words = text.casefold().replace(",", " ").split()
    return (
        not speaks(text)
        and _BUSINESS.isdisjoint(words)
        and (_CONNECTORS - PARTICLES).isdisjoint(words[:-1])
        and not words[-1].endswith(("tion", "tions", "ment", "ments", "ness", "ities", "ability"))
    )


def ends_sentence(text: str) -> bool:
    """Tell whether ``text`` ends as a sentence does, and not in "Inc." or "a.m."."""
    return bool(_END.search(text)) and text.rsplit(maxsplit=1)[-1].casefold() not in _NO_SENTENCE_END


def _in_capitals(words: list[str], *, allow: frozenset[str]) -> bool:
    return all(not word[0].islower() or word in _CONNECTORS or word in allow for word in words)


def is_title(text: str) -> bool:
    """Tell whether ``text`` is a position ("Vice President of Investor Relations"), and not speech about one."""
    words = text.replace(",", " ").replace("/", " ").replace("&", " ").split()
    if not 0 < len(words) <= _TITLE_WORDS or text[0] in "([" or ends_sentence(text) or speaks(text):
        return False
    words = [word.strip("().") or "-" for word in words]
    return not _TITLE.isdisjoint(word.casefold() for word in words) and _in_capitals(words, allow=_TITLE)


def is_house(text: str) -> bool:
    """Tell whether ``text`` may be a firm's name ("Harbor Lane Securities")."""
    words = text.split()
    return (
        0 < len(words) <= _HOUSE_WORDS
        and not ends_sentence(text)
        and not speaks(text)
        and _in_capitals(words, allow=frozenset())
        and any(word[0].isalpha() for word in words)
    )


def is_research_house(text: str | None) -> bool:
    """Tell whether ``text`` names a house that analysts speak for."""
    return text is not None and not _HOUSE.isdisjoint(text.casefold().replace(",", " ").split())


def role_of(title: str | None, affiliation: str | None = None) -> Role:
    """Return the role that a title and a house stand for.

    Examples
    --------
    >>> role_of("Chief Financial Officer"), role_of("Analyst", "Harbor Lane"), role_of(None)
    ('executive', 'analyst', 'unknown')
    """
    words = set((title or "").casefold().replace(",", " ").replace("/", " ").split())
    if "analyst" in words:
        return "analyst"
    if words & {"operator", "moderator", "coordinator"}:
        return "operator"
    if words & _TITLE:
        return "executive"
    return "analyst" if is_research_house(affiliation) else "unknown"


def split_person(head: str) -> tuple[str, str, list[str]]:
    """Split a label's head into name, separator ("-" for any dash, ",", "(", "") and the parts behind it.

    Examples
    --------
    >>> split_person("Priya Nair -- Harbor Lane -- Analyst")
    ('Priya Nair', '-', ['Harbor Lane', 'Analyst'])
    """
    head = _GENERATION.sub(r" \1", head)
    found = _SEPARATOR.search(head)
    if not found:
        return head.strip(), "", []
    mark = found.group().strip()
    kind = "-" if mark[0] in "-\u2013\u2014\u2015" else "(" if mark in "([" else ","
    rest = head[found.end() :].rstrip(" )]" if kind == "(" else " ")
    return head[: found.start()].strip(), kind, split_dashes(rest)


def split_dashes(text: str) -> list[str]:
    """Return the parts of ``text`` between bars and dashes of any kind (hyphens only beside a space)."""
    return [part for part in _DASHES.split(text) if part]


def title_and_house(parts: list[str]) -> tuple[str | None, str | None] | None:
    """Return title and affiliation from what stands behind a name; None if it is neither.

    Examples
    --------
    >>> title_and_house(["Analyst, Harbor Lane"])
    ('Analyst', 'Harbor Lane')
    >>> title_and_house(["we grew again"]) is None
    True
    """
    titles = [part for part in parts if is_title(part)]
    others = [part for part in parts if part not in titles]
    if not parts or not all(is_house(part) for part in others):
        return None
    if len(titles) == 1 and not others and role_of(titles[0]) == "analyst":
        pieces = [piece.strip() for piece in titles[0].split(",")]
        titles = [piece for piece in pieces if is_title(piece)]
        others = [piece for piece in pieces if piece not in titles]
    return ", ".join(titles) or None, ", ".join(others) or None
