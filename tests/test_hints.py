"""What a callable asks for: its open parameters, each with its hint."""

from __future__ import annotations

import functools
import inspect
from dataclasses import InitVar, dataclass

import pytest

from analysis_kit.hints import parameters_of


class Cache: ...


class Service:
    def __init__(self, cache: Cache, *rest: int, size: int = 3, **more: str): ...


@dataclass
class Initial:
    given: InitVar[Cache]


def make(cache: Cache, size: int): ...


@pytest.mark.parametrize(
    ("make", "hints"),
    [
        (Service, {"cache": Cache, "size": int}),
        (Initial, {"given": Cache}),
        (make, {"cache": Cache, "size": int}),
        (functools.partial(make, size=1), {"cache": Cache}),
        (dict, {}),
    ],
)
def test_what_is_open_is_given_with_its_hint(make, hints):
    """Of classes, functions, partials and built-ins; what is bound by name or takes the rest is left out."""
    assert {each.name: hint for each, hint in parameters_of(make, ())} == hints


def test_a_hint_that_cannot_be_read_spoils_no_other():
    """A name that nothing explains leaves its parameter without a hint, and the next one with its own."""

    def make(one: Unknown, two: Cache): ...  # noqa: F821

    assert [hint for _, hint in parameters_of(make, ())] == [inspect.Parameter.empty, Cache]


def test_a_known_class_explains_its_bare_name():
    """A class of a function's own scope is found by name, unless a second far one bears the name."""

    def scope():
        class Local: ...

        return Local

    def make(local: Local): ...  # noqa: F821

    one, two = scope(), type("Local", (), {"__module__": "elsewhere"})
    assert [hint for _, hint in parameters_of(make, [one])] == [one]
    assert [hint for _, hint in parameters_of(make, [one, two])] == [inspect.Parameter.empty]
