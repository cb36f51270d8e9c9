"""Cells run twice, overrides, displays: D9 of the published failures and what a notebook asks of a container."""

import enum
import gc
import logging
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable
from typing import Annotated, NewType

import pytest

from analysis_kit.container import DIContainer, Lifetime, get_container, injectable, reset_container
from analysis_kit.errors import ConfigurationError, ServiceNotFoundError
from analysis_kit.settings import override_settings


@pytest.fixture
def container():
    with DIContainer() as container:
        yield container


CELL = """
@injectable(Lifetime.SINGLETON)
class CellTone:
    closed = False
    def close(self): type(self).closed = True
"""


def run_cell(code=CELL, **names):
    """Run a cell's text as a kernel does and return its names."""
    names = {"__name__": "__main__", "injectable": injectable, "Lifetime": Lifetime, **names}
    exec(code, names)
    return names


def test_D9_a_decorated_cell_run_twice(container):
    """The latest class wins under its new and its old name, without a duplicate; the old singleton is disposed."""
    old = run_cell()["CellTone"]
    stale = container.resolve(old)
    new = run_cell()["CellTone"]
    assert old.closed
    assert not new.closed
    fresh = container.resolve(new)
    assert type(fresh) is new
    assert container.resolve(old) is fresh
    assert fresh is not stale
    assert [key for key in container.registrations() if key.__name__ == "CellTone"] == [new]
    assert container.registrations()[new].generation == 2
    assert "CellTone (singleton, generation 2, live)" in repr(container)


def test_D9_a_decorated_class_has_one_generation_for_all(caplog):
    """A container made later knows how often a class was decorated, which is logged once and not by each container."""
    first, second = DIContainer(), DIContainer()
    code = "@injectable(Lifetime.SINGLETON)\nclass CellCounted: pass"
    run_cell(code)
    with caplog.at_level(logging.INFO, "analysis_kit"):
        new = run_cell(code)["CellCounted"]
    assert [each.registrations()[new].generation for each in (first, second, DIContainer())] == [2, 2, 2]
    assert [record.service for record in caplog.records] == ["CellCounted"]


def test_D9_a_cell_with_registrations_run_twice(container):
    """The same for classes registered by hand, whose users in other cells still hint at the old class."""
    cell = "class CellCache: pass\ncontainer.register_singleton(CellCache)"
    names = run_cell(cell, container=container)
    exec("class CellUser:\n    def __init__(self, cache: CellCache): self.cache = cache", names)
    container.register_singleton(names["CellUser"])
    old_user = container.resolve(names["CellUser"])
    new = run_cell(cell, container=container)["CellCache"]
    user = container.resolve(names["CellUser"])
    assert type(user.cache) is new
    assert user is not old_user


def test_D9_decorated_classes_made_in_a_function(container):
    """A class statement inside a function that runs twice is the same service too, if it is decorated."""

    def cell():
        @injectable(Lifetime.SINGLETON)
        class Inner: ...

        return Inner

    old = cell()
    container.resolve(old)
    new = cell()
    assert type(container.resolve(new)) is new
    assert type(container.resolve(old)) is new


def test_D9_two_classes_of_one_name_made_by_a_function_stay_two(container):
    """A function that makes classes on purpose gives services of their own."""

    def make(size):
        class Model:
            length = size

        return Model

    small, large = make(1), make(2)
    container.register_singleton(small)
    container.register_singleton(large)
    assert (container.resolve(small).length, container.resolve(large).length) == (1, 2)


