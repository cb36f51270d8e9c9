"""One construction under a race, and disposal in reverse order whatever happens: D6 of the published failures."""

import asyncio
import contextlib
import threading
from concurrent.futures import ThreadPoolExecutor
from unittest import mock

import pytest

from analysis_kit.container import DIContainer, Lifetime
from analysis_kit.errors import CircularDependencyError, ContainerError


@pytest.fixture
def container():
    with DIContainer() as container:
        yield container


class Slow: ...


def race(ask, threads=8):
    """Return what ``ask`` gives, or raises, in so many threads that start together."""
    start = threading.Barrier(threads, timeout=20)

    def one():
        start.wait()
        try:
            return ask()
        except ValueError as exc:
            return exc

    with ThreadPoolExecutor(threads) as pool:
        return [each.result(timeout=20) for each in [pool.submit(one) for _ in range(threads)]]


@pytest.mark.parametrize("lifetime", ["singleton", "scoped"])
def test_D6_one_construction_under_a_race(container, lifetime):
    """Eight threads ask at once while the construction is slow: it runs once, and all get the same object."""
    building, release, built = threading.Event(), threading.Event(), []

    def make():
        built.append(1)
        building.set()
        assert release.wait(20)
        return Slow()

    getattr(container, f"register_{lifetime}")(Slow, factory=make)
    with container.create_scope() as scope:
        timer = threading.Thread(target=lambda: building.wait(20) and release.set())
        timer.start()
        services = race(lambda: scope.resolve(Slow))
        timer.join(20)
    assert len(built) == 1
    assert len(set(map(id, services))) == 1
    assert type(services[0]) is Slow


def test_D6_a_failed_construction_is_not_kept(container):
    """The first construction fails, for one caller; the others, and later ones, get a whole object."""
    tries = []

    def make():
        tries.append(1)
        if len(tries) == 1:
            raise ValueError("the first time")
        return Slow()

    container.register_singleton(Slow, factory=make)
    results = race(lambda: container.resolve(Slow))
    assert sum(isinstance(each, ValueError) for each in results) == 1
    assert len(tries) == 2
    assert container.resolve(Slow) in results


def test_D6_no_lock_is_held_while_a_service_is_built(container):
    """While one service is being built, another can be registered and built on another thread."""
    building, release = threading.Event(), threading.Event()

    def make():
        building.set()
        assert release.wait(20)
        return Slow()

    container.register_singleton(Slow, factory=make)
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(container.resolve, Slow)
        assert building.wait(20)
        container.register_singleton("quick", factory=dict)
        assert container.resolve("quick") == {}
        release.set()
        assert isinstance(slow.result(timeout=20), Slow)


def test_each_task_has_its_own_scope(container):
    """Tasks of one gather each open a scope: none sees or closes another's service."""

    class Session:
        closed = False

        def close(self):
            self.closed = True

    container.register_scoped(Session)

    async def work(arrived, go):
        async with container.create_scope() as scope:
            session = scope.resolve(Session)
            arrived.release()
            await go.wait()
            assert not session.closed
            return session

    async def main():
        arrived, go = asyncio.Semaphore(0), asyncio.Event()
        first = asyncio.create_task(work(asyncio.Semaphore(0), go))
        done = asyncio.Event()
        done.set()
        second = await work(arrived, done)
        assert second.closed
        go.set()
        return await first, second

    one, two = asyncio.run(main())
    assert one is not two
    assert one.closed


def closing(name, log, fails=()):
    """Return a class whose ``close`` notes its name."""

    def close(self):
        log.append(name)
        if name in fails:
            raise ValueError(f"{name} is stuck")

    return type(name, (), {"close": close})


def test_disposal_runs_in_reverse_order_even_when_one_fails(container):
    """The youngest goes first; a failing one is named in the error, after all others have gone too."""
    log = []
    scope = container.create_scope()
    for name in "abc":
        container.register_scoped(name, closing(name, log, fails="b"))
        scope.resolve(name)
    with pytest.raises(ContainerError, match=r"1 of 3 .*b: ValueError: b is stuck") as caught:
        scope.close()
    assert log == ["c", "b", "a"]
    assert isinstance(caught.value.__cause__, ValueError)
    scope.close()
    assert log == ["c", "b", "a"]


