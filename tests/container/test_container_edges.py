"""What a user would expect where it is easily got wrong: unusual services, keys, hints and answers."""

from __future__ import annotations

import abc
import asyncio
import contextlib
import functools
import io
import threading
from dataclasses import InitVar, dataclass
from types import SimpleNamespace
from typing import Annotated

import pytest

from analysis_kit.container import DIContainer, Lifetime, injectable
from analysis_kit.errors import (
    CaptiveDependencyError,
    ConfigurationError,
    ContainerError,
    ServiceNotFoundError,
)


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


class Both:
    def __new__(cls, *args, **kwargs):
        return super().__new__(cls)

    def __init__(self, cache: Cache):
        self.cache = cache


@dataclass
class Initial:
    given: InitVar[Cache]

    def __post_init__(self, given):
        self.cache = given


class Yields:
    def __init__(self):
        self.over = False

    def __call__(self, cache: Cache):
        yield SimpleNamespace(cache=cache)
        self.over = True


class YieldsLate(Yields):
    async def __call__(self, cache: Cache):
        yield SimpleNamespace(cache=cache)
        self.over = True


@pytest.mark.parametrize("make", [Both, Initial, Yields(), YieldsLate()])
def test_unusual_services_are_wired(make):
    """``__new__(*args)`` beside a hinted ``__init__``, an InitVar, and objects whose call is a generator, tail and all."""

    async def use():
        async with DIContainer() as container:
            container.register_singleton(Cache)
            container.register_singleton("made", factory=make)
            container.validate()
            return (await container.aresolve("made")).cache is container.resolve(Cache)

    assert asyncio.run(use())
    assert getattr(make, "over", True)


@pytest.mark.parametrize("wrap", [lambda part: part, lambda part: functools.update_wrapper(part, part.func)])
@pytest.mark.parametrize("yields", [True, False])
def test_the_keyword_of_a_partial_comes_before_what_is_registered(container, wrap, yields):
    """What the user bound by name is not injected, also where the partial is of a generator or looks like its function."""

    def give(cache: Cache):
        return cache

    def tail(cache: Cache):
        yield cache

    mine = Cache()
    container.register_singleton(Cache)
    container.register_singleton(
        "bound", factory=wrap(functools.partial(tail if yields else give, cache=mine))
    )
    assert container.resolve("bound") is mine


@pytest.mark.parametrize("hint", ["1/0", "", "[].pop()"])
def test_a_hint_that_fails_to_be_read_is_an_error_that_names_the_parameter(container, hint):
    """Whatever a hint in text raises is said of the parameter, and the displays live."""

    def make(size): ...

    make.__annotations__["size"] = hint
    container.register_singleton("made", factory=make)
    with pytest.raises(ServiceNotFoundError, match="nothing fills its parameter 'size'"):
        container.resolve("made")
    assert "made" in container._repr_html_()


def test_a_key_that_is_not_hashable_is_not_registered(container):
    """A key that cannot be looked up is answered as one that is unknown, or by what it annotates."""
    container.register_singleton(Cache)
    with pytest.raises(ServiceNotFoundError, match="nothing is registered for"):
        container.resolve([])
    assert container.resolve(Annotated[Cache, []]) is container.resolve(Annotated[Cache, []])


def test_a_pair_of_names_is_no_class(container):
    """The key (module, name) is another one than the class of that name."""
    container.register_singleton(Cache)
    container.register_singleton((Cache.__module__, Cache.__qualname__), instance=1)
    assert isinstance(container.resolve(Cache), Cache)


class Abstract(abc.ABC):
    @abc.abstractmethod
    def go(self): ...


@pytest.mark.parametrize("what", [5, Abstract])
def test_what_cannot_be_built_cannot_be_injectable(what):
    """The decorator refuses what registering refuses, and every container works on."""
    with pytest.raises(ConfigurationError, match="builds nothing|abstract"):
        injectable(Lifetime.SINGLETON)(what)
    assert what not in DIContainer()


def test_messages_name_all_that_is_missing_and_can_be_pasted(container):
    """All unfilled parameters come in one error; a text key is quoted in the line to add; namesakes bear modules."""

    def make(first: int, second: bytes): ...

    other = type("Cache", (), {"__module__": "elsewhere"})
    container.register_singleton(Cache)
    with pytest.raises(ServiceNotFoundError, match="for elsewhere.Cache. Registered: Cache"):
        container.resolve(other)
    with pytest.raises(ServiceNotFoundError, match=r"register_singleton\('db url', <a class>\)"):
        container.resolve("db url")
    container.register_scoped("a session", factory=Cache)
    with pytest.raises(CaptiveDependencyError, match=r"scope.resolve\('a session'\)"):
        container.resolve("a session")
    container.register_singleton("made", factory=make)
    with pytest.raises(
        ServiceNotFoundError, match=r"(?s)'first'.*'second'.*register_singleton\('made', factory"
    ):
        container.validate()