@pytest.mark.parametrize(
    "key",
    [
        "list[Tone]",
        "Annotated[Tone, 'quick']",
        "Callable[[Tone], float]",
        "Tone | None",
        "NewType('Limit', int)",
        "Kind.QUICK",
        "tone_of",
    ],
)
def test_D9_a_key_of_any_kind_is_found_again_after_its_cell_ran_twice(container, key):
    """Keys that are, or are made of, what a cell defines are replaced when the cell runs again, and found by the old one."""

    def run():
        made = "class Tone: pass\nclass Kind(Enum): QUICK = 1\ndef tone_of(): pass\n"
        names = {"Annotated": Annotated, "Callable": Callable, "Enum": enum.Enum, "NewType": NewType}
        return run_cell(f"{made}key = {key}", **names)["key"]

    former, latest = run(), run()
    container.register_singleton(former, instance="former")
    container.register_singleton(latest, instance="latest")
    assert container.resolve(former) == container.resolve(latest) == "latest"
    assert list(container.registrations())[:1] == [latest]
    assert former not in list(container.registrations())[1:]


def test_D9_unlike_keys_of_a_kind_stay_apart(container):
    """Two lambdas, two members of an enum, two hints of one generic are two services; a union is one in either order."""
    kind = enum.Enum("kind", "QUICK DEEP")
    keys = [lambda: 1, lambda: 2, kind.QUICK, kind.DEEP, list[int], list[str], Annotated[int, 1], int | str]
    for number, key in enumerate(keys):
        container.register_singleton(key, instance=number)
    assert [container.resolve(key) for key in keys] == list(range(8))
    assert container.resolve(str | int) == 7


def test_D9_a_list_has_no_ghosts(container):
    """After the base class's cell and one member's cell ran again, ``list[Base]`` has each member once."""
    base = run_cell("class CellBase: pass")["CellBase"]
    run_cell("@injectable(Lifetime.SINGLETON)\nclass CellMember(CellBase): pass", CellBase=base)
    assert len(container.resolve(list[base])) == 1
    newer = run_cell("class CellBase: pass")["CellBase"]
    assert len(container.resolve(list[newer])) == 1
    member = run_cell("@injectable(Lifetime.SINGLETON)\nclass CellMember(CellBase): pass", CellBase=newer)[
        "CellMember"
    ]
    assert [type(each) for each in container.resolve(list[newer])] == [member]


def test_a_disposal_that_fails_does_not_stop_a_registration(container, caplog):
    """The old singleton's failing ``close`` is logged; the new registration holds."""

    def stuck():
        yield "old"
        raise ValueError("stuck")

    container.register_singleton("x", factory=stuck)
    container.resolve("x")
    with caplog.at_level(logging.WARNING, "analysis_kit"):
        container.register_singleton("x", instance="new")
    assert container.resolve("x") == "new"
    assert "stuck" in caplog.text


def test_users_are_renewed_and_others_kept(container):
    """Only singletons that use what was replaced, at any distance, are built anew, the users being disposed first."""
    log = []

    class Cache:
        def close(self):
            log.append("cache")

    class Middle:
        def __init__(self, cache: Cache):
            self.cache = cache

    class Top:
        def __init__(self, middle: Middle):
            self.middle = middle

        def close(self):
            log.append("top")

    class Other: ...

    for key in (Cache, Middle, Top, Other):
        container.register_singleton(key)
    top, other = container.resolve(Top), container.resolve(Other)
    container.register_singleton(Cache)
    assert log == ["top", "cache"]
    assert container.resolve(Top) is not top
    assert container.resolve(Top).middle.cache is container.resolve(Cache)
    assert container.resolve(Other) is other


def test_a_replaced_transient_in_use_is_left_to_its_user(container):
    """What a transient factory gave out before it was registered again is disposed by `close`, not under its user."""
    log = []

    def make():
        yield "one"
        log.append("tail")

    container.register_transient("x", factory=make)
    assert container.resolve("x") == "one"
    container.register_transient("x", factory=make)
    assert log == []
    container.close()
    assert log == ["tail"]


def test_a_later_registration_fills_an_optional(container):
    """A singleton built without an optional service is built anew once the service is registered."""

    class Cache: ...

    class Service:
        def __init__(self, cache: Cache | None = None):
            self.cache = cache

    container.register_singleton(Service)
    assert container.resolve(Service).cache is None
    container.register_singleton(Cache)
    assert container.resolve(Service).cache is container.resolve(Cache)