def test_a_failing_body_is_not_hidden_by_a_failing_disposal(container):
    """The body's own error comes out, with a note about the disposal."""
    container.register_scoped("a", closing("a", [], fails="a"))

    def body():
        with container.create_scope() as scope:
            scope.resolve("a")
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine") as caught:
        body()
    assert "a is stuck" in caught.value.__notes__[0]


def test_a_generator_factory_has_its_tail_run_and_sees_the_error(container):
    """What follows ``yield`` runs on leaving the scope; a body's error arrives at the ``yield``, as in a transaction."""
    log = []

    def session():
        try:
            yield "session"
        except KeyError:
            log.append("rolled back")
            raise
        else:
            log.append("committed")
        finally:
            log.append("closed")

    container.register_scoped("session", factory=session)
    with container.create_scope() as scope:
        assert scope.resolve("session") == "session"
    with pytest.raises(KeyError), container.create_scope() as scope:
        scope.resolve("session")
        raise KeyError
    assert log == ["committed", "closed", "rolled back", "closed"]


def test_context_managers_are_entered_and_left(container):
    """A class that is a context manager is entered once built; a ``@contextmanager`` factory gives what it yields."""
    log = []

    class Managed:
        def __enter__(self):
            log.append("enter")

        def __exit__(self, *_):
            log.append("exit")

        def close(self):
            log.append("close")

    @contextlib.contextmanager
    def opened():
        log.append("open")
        yield 5
        log.append("shut")

    container.register_singleton(Managed)
    container.register_singleton("number", factory=lambda: opened())
    assert isinstance(container.resolve(Managed), Managed)
    assert container.resolve("number") == 5
    container.close()
    assert log == ["enter", "open", "shut", "exit"]


def test_what_is_not_ours_to_dispose_is_left_alone(container):
    """A given instance is not closed, a lock not taken, a mock from a factory not replaced by what it enters as."""
    log = []
    mine = closing("mine", log)()
    double = mock.MagicMock()
    container.register_singleton("mine", instance=mine)
    container.register_singleton("lock", factory=threading.Lock)
    container.register_singleton("async lock", factory=asyncio.Lock)
    container.register_singleton("double", factory=lambda: double)
    container.register_transient("loose", closing("loose", log))
    assert container.resolve("lock").acquire(blocking=False)
    assert not container.resolve("async lock").locked()
    assert container.resolve("double") is double
    container.resolve("mine")
    container.resolve("loose")
    container.close()
    assert log == []


def test_a_scope_disposes_its_transients(container):
    """A transient made in a scope goes with it, a transient generator's tail too."""
    log = []

    def tail():
        yield "x"
        log.append("tail")

    container.register_transient("loose", closing("loose", log))
    container.register_transient("tail", factory=tail)
    with container.create_scope() as scope:
        scope.resolve("loose")
        scope.resolve("tail")
        scope.resolve("loose")
    assert log == ["loose", "tail", "loose"]


def test_a_closed_scope_says_so_and_a_closed_container_starts_anew(container):
    """Nothing is built in a scope that is over; a container's singletons are made anew after `close`."""
    container.register_singleton(Slow)
    container.register_scoped("s", factory=dict)
    scope = container.create_scope()
    scope.resolve("s")
    scope.close()
    with pytest.raises(ContainerError, match="closed"):
        scope.resolve("s")
    first = container.resolve(Slow)
    container.close()
    assert container.resolve(Slow) is not first


def test_an_interrupt_while_disposing_still_disposes_the_rest(container):
    """A KeyboardInterrupt in one ``close`` reaches the caller, after the others were closed."""
    log = []

    def interrupted():
        yield 1
        raise KeyboardInterrupt

    container.register_scoped("a", closing("a", log))
    container.register_scoped("b", factory=interrupted)
    scope = container.create_scope()
    scope.resolve("a")
    scope.resolve("b")
    with pytest.raises(KeyboardInterrupt):
        scope.close()
    assert log == ["a"]


class AsyncSession:
    """Entered and left by awaiting only."""

    def __init__(self, log):
        self.log = log

    async def __aenter__(self):
        self.log.append("enter")
        return self

    async def __aexit__(self, *_):
        await asyncio.sleep(0)
        self.log.append("exit")


