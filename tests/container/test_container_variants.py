"""Further kinds of the published failures: circles that tasks close, constructors of every make, teardown, health."""

from __future__ import annotations

import asyncio
import functools
import threading
from typing import Annotated, Generic, NamedTuple, NewType, Protocol, TypeVar

import pydantic
import pytest

from analysis_kit.container import DIContainer
from analysis_kit.errors import CircularDependencyError, ContainerError, ServiceNotFoundError

T = TypeVar("T")


@pytest.fixture
def container():
    with DIContainer() as container:
        yield container


class Cache: ...


class Other: ...


class Repo(Generic[T]): ...


class IntRepo(Repo[int]): ...


UserId = NewType("UserId", int)


class Pointed(Protocol):
    def point(self) -> int: ...


class Point:
    def point(self):
        return 1


class OncePerClass(type):
    def __call__(cls, *args, **kwargs):
        return super().__call__(*args, **kwargs)


class Made(metaclass=OncePerClass):
    def __init__(self, cache: Cache):
        self.cache = cache


class Inherits(Made): ...


class News:
    def __new__(cls, cache: Cache):
        made = super().__new__(cls)
        made.cache = cache
        return made


class Row(NamedTuple):
    cache: Cache
    size: int = 2


class Model(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(arbitrary_types_allowed=True)
    cache: Cache
    size: int = 3
    items: list[str] = pydantic.Field(default_factory=list)


class Maker:
    def __call__(self, cache: Cache):
        return Made(cache)

    def make(self, cache: Cache):
        return Made(cache)


def within(seconds, awaitable):
    """Run it, and fail if it waits for ever."""
    return asyncio.run(asyncio.wait_for(awaitable, seconds))


@pytest.mark.parametrize("lifetime", ["singleton", "scoped", "transient"])
def test_D1_a_circle_through_gather_is_named(container, lifetime):
    """Each factory asks for the other from a task of its own: the circle is named, and the container works after."""

    async def first():
        return await asyncio.gather(scope.aresolve("second"), scope.aresolve(Cache))

    async def second():
        return await asyncio.gather(scope.aresolve("first"))

    register = getattr(container, f"register_{lifetime}")
    register("first", factory=first)
    register("second", factory=second)
    register(Cache)
    with container.create_scope() as scope:
        with pytest.raises(CircularDependencyError, match="first -> second -> first"):
            within(20, scope.aresolve("first"))
        register("second", factory=object)
        assert len(within(20, scope.aresolve("first"))) == 2


def test_D1_constructors_that_ask_the_container_for_each_other(container):
    """No hint shows such a circle: it is named when it comes round, and a recursion of other kinds stays one."""

    class Base:
        pass

    class Chicken:
        def __init__(self):
            container.resolve(Egg)

    class Egg:
        def __init__(self):
            container.resolve(Chicken)

    class Nest(Base):
        def __init__(self):
            container.resolve(list[Base])

    class Endless:
        def __init__(self):
            self.resolve("a name of its own")

        def resolve(self, name):
            self.resolve(name)

    for each in (Chicken, Egg, Nest, Endless):
        container.register_transient(each)
    for key in (Nest, list[Base]):
        with pytest.raises(CircularDependencyError, match=r"list\[.*Base\] -> list"):
            container.resolve(key)
    with pytest.raises(CircularDependencyError, match=r"Chicken -> Egg|Egg -> Chicken"):
        container.resolve(Chicken)
    with pytest.raises(RecursionError), container.create_scope() as scope:
        scope.resolve(Endless)


def test_D1_a_circle_of_two_tasks_that_wait_for_each_other(container):
    """Two tasks that each build what the other needs: one is told of the circle, and none waits for ever."""

    async def main():
        begun = {"first": asyncio.Event(), "second": asyncio.Event()}

        async def make(mine, others):
            begun[mine].set()
            await begun[others].wait()
            return await container.aresolve(others)

        container.register_singleton("first", factory=functools.partial(make, "first", "second"))
        container.register_singleton("second", factory=functools.partial(make, "second", "first"))
        both = (container.aresolve("first"), container.aresolve("second"))
        return await asyncio.gather(*both, return_exceptions=True)

    errors = within(20, main())
    assert all(isinstance(error, CircularDependencyError) for error in errors)
    assert " -> " in str(errors[0])


def test_D1_a_circle_across_a_thread_that_a_task_started(container):
    """A circle of an asynchronous and a plain factory on another thread is found, too."""

    async def first():
        return await asyncio.to_thread(container.resolve, "second")

    container.register_singleton("first", factory=first)
    container.register_singleton("second", factory=lambda: asyncio.run(container.aresolve("first")))
    with pytest.raises(CircularDependencyError, match="first -> second -> first"):
        within(20, container.aresolve("first"))


def test_D1_a_scoped_factory_that_opens_scopes_of_its_own_for_itself(container):
    """Each new scope would build it again, for ever: a circle."""

    def make():
        with container.create_scope() as inner:
            return inner.resolve("session")

    container.register_scoped("session", factory=make)
    with (
        container.create_scope() as scope,
        pytest.raises(CircularDependencyError, match="session -> session"),
    ):
        scope.resolve("session")


def test_D1_a_task_that_outlives_the_factory_that_started_it_may_ask_again(container):
    """What a factory leaves running is within that construction no longer, once it is over."""
    made = []

    async def main():
        go = asyncio.Event()

        async def later():
            await go.wait()
            return await container.aresolve("worker")

        async def worker():
            made.append(1)
            if len(made) == 1:
                tasks.append(asyncio.create_task(later()))
            return object()

        tasks = []
        container.register_transient("worker", factory=worker)
        one = await container.aresolve("worker")
        go.set()
        assert await tasks[0] is not one

    within(20, main())


def test_parallel_needs_of_one_service_are_no_circle(container):
    """Two tasks of one factory that both need a third service share it."""

    async def part():
        await asyncio.sleep(0)
        return object()

    async def whole():
        return await asyncio.gather(
            container.aresolve("part"), container.aresolve("left"), container.aresolve("part")
        )

    async def left():
        return await container.aresolve("part")

    for key, factory in {"part": part, "left": left, "whole": whole}.items():
        container.register_singleton(key, factory=factory)
    assert len(set(map(id, within(20, container.aresolve("whole"))))) == 1


@pytest.mark.parametrize("kind", [Made, Inherits, News, Row, Model])
def test_D2_constructors_of_every_make(container, kind):
    """A metaclass's call, an inherited constructor, ``__new__``, named tuples and pydantic models are wired by their hints."""
    container.register_singleton(Cache)
    container.register_singleton(kind)
    assert container.resolve(kind).cache is container.resolve(Cache)


@pytest.mark.parametrize("factory", [Maker(), Maker().make, functools.partial(Maker().make)])
def test_D2_factories_of_every_make(container, factory):
    """Callable objects, bound methods and partials are wired by their hints."""
    container.register_singleton(Cache)
    container.register_singleton("made", factory=factory)
    assert container.resolve("made").cache is container.resolve(Cache)


def test_D2_keys_that_are_no_plain_classes(container):
    """A parametrised generic, a NewType, an Annotated and a protocol are found as what they are."""

    def make(
        repo: Repo[int],
        user: UserId,
        dsn: Annotated[str, "dsn"],
        cache: Annotated[Cache, "any"],
        point: Pointed,
    ):
        return repo, user, dsn, cache, point

    container.register_singleton(Repo[int], IntRepo)
    container.register_singleton(UserId, instance=7)
    container.register_singleton(Annotated[str, "dsn"], instance="db")
    container.register_singleton(Cache)
    container.register_singleton(Pointed, Point)
    container.register_singleton("made", factory=make)
    repo, user, dsn, cache, point = container.resolve("made")
    assert (type(repo), user, dsn, type(point)) == (IntRepo, 7, "db", Point)
    assert cache is container.resolve(Cache)


def test_D2_a_metadata_that_cannot_be_hashed_is_passed_over(container):
    """``Annotated[Cache, {}]`` asks for a Cache."""

    def make(cache: Annotated[Cache, {}]):
        return cache

    container.register_singleton(Cache)
    container.register_singleton("made", factory=make)
    assert container.resolve("made") is container.resolve(Cache)


def test_D4_a_union_gives_the_one_that_is_registered(container):
    """Of ``Cache | Other`` the first registered one is given; none is an error that names both."""

    def make(one: Cache | Other):
        return one

    container.register_transient("made", factory=make)
    with pytest.raises(ServiceNotFoundError, match=r"Cache \| Other"):
        container.resolve("made")
    container.register_singleton(Other)
    assert type(container.resolve("made")) is Other


def test_D4_a_list_of_plain_values_is_not_made_of_registered_texts(container):
    """``list[str]`` with a default keeps it, whatever texts are registered; a bare ``list`` is an error."""

    def make(tags: list[str] = ("own",), *args: int, **more: str):
        return tags, args, more

    def bare(tags: list): ...

    container.register_singleton("dsn", instance="db")
    container.register_transient("made", factory=make)
    assert container.resolve("made") == (("own",), (), {})
    container.register_transient("bare", factory=bare)
    with pytest.raises(ServiceNotFoundError, match="'tags'"):
        container.resolve("bare")


@pytest.mark.parametrize("value", [None, False, 0, ""])
def test_D6_a_service_may_be_falsy(container, value):
    """None, False, 0 and an empty text are built once and kept, like any other."""
    built = []
    container.register_singleton("given", instance=value)
    container.register_singleton("made", factory=lambda: built.append(1) or value)
    assert container.resolve("given") == container.resolve("made") == container.find("made") == value
    assert len(built) == 1


def test_D6_two_singletons_that_need_each_other_lazily_from_two_threads(container):
    """A needs B in its constructor, and B asks for A only later: threads that build both at once get the same two."""

    class Late:
        def __init__(self):
            self.early = lambda: container.resolve(Early)

    class Early:
        def __init__(self, late: Late):
            self.late = late

    container.register_singleton(Late)
    container.register_singleton(Early)
    start, found = threading.Barrier(2, timeout=20), []

    def ask(key):
        start.wait()
        found.append(container.resolve(key))

    threads = [threading.Thread(target=ask, args=(key,)) for key in (Early, Late)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len(found) == 2
    assert container.resolve(Late).early().late is container.resolve(Late)


def test_D9_a_replaced_service_goes_with_its_users_inside_an_override(container):
    """A double stays in force when the code under test registers the service itself; afterwards that registration counts."""
    container.register_singleton(Cache)
    with container.override(Cache, instance="double"):
        container.register_singleton(Cache, Other)
        assert container.resolve(Cache) == "double"
    assert type(container.resolve(Cache)) is Other


def test_overrides_that_end_out_of_order(container):
    """Ending the outer one first leaves the inner one in force; then all is as it was."""
    container.register_singleton("k", instance=0)
    outer, inner = container.override("k", instance=1), container.override("k", instance=2)
    outer.__enter__()
    inner.__enter__()
    outer.__exit__(None, None, None)
    assert container.resolve("k") == 2
    inner.__exit__(None, None, None)
    assert container.resolve("k") == 0


def test_generator_factories_that_yield_too_often_or_fail(container):
    """A second ``yield`` is an error of the disposal that names the service; one that fails before is tried again."""
    tries = []

    def twice():
        yield 1
        yield 2

    def late():
        tries.append(1)
        if len(tries) == 1:
            raise ValueError("not yet")
        yield "up"

    container.register_scoped("twice", factory=twice)
    container.register_scoped("late", factory=late)
    scope = container.create_scope()
    scope.resolve("twice")
    with pytest.raises(ValueError, match="not yet"):
        scope.resolve("late")
    assert scope.resolve("late") == "up"
    with pytest.raises(ContainerError, match=r"1 of 2 .*twice: RuntimeError"):
        scope.close()
    scope.close()


def test_a_health_check_that_hangs_or_must_be_awaited(container):
    """One that is not done in time counts as False and holds nobody up; an asynchronous one is awaited."""
    release = threading.Event()

    class Hangs:
        def health_check(self):
            return release.wait(60)

    class Awaited:
        async def health_check(self):
            await asyncio.sleep(0)
            return True

    for key in (Hangs, Awaited):
        container.register_singleton(key)
        container.resolve(key)
    try:
        assert container.health(timeout_s=0.5) == {"Hangs": False, "Awaited": True}
    finally:
        release.set()


def test_graph_of_odd_names(container):
    """Quotes, signs and line breaks in a key break no line of the Mermaid text."""
    container.register_singleton('a"b\n#c', instance=1)
    assert '["a#quot;b #35;c (singleton)"]' in container.graph()
    assert len(container.graph().splitlines()) == 1 + len(container.registrations())


def test_D1_a_wait_that_was_broken_off_is_no_part_of_a_circle(container):
    """A factory that gave up waiting for a service does not stand in the way of that service any more."""

    async def main():
        asked, go = asyncio.Event(), asyncio.Event()

        async def slow():
            await go.wait()
            return await container.aresolve("quick")

        async def quick():
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(container.aresolve("slow"), 0.05)
            asked.set()
            go.set()
            await asyncio.sleep(0)
            return "quick"

        container.register_singleton("slow", factory=slow)
        container.register_singleton("quick", factory=quick)
        first = asyncio.create_task(container.aresolve("slow"))
        await asyncio.sleep(0)
        assert await container.aresolve("quick") == "quick"
        return await first

    assert within(20, main()) == "quick"


def test_D1_a_circle_through_a_bare_thread_is_given_up_by_name(container, monkeypatch):
    """A thread knows nothing of the factory that started it: the wait has a limit, and its error names the service."""
    monkeypatch.setattr("analysis_kit.container.scopes.PATIENCE_S", 0.2)
    said = []

    def ask():
        try:
            container.resolve("second")
        except ContainerError as exc:
            said.append(str(exc))

    def first():
        thread = threading.Thread(target=ask)
        thread.start()
        thread.join(20)
        assert not thread.is_alive()
        return "made"

    container.register_singleton("first", factory=first)
    container.register_singleton("second", factory=lambda: container.resolve("first"))
    assert container.resolve("first") == "made"
    assert said == ["first is not built after 0.2 s"]
    assert container.resolve("second") == "made"
