"""What is wired, and what is refused: cases D1, D2, D4 and D7 of the published failures, and their kinds."""

from __future__ import annotations

import abc
import functools
import inspect
import typing
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import pytest

from analysis_kit.container import DIContainer
from analysis_kit.errors import (
    CaptiveDependencyError,
    CircularDependencyError,
    ConfigurationError,
    ContainerError,
    ServiceNotFoundError,
)

if typing.TYPE_CHECKING:
    from decimal import Decimal


@pytest.fixture
def container():
    with DIContainer() as container:
        yield container


class Cache: ...


class Alpha:
    def __init__(self, beta: Beta): ...


class Beta:
    def __init__(self, alpha: Alpha): ...


class Itself:
    def __init__(self, me: Itself): ...


@pytest.mark.parametrize("lifetime", ["singleton", "transient", "scoped"])
def test_D1_cycle_is_named_with_its_path(container, lifetime):
    """A cycle through hints, also of one class, gives CircularDependencyError with the way round, for any lifetime."""
    register = getattr(container, f"register_{lifetime}")
    register(Alpha)
    register(Beta)
    register(Itself)
    with container.create_scope() as scope:
        with pytest.raises(CircularDependencyError, match=r"Alpha -> Beta -> Alpha"):
            scope.resolve(Alpha)
        with pytest.raises(CircularDependencyError, match=r"Itself -> Itself"):
            scope.resolve(Itself)
    with pytest.raises(CircularDependencyError, match=r"Alpha -> Beta -> Alpha"):
        container.validate()


@pytest.mark.parametrize("lifetime", ["singleton", "transient", "scoped"])
def test_D1_cycle_through_factories_is_named(container, lifetime):
    """A cycle that only the factories' own calls close is found at the first use, and is no RecursionError."""
    register = getattr(container, f"register_{lifetime}")
    with container.create_scope() as scope:
        register(Alpha, factory=lambda: scope.resolve(Beta))
        register(Beta, factory=lambda: scope.resolve(Alpha))
        register("me", factory=lambda: scope.resolve("me"))
        with pytest.raises(CircularDependencyError, match=r"Alpha -> Beta -> Alpha"):
            scope.resolve(Alpha)
        with pytest.raises(CircularDependencyError, match=r"me -> me"):
            scope.resolve("me")
        register(Cache)
        assert isinstance(scope.resolve(Cache), Cache)


def test_D1_container_works_after_a_cycle(container):
    """Once the circle is broken by registering one service otherwise, the other resolves."""
    container.register_singleton(Alpha)
    container.register_singleton(Beta)
    with pytest.raises(CircularDependencyError):
        container.resolve(Alpha)
    container.register_singleton(Beta, factory=object)
    assert isinstance(container.resolve(Alpha), Alpha)


def test_D1_cycle_between_two_threads_is_no_deadlock(container):
    """Two threads that each build what the other waits for: one gets the error, neither hangs."""
    import threading

    both = threading.Barrier(2, timeout=20)

    def first():
        both.wait()
        return container.resolve("second")

    def second():
        both.wait()
        return container.resolve("first")

    container.register_singleton("first", factory=first)
    container.register_singleton("second", factory=second)
    errors = []

    def ask(key):
        try:
            container.resolve(key)
        except (CircularDependencyError, threading.BrokenBarrierError) as exc:
            errors.append(exc)
            both.abort()

    threads = [threading.Thread(target=ask, args=(key,)) for key in ("first", "second")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=20)
    assert not any(thread.is_alive() for thread in threads)
    assert any(isinstance(error, CircularDependencyError) for error in errors)


def test_D2_string_hints_of_local_classes_are_resolved(container):
    """Under ``from __future__ import annotations`` classes made inside a function are injected all the same."""

    class Local: ...

    class Service:
        def __init__(self, local: Local, many: list[Local], maybe: Local | None):
            self.local, self.many, self.maybe = local, many, maybe

    container.register_singleton(Local)
    container.register_singleton(Service)
    service = container.resolve(Service)
    assert service.local is service.many[0] is service.maybe is container.resolve(Local)


def test_D2_nearest_class_of_a_name_is_meant(container):
    """Of two classes of one name, the one in the scope around the service is injected, as Python itself would."""

    class Cache: ...

    class Service:
        def __init__(self, cache: Cache):
            self.cache = cache

    container.register_singleton(globals()["Cache"])
    container.register_singleton(Cache)
    container.register_singleton(Service)
    assert type(container.resolve(Service).cache) is Cache


def test_D2_unknown_name_in_a_hint_is_an_error_that_names_the_parameter(container):
    """A hint whose name exists for the type checker only is refused by parameter, or its default is used."""

    class Needs:
        def __init__(self, amount: Decimal): ...

    class Can:
        def __init__(self, amount: Decimal | None = None):
            self.amount = amount

    container.register_singleton(Needs)
    container.register_singleton(Can)
    with pytest.raises(ServiceNotFoundError, match=r"Needs.*'amount'.*Decimal"):
        container.resolve(Needs)
    assert container.resolve(Can).amount is None


