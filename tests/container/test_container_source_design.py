"""Each example of the source design's container section, as written there."""

import pytest

from analysis_kit.container import DIContainer, Lifetime, get_container, injectable, reset_container


class ICache: ...


class ILogger: ...


class IRequest: ...


class ISession: ...


class IConfig: ...


class RedisCache(ICache): ...


class MockCache(ICache): ...


class HttpRequest(IRequest): ...


class DatabaseSession(ISession): ...


class Logger(ILogger):
    def __init__(self, level):
        self.level = level


def create_logger(level):
    return Logger(level)


class MyService:
    def __init__(self, cache: ICache, logger: ILogger):
        self.cache = cache
        self.logger = logger


@injectable(Lifetime.SINGLETON)
class MyAnalyzer:
    def analyze(self, text):
        return len(text)


@pytest.fixture
def container():
    with DIContainer() as container:
        yield container


def test_register_by_implementation_factory_and_instance(container):
    """The first block of the source design: three ways to register, and what resolving gives."""
    my_config = IConfig()
    container.register_singleton(ICache, implementation=RedisCache)
    container.register_transient(IRequest, implementation=HttpRequest)
    container.register_scoped(ISession, implementation=DatabaseSession)
    container.register_singleton(ILogger, factory=lambda: create_logger(level="INFO"))
    container.register_singleton(IConfig, instance=my_config)
    assert isinstance(container.resolve(ICache), RedisCache)
    assert isinstance(container.resolve(IRequest), HttpRequest)
    assert container.resolve(ILogger).level == "INFO"
    assert container.resolve(IConfig) is my_config


def test_lifetimes(container):
    """A singleton is one object, a transient a new one each time, a scoped service one a scope."""
    container.register_singleton(ICache, RedisCache)
    container.register_transient(IRequest, HttpRequest)
    container.register_scoped(ISession, DatabaseSession)
    assert container.resolve(ICache) is container.resolve(ICache)
    assert container.resolve(IRequest) is not container.resolve(IRequest)
    with container.create_scope() as one, container.create_scope() as two:
        assert one.resolve(ISession) is one.resolve(ISession)
        assert one.resolve(ISession) is not two.resolve(ISession)
        assert one.resolve(ICache) is container.resolve(ICache)


def test_constructor_parameters_are_injected(container):
    """A registered class gets what its hints name."""
    container.register_singleton(ICache, RedisCache)
    container.register_singleton(ILogger, factory=lambda: create_logger(level="INFO"))
    container.register_singleton(MyService, implementation=MyService)
    service = container.resolve(MyService)
    assert service.cache is container.resolve(ICache)
    assert service.logger is container.resolve(ILogger)


def test_decorated_class_is_resolvable_from_every_container(container):
    """``@injectable`` registers on import: from the process-wide container and from any other."""
    assert container.resolve(MyAnalyzer).analyze("abc") == 3
    assert container.resolve(MyAnalyzer) is container.resolve(MyAnalyzer)
    try:
        assert get_container().resolve(MyAnalyzer) is get_container().resolve(MyAnalyzer)
        assert get_container().resolve(MyAnalyzer) is not container.resolve(MyAnalyzer)
    finally:
        reset_container()


def test_production_and_testing_registrations(container):
    """The same service class runs on the production cache, then, registered again, on the mock."""

    class Service:
        def __init__(self, cache: ICache):
            self.cache = cache

    container.register_singleton(Service)
    container.register_singleton(ICache, RedisCache)
    assert isinstance(container.resolve(Service).cache, RedisCache)
    container.register_singleton(ICache, MockCache)
    assert isinstance(container.resolve(ICache), MockCache)
    assert isinstance(container.resolve(Service).cache, MockCache)


def test_service_discovery(container):
    """``registrations()`` lists what is there, by key and in order."""
    container.register_singleton(ICache, RedisCache)
    container.register_transient(IRequest, HttpRequest)
    known = container.registrations()
    assert [key for key in known if key in {ICache, IRequest}] == [ICache, IRequest]
    assert known[ICache].lifetime is Lifetime.SINGLETON
    assert known[ICache].implementation is RedisCache
    assert not known[ICache].live
    container.resolve(ICache)
    assert container.registrations()[ICache].live
    assert ICache in container
    assert ILogger not in container


def test_find_gives_none_where_nothing_is_registered(container):
    """``find`` is what the ``get_*`` functions ask first: the service, or None."""
    assert container.find(ICache) is None
    container.register_singleton(ICache, RedisCache)
    assert container.find(ICache) is container.resolve(ICache)