def test_health_of_namesakes_and_of_what_was_replaced(container):
    """Two services of one name give two answers; an object registered since health() is not said to be healthy."""
    well, ill = (
        type("Twin", (), {"__module__": name, "health_check": lambda _, name=name: name == "well"})
        for name in ("well", "ill")
    )
    container.register_singleton(well, instance=well())
    container.register_singleton(ill, instance=ill())
    assert container.health() == {"well.Twin": True, "ill.Twin": False}
    assert "<td>healthy</td>" in container._repr_html_()
    container.register_singleton(well, instance=well())
    assert "healthy</td>" not in container._repr_html_()


class Late:
    def __await__(self):
        yield from ()
        return False


class Guarded:
    def __getattr__(self, name):
        raise ValueError(name)


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, asyncio.CancelledError, None, ValueError])
def test_a_strange_health_check_costs_its_own_answer_only(container, caplog, error):
    """Any exception, an awaitable that is no coroutine, and a service without attributes count as False, and are logged."""

    def check():
        if error is not None:
            raise error
        return Late()

    strange = Guarded() if error is ValueError else SimpleNamespace(health_check=check)
    container.register_singleton("strange", instance=strange)
    container.register_singleton("good", instance=SimpleNamespace(health_check=lambda: True))
    container.register_singleton("plain", instance=1)
    assert container.health() == {"strange": False, "good": True}
    assert [record.service for record in caplog.records] == ["strange"] * (error is not None)


@pytest.mark.parametrize("key", ["a\rb", "a\u2028b"])
def test_a_node_of_the_graph_is_one_line(container, key):
    """No kind of line break in a key breaks the Mermaid text."""
    container.register_singleton(key, instance=1)
    assert 's0["a b (singleton)"]' in [line.strip() for line in container.graph().splitlines()]


@pytest.mark.parametrize("awaited", [False, True])
def test_what_is_built_while_its_scope_closes_is_disposed_at_once(container, awaited):
    """A service that comes into a closed scope is closed, not handed out, and not left for a second close."""
    closed = []

    class Late:
        def __init__(self):
            scope.close()

        def close(self):
            closed.append(self)

    container.register_scoped(Late)
    scope = container.create_scope()
    with pytest.raises(ContainerError, match="this scope is closed"):
        asyncio.run(scope.aresolve(Late)) if awaited else scope.resolve(Late)
    assert len(closed) == 1
    scope.close()
    assert len(closed) == 1


def test_classes_of_one_name_made_by_a_function_are_told_apart_in_displays(container):
    """Each of several services of one name and module has a name of its own, and an answer of its own in health()."""

    def make(well):
        class Local:
            def health_check(self):
                return well

        return Local

    for well in (True, False, True):
        container.register_singleton(local := make(well))
        container.resolve(local)
    names = [f"{__name__}.Local ({number})" for number in (1, 2, 3)]
    assert container.health() == dict(zip(names, (True, False, True), strict=True))
    assert [each.name for each in container.registrations().values()][:3] == names


def test_a_health_check_that_is_late_changes_no_answer(container):
    """What ends after the time given counts as False, in what health() returned and in what is shown, also later."""
    go, gone = threading.Event(), threading.Event()

    class Slow:
        def health_check(self):
            go.wait(20)
            gone.set()
            return True

    container.register_singleton(Slow, instance=Slow())
    assert container.health(timeout_s=0.05) == {"Slow": False}
    go.set()
    assert gone.wait(20)
    for thread in threading.enumerate():
        if thread.name == "analysis-kit-health":
            thread.join(20)
    assert "not healthy" in container._repr_html_()


def test_a_name_that_two_classes_bear_is_no_optional_one(container):
    """A hint in text that might mean either of two registered classes is an error, not a None."""

    class Needs:
        def __init__(self, clock: "Clock | None"):  # noqa: F821, UP037
            self.clock = clock

    for module in ("one", "other"):
        container.register_singleton(type("Clock", (), {"__module__": module}))
    container.register_singleton(Needs)
    with pytest.raises(ServiceNotFoundError, match="nothing fills its parameter 'clock'"):
        container.resolve(Needs)


def test_a_context_manager_that_gives_nothing_is_the_service_itself(container):
    """`contextlib.suppress` is handed out, and not the None that entering it gives; `closing` gives what it closes."""
    container.register_singleton("quiet", factory=lambda: contextlib.suppress(KeyError))
    container.register_singleton("closed", factory=lambda: contextlib.closing(io.StringIO("text")))
    assert isinstance(container.resolve("quiet"), contextlib.suppress)
    assert container.resolve("closed").read() == "text"


def test_a_construction_that_fails_after_its_container_was_closed_spoils_no_later_one(container):
    """Its successor stays the one singleton."""
    begun, go = threading.Event(), threading.Event()
    first = [True]

    def make():
        if first.pop() if first else False:
            begun.set()
            go.wait(20)
            raise ValueError("too late")
        return object()

    container.register_singleton("it", factory=make)

    def ask():
        with contextlib.suppress(ValueError):
            container.resolve("it")

    late = threading.Thread(target=ask)
    late.start()
    assert begun.wait(20)
    container.close()
    one = container.resolve("it")
    go.set()
    late.join(20)
    assert container.resolve("it") is one