def test_D2_classes_of_notebook_cells():
    """Two cells, string annotations switched on in the first and so in force in the second."""
    names = {"__name__": "__main__", "DIContainer": DIContainer}
    exec("from __future__ import annotations\nclass Cache: ...", names)
    exec(
        "from __future__ import annotations\nclass Service:\n"
        "    def __init__(self, cache: Cache): self.cache = cache\n"
        "c = DIContainer(); c.register_singleton(Cache); c.register_singleton(Service)\n"
        "service = c.resolve(Service)",
        names,
    )
    assert type(names["service"].cache) is names["Cache"]


def test_D4_defaults_and_optionals_are_honoured(container):
    """An unregistered parameter takes its default, an Optional without one takes None, a registered one is injected."""

    class Service:
        def __init__(
            self,
            size: int | None = None,
            *,
            name: str = "x",
            cache: Cache | None,
            when: Cache | None = None,
        ):
            self.size, self.name, self.cache, self.when = size, name, cache, when

    container.register_singleton(Service)
    service = container.resolve(Service)
    assert (service.size, service.name, service.cache, service.when) == (None, "x", None, None)
    container.register_singleton(Cache)
    service = container.resolve(Service)
    assert service.cache is service.when is container.resolve(Cache)


@pytest.mark.parametrize("kind", [str, int, list[str], dict, bytes])
def test_D4_plain_types_are_never_made_up(container, kind):
    """A plain type without a default is a clear error with the line to add, never ``str()``."""

    def make(value: kind):
        return value

    make.__annotations__["value"] = kind
    container.register_singleton(Cache, factory=make)
    with pytest.raises(ServiceNotFoundError, match=r"'value'.*register_singleton\(Cache, factory=lambda"):
        container.resolve(Cache)


def test_what_cannot_be_resolved_says_what_there_is_and_what_to_add(container):
    """The error names the service, the parameter, what is registered, and the line to add."""

    class Service:
        def __init__(self, cache: Cache, other): ...

    container.register_singleton(Service)
    container.register_singleton("clock", factory=object)
    with pytest.raises(ServiceNotFoundError) as caught:
        container.resolve(Service)
    for words in ("Service", "'cache'", "Registered: Service, clock", "container.register_singleton(Cache, "):
        assert words in str(caught.value)
    container.register_singleton(Cache)
    with pytest.raises(ServiceNotFoundError, match="'other'.*|no type hint"):
        container.resolve(Service)
    with pytest.raises(ServiceNotFoundError, match=r"nothing is registered for .*Alpha"):
        container.resolve(Alpha)


def test_D7_scoped_held_by_a_singleton_is_refused_with_both_names(container):
    """A singleton that would hold a scoped service, also through a transient, a list or a factory, is refused."""

    class Session: ...

    class Middle:
        def __init__(self, session: Session): ...

    class Direct:
        def __init__(self, session: Session): ...

    class Through:
        def __init__(self, middle: Middle): ...

    class Listed:
        def __init__(self, all_: list[Session]): ...

    def made(session: Session):
        return session

    container.register_scoped(Session)
    container.register_transient(Middle)
    for key in (Direct, Through, Listed):
        container.register_singleton(key)
        with pytest.raises(CaptiveDependencyError, match=rf"{key.__name__}.*Session"):
            container.resolve(key)
    container.register_singleton("made", factory=made)
    with container.create_scope() as scope, pytest.raises(CaptiveDependencyError, match=r"made.*Session"):
        scope.resolve("made")
    with pytest.raises(CaptiveDependencyError):
        container.validate()


def test_D7_scoped_from_the_root_is_refused(container):
    """The container itself is no scope: neither a scoped service nor a transient that needs one is given."""

    class Session: ...

    class Work:
        def __init__(self, session: Session): ...

    container.register_scoped(Session)
    container.register_transient(Work)
    container.validate()
    with pytest.raises(CaptiveDependencyError, match=r"Session.*create_scope"):
        container.resolve(Session)
    with pytest.raises(CaptiveDependencyError, match=r"Work.*Session"):
        container.resolve(Work)
    with container.create_scope() as scope:
        assert isinstance(scope.resolve(Work), Work)


def test_validate_names_every_problem_and_builds_nothing(container):
    """All that is wrong comes in one error, of the first one's kind; nothing is built."""
    built = []

    class Lonely:
        def __init__(self, absent: Cache): ...

    container.register_singleton("counted", factory=lambda: built.append(1))
    container.register_singleton(Alpha)
    container.register_singleton(Beta)
    container.register_singleton(Lonely)
    with pytest.raises(ContainerError) as caught:
        container.validate()
    assert "Alpha -> Beta -> Alpha" in str(caught.value)
    assert "'absent'" in str(caught.value)
    assert str(caught.value).count("is a circle") == 1
    assert not built


