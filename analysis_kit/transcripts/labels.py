"""Which lines say who speaks: labels are told from speech by their shape, their words and by what recurs.

A label stands at the start of a line. Alone on its line it is a name with a title or a house behind any dash, a comma
or in parentheses, a name whose title is the next line, a name that is known, or a word such as "Operator". Before a
colon it may also be a bare name. What is only shaped like a name ("Industrial Coatings: ...") needs likelier words,
or to recur, or the call to be in that layout; a head with lower-case or grammar words ("But know this: ...") is speech.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from analysis_kit.transcripts.claims import Certainty, Claim, Style
from analysis_kit.transcripts.model import Role, Speaker
from analysis_kit.transcripts.names import is_full_name, is_likely_name, is_title, nameless_role

_EITHER: dict[str, Role] = {"q": "analyst", "question": "analyst", "a": "executive", "answer": "executive"}


class LabelBook:
    """The labels of one text: every claim is judged in the light of all.

    Parameters
    ----------
    claims : mapping of int to Claim
        The lines that may be labels, by number.
    people : iterable of Speaker
        Who is known from elsewhere; their bare names are labels too.
    """

    def __init__(self, claims: Mapping[int, Claim], people: Iterable[Speaker] = ()) -> None:
        self._known: dict[str, str] = {}
        self._by_part: dict[str, str | None] = {}  # None where several known names share the part
        for person in people:
            self._learn(person.name)
        for claim in claims.values():
            if claim.certainty == Certainty.SURE and not nameless_role(claim.name):
                self._learn(claim.name)
        self._labels = self._judge(claims)

    def at(self, index: int) -> Claim | None:
        """Return the label in line ``index``, under the speaker's full name; None if that line is no label."""
        return self._labels.get(index)

    def __bool__(self) -> bool:
        return bool(self._labels)

    def _learn(self, name: str) -> None:
        key = name.casefold()
        if key not in self._known:
            self._known[key] = name
            for part in set(key.split()):
                self._by_part[part] = None if part in self._by_part else name

    def _resolve(self, claim: Claim) -> str | None:
        """Return the known name that a claim stands for: itself in any case, or the only one that it is a part of."""
        key = claim.name.casefold()
        if key in self._known or claim.style == "line" or not is_likely_name(key):
            return self._known.get(key)
        return self._by_part.get(key)

    def _judge(self, claims: Mapping[int, Claim]) -> dict[int, Claim]:
        sure = Counter(claim.style for claim in claims.values() if claim.certainty == Certainty.SURE)
        usual = {style for style in ("colon", "line") if style in sure or not sure}
        counts = Counter(_key(claim) for claim in claims.values() if claim.style in usual)
        # Page heads recur too: bare names on their own lines count only where nobody is named otherwise.
        nobody = not self._known
        # Where the sure labels open paragraphs, a likely one in the middle of a paragraph ("Alder Creek: ...") is speech.
        open_up = [claim.opens for index, claim in claims.items() if index and _is_sure(claim, "colon")]
        parted = len(open_up) > 1 and all(open_up)
        for claim in claims.values():
            recurs = counts[_key(claim)] > 1
            inside = parted and claim.style == "colon" and not claim.opens
            if (claim.certainty == Certainty.LIKELY and claim.style in usual and not inside) or (
                claim.certainty == Certainty.RECURRING and recurs and (nobody or not claim.is_bare)
            ):
                self._learn(claim.name)
        paired = {"analyst", "executive"} <= {_EITHER.get(claim.name.casefold()) for claim in claims.values()}
        # First names alone are labels only where nobody has a full one: "Europe: ..." is speech elsewhere.
        first_names = not any(map(is_full_name, self._known))
        labels: dict[int, Claim] = {}
        for index, claim in claims.items():
            known = self._resolve(claim)
            either = _EITHER.get(claim.name.casefold()) if claim.style == "colon" else None
            if known:
                if not claim.title or is_title(claim.title) or counts[_key(claim)] > 1:
                    labels[index] = claim if claim.name == known else claim._replace(name=known)
            elif either:
                if paired:
                    labels[index] = claim._replace(role=either)
            elif claim.certainty == Certainty.SURE or (
                first_names and claim.style == "colon" and is_likely_name(claim.name)
            ):
                labels[index] = claim
        return labels


def _is_sure(claim: Claim, style: Style) -> bool:
    return claim.certainty == Certainty.SURE and claim.style == style


def _key(claim: Claim) -> tuple[str, str | None]:
    return claim.name.casefold(), claim.title
