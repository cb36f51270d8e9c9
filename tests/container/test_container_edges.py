"""What a user would expect where it is easily got wrong: unusual services, keys, hints and answers."""

from __future__ import annotations

import pytest

from analysis_kit.container import DIContainer


@pytest.fixture
def container():
    with DIContainer() as container:
        yield container


class Cache: ...


class Mock(Cache): ...


def test_a_list_is_new_each_time(container):
    """Emptying the list of a kind with one singleton does not empty the next one."""
    container.register_singleton(Cache)
    container.resolve(list[Cache]).clear()
    assert container.resolve(list[Cache]) == [container.resolve(Cache)]


@pytest.mark.parametrize("before", [True, False])
def test_a_double_does_not_outlive_its_block_in_what_asks_the_container(container, before):
    """A singleton that takes the container has the double in the block only, whether built before it or within."""

    def make(box: DIContainer):
        return [box.resolve(Cache)]

    container.register_singleton(Cache)
    container.register_singleton("user", factory=make)
    real = container.resolve("user") if before else None
    with container.override(Cache, Mock):
        assert type(container.resolve("user")[0]) is Mock
    assert type(container.resolve("user")[0]) is Cache
    assert real in (None, container.resolve("user"))


def test_doubles_that_take_the_container_stay_two(container):
    """Two doubles in force whose factories take the container are not taken for each other, nor a scoped one for captive."""

    def first(box: DIContainer):
        return [box]

    def second(box: DIContainer):
        return (box,)

    container.register_scoped("scoped", Cache)
    container.register_singleton("keeps", factory=first)
    with (
        container.override("first", factory=first),
        container.override("second", factory=second),
        container.override("scoped", Mock),
    ):
        assert container.resolve("first") == container.resolve("keeps") == [container]
        assert container.resolve("second") == (container,)