def test_all_that_is_wrong_in_a_graph_comes_in_one_error(container):
    """Resolving names what two parts of a graph lack, each once however often it is needed."""

    class Left:
        def __init__(self, one: int): ...

    class Right:
        def __init__(self, two: bytes, left: Left): ...

    class Top:
        def __init__(self, left: Left, right: Right): ...

    for each in (Left, Right, Top):
        container.register_transient(each)
    with pytest.raises(ServiceNotFoundError, match="(?s)'one'.*'two'") as caught:
        container.resolve(Top)
    assert str(caught.value).count("'one'") == 1


def test_a_list_gets_all_of_a_kind(container):
    """``list[Base]``, ``tuple[Base, ...]`` and ``Sequence[Base]`` get every service of the kind, in order."""

    class Base: ...

    class One(Base): ...

    class Two(Base): ...

    class Suite:
        def __init__(self, a: list[Base], b: tuple[Base, ...], c: Sequence[Base]):
            self.a, self.b, self.c = a, b, c

    container.register_singleton(One)
    container.register_singleton("two", Two)
    container.register_singleton(Suite)
    suite = container.resolve(Suite)
    assert [type(each) for each in suite.a] == [One, Two]
    assert suite.b == tuple(suite.a)
    assert list(suite.c) == suite.a == container.resolve(list[Base])


def test_a_service_that_is_one_of_the_list_does_not_get_itself(container):
    """A composite of its own kind gets the others."""

    class Base: ...

    class One(Base): ...

    class Whole(Base):
        def __init__(self, parts: list[Base]):
            self.parts = parts

    container.register_singleton(One)
    container.register_singleton(Whole)
    assert [type(each) for each in container.resolve(Whole).parts] == [One]


def test_every_kind_of_parameter(container):
    """Dataclasses with default factories, keyword-only and positional-only parameters, and partials are wired."""

    @dataclass
    class Data:
        cache: Cache
        items: list[str] = field(default_factory=list)

    def make(size=3, /, cache: Cache = None, *args, more: Cache, **kwargs):
        return size, cache, more

    container.register_singleton(Cache)
    container.register_singleton(Data)
    container.register_transient("made", factory=make)
    container.register_transient("part", factory=functools.partial(make, 7))
    cache = container.resolve(Cache)
    assert container.resolve(Data) == Data(cache, [])
    assert container.resolve("made") == (3, cache, cache)
    assert container.resolve("part") == (7, cache, cache)


def test_the_container_itself_can_be_asked_for(container):
    """A parameter of type DIContainer gets the container, or the scope it is resolved in."""

    def make(where: DIContainer):
        return where

    container.register_transient("here", factory=make)
    assert container.resolve("here") is container
    with container.create_scope() as scope:
        assert scope.resolve("here") is scope


class Shape(Protocol):
    def area(self) -> float: ...


class Abstract(abc.ABC):
    @abc.abstractmethod
    def area(self) -> float: ...


@pytest.mark.parametrize(
    ("args", "options", "words"),
    [
        ((Cache, Cache), {"factory": Cache}, "one of"),
        ((Cache,), {"factory": Cache, "instance": 1}, "one of"),
        (("name",), {}, "give a class"),
        ((Cache, 5), {}, "give a class"),
        ((Shape,), {}, "abstract"),
        ((Abstract,), {}, "abstract"),
        (([],), {"instance": 1}, "hashable"),
    ],
)
def test_registrations_that_cannot_work_are_refused_at_once(container, args, options, words):
    """Two ways at once, none, an object for a class, an abstract class, an unhashable key."""
    with pytest.raises(ConfigurationError, match=words):
        container.register_singleton(*args, **options)


@pytest.mark.parametrize("lifetime", ["transient", "scoped"])
def test_an_instance_is_a_singleton(container, lifetime):
    """An object that exists already cannot be made anew."""
    with pytest.raises(ConfigurationError, match="register_singleton"):
        getattr(container, f"register_{lifetime}")(Cache, instance=Cache())


def test_a_plan_is_made_once(container, monkeypatch):
    """Signatures and hints are read at the first use only, however often and in whatever scope a service is asked for."""

    class Service:
        def __init__(self, cache: Cache): ...

    container.register_scoped(Cache)
    container.register_transient(Service)
    with container.create_scope() as scope:
        scope.resolve(Service)
    monkeypatch.setattr(inspect, "signature", lambda *_: pytest.fail("a signature is read again"))
    with container.create_scope() as scope:
        assert scope.resolve(Service) is not scope.resolve(Service)


def test_none_can_be_an_instance(container):
    """None given as an instance is a value, injected like any other."""
    container.register_singleton("nothing", instance=None)
    assert container.resolve("nothing") is None