def test_auto_registration_is_heeded_while_it_is_on(container):
    """With ``ENABLE_AUTO_REGISTRATION`` off a decorated class is unknown, also where it was resolved before."""
    tone = run_cell()["CellTone"]
    before = container.resolve(tone)
    with override_settings(ENABLE_AUTO_REGISTRATION=False):
        for each in (container, DIContainer()):
            with pytest.raises(ServiceNotFoundError):
                each.resolve(tone)
            assert each.find(tone) is None
    assert container.resolve(tone) is before


def test_a_registration_of_ones_own_comes_before_the_decorator(container):
    """What a container was told itself wins, also when the decorated cell runs again."""
    tone = run_cell()["CellTone"]
    container.register_singleton(tone, instance="mine")
    again = run_cell()["CellTone"]
    assert container.resolve(tone) == container.resolve(again) == "mine"


def test_the_decorator_says_how_it_is_written():
    """Forgotten parentheses are named."""
    with pytest.raises(ConfigurationError, match=r"@injectable\(Lifetime.SINGLETON\)"):

        @injectable
        class Tone: ...


def test_override_reaches_users_and_ends(container):
    """Within the block the double is used, by singletons built before too; afterwards all is as it was."""
    log = []

    class Cache: ...

    class Double(Cache):
        def close(self):
            log.append("double")

    class User:
        def __init__(self, cache: Cache):
            self.cache = cache

    container.register_singleton(Cache)
    container.register_singleton(User)
    user, cache = container.resolve(User), container.resolve(Cache)
    with container.override(Cache, Double):
        assert type(container.resolve(User).cache) is Double
        with container.override(Cache, instance="inner"):
            assert container.resolve(User).cache == "inner"
        assert container.resolve(User).cache is container.resolve(Cache)
        assert type(container.resolve(Cache)) is Double
    assert log == ["double"]
    assert container.resolve(User) is user
    assert container.resolve(Cache) is cache


def test_override_of_something_unregistered_and_its_end(container):
    """A key that only the block knows is unknown again afterwards, even if the block fails."""

    def body():
        with container.override("clock", instance=7):
            assert container.resolve("clock") == 7
            raise KeyError

    with pytest.raises(KeyError):
        body()
    assert container.find("clock") is None


def test_override_keeps_the_lifetime(container):
    """A scoped service is overridden by a scoped one, a transient by a transient."""
    container.register_scoped("s", factory=dict)
    with container.override("s", factory=list):
        with container.create_scope() as one, container.create_scope() as two:
            assert one.resolve("s") is one.resolve("s")
            assert one.resolve("s") is not two.resolve("s")
            assert one.resolve("s") == []


def test_what_is_registered_within_an_override_stays_without_the_double(container):
    """A registration made in the block outlives it, but not what was built there from the double."""

    class Cache: ...

    class User:
        def __init__(self, cache: Cache):
            self.cache = cache

    container.register_singleton(Cache)
    with container.override(Cache, instance="double"):
        container.register_singleton(User)
        assert container.resolve(User).cache == "double"
    assert type(container.resolve(User).cache) is Cache


def test_html_repr_is_a_table_and_escapes(container):
    """Services, lifetimes, live instances, needs and health are shown; names are escaped."""

    class Pool:
        def health_check(self):
            return True

    class Bad:
        def health_check(self):
            raise OSError("down")

    class User:
        def __init__(self, pool: Pool):
            self.pool = pool

    container.register_singleton(Pool)
    container.register_singleton(Bad)
    container.register_transient(User)
    container.register_singleton("<script>", instance=1)
    container.resolve(Pool)
    html = container._repr_html_()
    for words in ("Pool", "transient", "live", "&lt;script&gt;", "not asked"):
        assert words in html
    assert "<script>" not in html
    container.resolve(Bad)
    assert container.health() == {"Pool": True, "Bad": False}
    html = container._repr_html_()
    assert ">healthy<" in html
    assert ">not healthy<" in html


