"""How sure a model was of its label, read from the log-probabilities of the answer's tokens."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

#: Alternatives a token that are asked for; the most that Ollama gives (0.12.11 or newer).
TOP_LOGPROBS = 20
#: If more than this share of the probability cannot be told apart between labels, none is given.
_MAX_UNTOLD = 0.01


def label_field(schema: Mapping[str, Any]) -> tuple[str, tuple[str, ...]] | None:
    """Return name and labels of the schema's first field with a closed list of texts, or None."""
    for name, field in schema.get("properties", {}).items():
        part = field
        if "$ref" in part:
            part = schema.get("$defs", {}).get(str(part["$ref"]).rpartition("/")[2], {})
        labels = part.get("enum") or ()
        if len(labels) > 1 and all(isinstance(label, str) for label in labels):
            return name, tuple(labels)
    return None


def label_probabilities(logprobs: Sequence[Mapping[str, Any]], schema: Mapping[str, Any]) -> dict[str, float]:
    """Return label -> probability, summing to 1 over the labels of the schema's label field.

    Where the label's value begins, each alternative token is counted for the one label that it can begin; where it can
    begin several ("ne" of neutral and negative) the next token decides, which is known for the chosen way only. What
    remains is divided by its sum, because servers report the probabilities before the grammar forbids a token. A label
    that is not among the alternatives gets 0.

    Parameters
    ----------
    logprobs : sequence of mapping
        The reply's entries: ``token``, ``logprob``, ``top_logprobs``.
    schema : mapping
        The JSON Schema of the answer.

    Returns
    -------
    dict
        Empty if there are no log-probabilities, no label field, or more than 1 % that cannot be told apart.
    """
    found = label_field(schema)
    if found is None or not logprobs:
        return {}
    name, labels = found
    tokens = [str(entry.get("token", "")) for entry in logprobs]
    start = _value_start("".join(tokens), name)
    if start is None:
        return {}
    first, position = 0, 0
    while position + len(tokens[first]) <= start:
        position += len(tokens[first])
        first += 1
    masses = dict.fromkeys(labels, 0.0)
    untold = _spread(logprobs[first:], tokens[first][: start - position], "", 1.0, masses)
    total = sum(masses.values())
    if total <= 0 or untold > _MAX_UNTOLD * (total + untold):
        return {}
    return {label: mass / total for label, mass in masses.items()}


def _spread(
    entries: Sequence[Mapping[str, Any]], before: str, said: str, share: float, masses: dict[str, float]
) -> float:
    """Divide ``share`` among the labels that can follow ``said``, into ``masses``; return what cannot be told apart."""
    if not entries:
        return share
    chosen = str(entries[0].get("token", ""))
    untold = 0.0
    for text, probability in _alternatives(entries[0], before):
        matching = [label for label in masses if _can_be(said + text, label)]
        if len(matching) == 1:
            masses[matching[0]] += share * probability
        elif matching and before + text == chosen:
            untold += _spread(entries[1:], "", said + text, share * probability, masses)
        elif matching:
            untold += share * probability
    return untold


def _value_start(text: str, name: str) -> int | None:
    """Return where the text value of field ``name`` begins in the JSON ``text``; the last such place is the answer's."""
    places = list(re.finditer(rf'"{re.escape(name)}"\s*:\s*"', text))
    return places[-1].end() if places else None


def _alternatives(entry: Mapping[str, Any], before: str) -> list[tuple[str, float]]:
    """Return the tokens that could stand at this place and begin with ``before``, without it, and their probabilities."""
    listed = {str(other.get("token", "")): other for other in entry.get("top_logprobs") or ()}
    listed.setdefault(str(entry.get("token", "")), entry)
    return [
        (token[len(before) :], _probability(each))
        for token, each in listed.items()
        if token.startswith(before) and len(token) > len(before)
    ]


def _probability(entry: Mapping[str, Any]) -> float:
    value = entry.get("logprob")
    return math.exp(min(0.0, value)) if isinstance(value, (int, float)) and not math.isnan(value) else 0.0


def _can_be(spelled: str, label: str) -> bool:
    """Return whether ``spelled``, the first letters of a value, can stand for ``label``: a closing quote settles it."""
    word, quote, _ = spelled.partition('"')
    return label == word if quote else label.startswith(word)