def test_async_factories_are_awaited_and_a_sync_resolve_says_so(container):
    """``aresolve`` awaits coroutine functions, async generators and async context managers; ``resolve`` names it."""
    log = []

    async def connect():
        await asyncio.sleep(0)
        return "connected"

    async def generator():
        yield "value"
        await asyncio.sleep(0)
        log.append("tail")

    class Service:
        def __init__(self, connection: "Connection"):
            self.connection = connection

    class Connection: ...

    container.register_singleton(Connection, factory=connect)
    container.register_singleton("lambda", factory=lambda: connect())
    container.register_singleton("generator", factory=generator)
    container.register_singleton("managed", factory=lambda: AsyncSession(log))
    container.register_transient(Service)
    for key in (Connection, Service, "lambda", "generator", "managed"):
        with pytest.raises(ContainerError, match="await container.aresolve"):
            container.resolve(key)

    async def main():
        assert await container.aresolve("lambda") == "connected"
        assert await container.aresolve("generator") == "value"
        assert isinstance(await container.aresolve("managed"), AsyncSession)
        service = await container.aresolve(Service)
        assert service.connection == "connected"
        assert container.resolve(Connection) == "connected"
        with pytest.raises(ContainerError, match="aclose"):
            container.close()
        assert log == ["enter"]
        await container.aclose()

    asyncio.run(main())
    assert log == ["enter", "exit", "tail"]


def test_async_construction_runs_once_across_tasks_and_loops(container):
    """Tasks of one loop and loops of two threads share one construction; a cancelled waiter hurts nobody."""
    built = []

    async def main():
        started, go = asyncio.Event(), asyncio.Event()

        async def make():
            built.append(1)
            started.set()
            await go.wait()
            return Slow()

        container.register_singleton(Slow, factory=make)
        first = asyncio.create_task(container.aresolve(Slow))
        await started.wait()
        waiter, loser = (asyncio.create_task(container.aresolve(Slow)) for _ in range(2))
        elsewhere = asyncio.create_task(asyncio.to_thread(lambda: asyncio.run(container.aresolve(Slow))))
        await asyncio.sleep(0)
        loser.cancel()
        with pytest.raises(asyncio.CancelledError):
            await loser
        with pytest.raises(ContainerError, match="aresolve"):
            container.resolve(Slow)
        go.set()
        return await asyncio.gather(first, waiter, elsewhere)

    services = asyncio.run(main())
    assert len(built) == 1
    assert len(set(map(id, services))) == 1


def test_a_cancelled_async_construction_is_not_kept(container):
    """The builder's task is cancelled: whoever waits builds it."""
    tries = []

    async def main():
        started = asyncio.Event()

        async def make():
            tries.append(1)
            started.set()
            if len(tries) == 1:
                await asyncio.Event().wait()
            return Slow()

        container.register_singleton(Slow, factory=make)
        first = asyncio.create_task(container.aresolve(Slow))
        await started.wait()
        second = asyncio.create_task(container.aresolve(Slow))
        await asyncio.sleep(0)
        first.cancel()
        return await second

    assert isinstance(asyncio.run(main()), Slow)
    assert len(tries) == 2


def test_D1_async_factories_in_a_circle(container):
    """A cycle that asynchronous factories close by their own calls is found, too."""

    async def one():
        return await container.aresolve("two")

    async def two():
        return await container.aresolve("one")

    for register in (container.register_singleton, container.register_transient):
        register("one", factory=one)
        register("two", factory=two)
        with pytest.raises(CircularDependencyError, match="one -> two -> one"):
            asyncio.run(container.aresolve("one"))


def test_an_async_scope_disposes_when_its_task_is_cancelled(container):
    """Cancelled in the body and again while disposing: every tail runs, in reverse, and the cancel comes out."""
    log = []

    async def main():
        inside, disposing = asyncio.Event(), asyncio.Event()

        async def slow_tail():
            yield "slow"
            disposing.set()
            try:
                await asyncio.Event().wait()
            finally:
                log.append("slow")

        async def quick_tail():
            yield "quick"
            log.append("quick")

        container.register_scoped("quick", factory=quick_tail)
        container.register_scoped("plain", closing("plain", log))
        container.register_scoped("slow", factory=slow_tail)

        async def work():
            async with container.create_scope() as scope:
                for key in ("quick", "plain", "slow"):
                    await scope.aresolve(key)
                inside.set()
                await disposing.wait() if log else None

        task = asyncio.create_task(work())
        await inside.wait()
        await disposing.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert log == ["slow", "plain", "quick"]


def test_lifetime_values():
    """The three lifetimes are named as the source design names them."""
    assert {each.name for each in Lifetime} == {"SINGLETON", "TRANSIENT", "SCOPED"}