def test_health_asks_live_services_only(container):
    """Nothing is built to be asked, and a service without ``health_check`` is not listed."""
    container.register_singleton("unbuilt", factory=lambda: pytest.fail("it was built"))
    container.register_singleton("plain", instance=1)
    assert container.health() == {}


def test_graph_is_mermaid(container):
    """Each service is a node and each need an arrow."""

    class Pool: ...

    class User:
        def __init__(self, pool: Pool): ...

    container.register_singleton(Pool)
    container.register_scoped(User)
    container.register_singleton('odd "<b>', instance=1)
    with override_settings(ENABLE_AUTO_REGISTRATION=False):
        lines = container.graph().splitlines()
    assert lines == [
        "graph TD",
        '    s0["Pool (singleton)"]',
        '    s1["User (scoped)"]',
        '    s2["odd #quot;#lt;b> (singleton)"]',
        "    s1 --> s0",
    ]


def test_displays_survive_a_broken_registration(container):
    """What cannot be built is still listed; `validate` says what is wrong."""

    class Broken:
        def __init__(self, text: str): ...

    container.register_singleton(Broken)
    assert "Broken" in repr(container)
    assert "Broken" in container._repr_html_()
    assert "Broken" in container.graph()


def test_reset_container_disposes_and_forgets():
    """The process-wide container is one object until it is reset, which disposes its services."""
    log = []

    def service():
        yield 1
        log.append("tail")

    container = get_container()
    assert container is get_container()
    container.register_singleton("x", factory=service)
    container.resolve("x")
    reset_container()
    assert log == ["tail"]
    assert get_container() is not container
    reset_container()


def test_the_process_wide_container_is_disposed_at_exit():
    """A service left alive is closed when the interpreter ends."""
    code = (
        "from analysis_kit.container import get_container\n"
        "def service():\n    yield 1\n    print('tail')\n"
        "get_container().register_singleton('x', factory=service)\n"
        "get_container().resolve('x')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == "tail\n"


def test_using_the_container_loads_no_settings():
    """Without an injectable class the container costs neither pydantic nor concurrent.futures."""
    code = (
        "import sys; from analysis_kit.container import DIContainer\n"
        "class A: ...\n"
        "c = DIContainer(); c.register_singleton(A); c.resolve(A); c.validate(); c.close()\n"
        "print([m for m in ('pydantic', 'pydantic_settings', 'asyncio', 'concurrent.futures') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == "[]\n"


def test_a_container_that_is_dropped_is_freed():
    """Nothing process-wide keeps a container alive."""
    container = DIContainer()
    container.register_singleton("x", factory=dict)
    container.resolve("x")
    gone = weakref.ref(container)
    del container
    gc.collect()
    assert gone() is None


def test_registering_and_resolving_from_many_threads(container):
    """Threads that register, override and resolve at once get a whole answer each time, and the last one holds."""

    class Cache: ...

    class User:
        def __init__(self, cache: Cache):
            self.cache = cache

    container.register_singleton(Cache)
    container.register_singleton(User)
    stop, errors = threading.Event(), []

    def resolve():
        while not stop.is_set():
            try:
                assert type(container.resolve(User).cache) is Cache
            except Exception as exc:
                errors.append(exc)
                return

    threads = [threading.Thread(target=resolve) for _ in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(100):
        container.register_singleton(Cache)
    stop.set()
    for thread in threads:
        thread.join(20)
    assert not errors
    assert container.resolve(User).cache is container.resolve(Cache)


def test_an_override_that_cannot_work_leaves_nothing(container):
    """A wrong override is refused before anything changes; a decorated class from a function is overridden as one."""

    @injectable(Lifetime.SINGLETON)
    class Inner: ...

    with pytest.raises(ConfigurationError):
        with container.override(Inner, instance=1, factory=dict):
            pass
    assert type(container.resolve(Inner)) is Inner
    with container.override(Inner, instance="double"):
        assert container.resolve(list[Inner]) == ["double"]
    assert [type(each) for each in container.resolve(list[Inner])] == [Inner]
