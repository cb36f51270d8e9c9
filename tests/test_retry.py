"""Retries: what is repeated, how long is waited, who counts, what bounds it, and that a cancel is never swallowed."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
import threading
import time

import pytest
from fakes.ollama import FakeOllama, Play

from analysis_kit import errors, events, retry
from analysis_kit.cancellation import CancelToken, current_token
from analysis_kit.engine.engine import AsyncAnalysisEngine
from analysis_kit.retry import RetryBudget, attempts, call_with_retry, exponential_backoff_retry, is_transient

FAST = {"base_s": 0.001}


class Flaky:
    """Raises the given errors, one a call, then returns "fine"; counts its calls."""

    def __init__(self, *failures):
        self.failures = list(failures)
        self.calls = 0

    def __call__(self):
        self.calls += 1
        if self.failures:
            raise self.failures.pop(0)
        return "fine"

    async def later(self):
        await asyncio.sleep(0)
        return self()


def decorated(flaky, *, how="plain", **options):
    """Return a function without arguments that calls ``flaky`` under the decorator."""
    retried = exponential_backoff_retry(**{**FAST, **options})
    if how == "plain":
        return retried(lambda: flaky())

    @retried
    async def waiting():
        return await flaky.later()

    return lambda: asyncio.run(waiting())


both = pytest.mark.parametrize("how", ["plain", "async"])


@both
def test_a_passing_failure_is_repeated(how):
    """Two transient failures and a success: the success, after three attempts."""
    flaky = Flaky(OSError("one"), ConnectionError("two"))
    assert decorated(flaky, how=how)() == "fine"
    assert flaky.calls == 3


@both
def test_the_last_error_comes_out_as_it_is_with_a_note(how):
    """After max_attempts the last attempt's own error is raised, and says how often it was tried."""
    last = errors.ServerBusyError("server busy, please try again", status=503)
    flaky = Flaky(OSError("one"), last, OSError("three"))
    with pytest.raises(errors.ServerBusyError, match="server busy, please try again") as caught:
        decorated(flaky, how=how, max_attempts=2)()
    assert caught.value is last
    assert flaky.calls == 2
    assert "2 attempts" in caught.value.__notes__[0]


def test_all_the_ways_to_write_it():
    """With arguments, bare, by position, and over a method with arguments; names and docstrings stay."""

    class Thing:
        calls = 0

        @exponential_backoff_retry(2, base_s=0.001)
        def method(self, value, *, plus=0):
            """Do it."""
            self.calls += 1
            if self.calls == 1:
                raise OSError
            return value + plus

    @exponential_backoff_retry
    def bare():
        return "bare"

    assert Thing().method(1, plus=2) == 3
    assert (Thing.method.__name__, Thing.method.__doc__) == ("method", "Do it.")
    assert bare() == "bare"
    assert call_with_retry(int, "7", **FAST) == 7


TRANSIENT = [
    errors.ServerBusyError("busy", status=503),
    errors.OllamaUnreachableError("down"),
    errors.StreamBrokenError("cut"),
    errors.OllamaError("crashed", status=500),
    errors.OllamaError("slow down", status=429),
    errors.OllamaError("timeout", status=408),
    *(
        OSError("io"),
        ConnectionResetError("reset"),
        TimeoutError("late"),
        RuntimeError("own"),
        ValueError("own"),
    ),
]
PERMANENT = [
    errors.ModelNotFoundError("no model", status=404),
    errors.TruncatedAnswerError("cut at the limit"),
    errors.EmptyAnswerError("empty"),
    errors.InvalidAnswerError("no JSON"),
    errors.OllamaTimeoutError("read limit"),
    errors.OllamaError("bad request", status=400),
    errors.OllamaError("moved", status=301),
    errors.OllamaError("unauthorized", status=401),
    errors.ConfigurationError("wrong"),
    errors.PoolTimeoutError("no slot"),
    errors.PoolClosedError("closed"),
    errors.AnalysisError("no cause"),
    *(TypeError("t"), KeyError("k"), AssertionError("a"), NotImplementedError("n"), ZeroDivisionError("z")),
    *(
        FileNotFoundError("f"),
        PermissionError("p"),
        UnicodeDecodeError("utf-8", b"", 0, 1, "u"),
        RecursionError("r"),
    ),
]


@pytest.mark.parametrize("error", TRANSIENT, ids=repr)
def test_transient_errors_are_repeated(error):
    """Busy, unreachable, cut, 5xx, 429, and failures of unknown kinds are worth another try."""
    assert is_transient(error)
    flaky = Flaky(error)
    assert decorated(flaky)() == "fine"


@pytest.mark.parametrize("error", PERMANENT, ids=repr)
def test_permanent_errors_are_raised_at_once(error):
    """A missing model, other 4xx, unusable answers, configuration and errors of programming are tried once."""
    assert not is_transient(error)
    flaky = Flaky(error)
    with pytest.raises(type(error)):
        decorated(flaky)()
    assert flaky.calls == 1


def test_statuses_of_other_http_clients_are_read():
    """An error with a response (requests, httpx) is judged by its status."""

    class Response:
        def __init__(self, status_code):
            self.status_code = status_code

    class HTTPError(OSError):
        def __init__(self, status_code):
            self.response = Response(status_code)

    assert [is_transient(HTTPError(status)) for status in (404, 422, 408, 429, 500, 503)] == [
        *(False, False, True, True, True, True)
    ]


def test_an_analysis_error_is_judged_by_its_cause():
    """A unit's error is as transient as what caused it."""
    error = errors.AnalysisError("unit failed")
    error.__cause__ = OSError("reset")
    assert is_transient(error)
    error.__cause__ = TypeError("t")
    assert not is_transient(error)


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, asyncio.CancelledError, GeneratorExit])
@pytest.mark.parametrize("retry_on", [None, Exception, lambda _: True], ids=["default", "type", "predicate"])
def test_C9_what_is_no_exception_is_never_repeated(kind, retry_on):
    """Interrupts and cancellations pass through whatever the predicate says, after one attempt."""
    flaky = Flaky(kind())
    with pytest.raises(kind):
        decorated(flaky, retry_on=retry_on)()
    assert flaky.calls == 1


def test_C9_a_cancel_ends_an_async_retried_call_at_once():
    """wait_for over a retried call: one attempt, cancelled, and the CancelledError is kept."""
    calls, seen = [], []

    @exponential_backoff_retry(max_attempts=5, base_s=0.001)
    async def slow():
        calls.append(True)
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError as error:
            seen.append(error)
            raise

    async def main():
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(slow(), 0.05)
        task = asyncio.create_task(slow())
        await asyncio.sleep(0.01)
        task.cancel("mine")
        with pytest.raises(asyncio.CancelledError) as caught:
            await task
        return caught.value

    assert asyncio.run(main()).args == ("mine",)
    assert len(calls) == len(seen) == 2


@both
def test_C9_a_cancel_during_the_backoff_leaves_at_once(how):
    """A cancelled unit does not wait out its backoff, and is not tried again."""
    flaky = Flaky(*[OSError("down")] * 9)
    waiting = threading.Event()
    unsubscribe = events.subscribe(lambda event: isinstance(event, events.RetryScheduled) and waiting.set())
    retried = exponential_backoff_retry(base_s=600, max_wait_s=600)
    left = threading.Event()

    def analyze(_):
        try:
            retried(flaky)()
        finally:
            left.set()

    async def analyze_later(_):
        try:
            await retried(flaky.later)()
        finally:
            left.set()

    async def main():
        call = analyze if how == "plain" else analyze_later
        task = asyncio.create_task(AsyncAnalysisEngine(1).analyze_sections_parallel({"a": ""}, call))
        await asyncio.to_thread(waiting.wait, 30)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert left.is_set()

    try:
        asyncio.run(main())
    finally:
        unsubscribe()
    assert flaky.calls == 1


def test_no_retry_after_the_units_own_time_limit():
    """What fails because its unit was cancelled is not tried again, and no wait begins that the deadline would cut."""
    token = CancelToken()
    flaky = Flaky(OSError("aborted"))

    def unit():
        current_token.set(token)
        token.cancel(TimeoutError("over"))
        with pytest.raises(OSError, match="aborted"):
            decorated(flaky)()

    thread = threading.Thread(target=unit)
    thread.start()
    thread.join()
    assert flaky.calls == 1
    late = Flaky(OSError("one"))

    def limited():
        current_token.set(CancelToken(deadline_s=0.01))
        with pytest.raises(OSError, match="one"):
            decorated(late, base_s=1e9, max_wait_s=1e9)()

    thread = threading.Thread(target=limited)
    thread.start()
    thread.join()
    assert late.calls == 1


def test_waits_grow_with_full_jitter_up_to_the_limit(monkeypatch):
    """The n-th wait is drawn from 0 to base * 2**(n-1), at most max_wait_s; two callers do not wait the same."""
    waits = []
    monkeypatch.setattr("analysis_kit.cancellation.sleep", waits.append)
    for _ in range(50):
        with pytest.raises(OSError):
            decorated(
                Flaky(*[OSError()] * 6),
                max_attempts=6,
                base_s=1,
                max_wait_s=5,
                budget=RetryBudget(reserve=1e6),
            )()
    columns = [waits[start::5] for start in range(5)]
    for column, top in zip(columns, (1, 2, 4, 5, 5), strict=True):
        assert 0 <= min(column) < 0.3 * top
        assert 0.7 * top < max(column) <= top
        assert len(set(column)) > 40


@pytest.mark.parametrize(
    ("asked_s", "least", "most"),
    [(7.0, 7, 8), (29.5, 29.5, 30), (3600.0, 30, 30), (0.0, 0, 1), (None, 0, 1)],
)
def test_a_server_that_says_when_to_come_back_is_heeded_within_the_bound(monkeypatch, asked_s, least, most):
    """Its Retry-After comes before the jitter, whether it is the error or a unit's cause, and never beyond max_wait_s."""
    waits = []
    monkeypatch.setattr("analysis_kit.cancellation.sleep", waits.append)
    busy = errors.ServerBusyError("busy", status=429, retry_after_s=asked_s)
    unit = errors.AnalysisError("unit failed")
    unit.__cause__ = busy
    for error in (busy, unit):
        for _ in range(20):
            call_with_retry(Flaky(error), base_s=1, budget=RetryBudget(reserve=1e6))
    assert len(waits) == 40
    assert all(least <= wait_s <= most for wait_s in waits)
    assert len(set(waits)) > 5 or least == most  # jitter, up to the bound


@both
def test_a_retry_after_beyond_the_deadline_is_not_waited_for(how):
    """Where the server wants more time than is left, its error comes out at once, after one attempt."""
    flaky = Flaky(errors.ServerBusyError("busy", status=503, retry_after_s=20.0))
    with pytest.raises(errors.ServerBusyError, match="busy"):
        decorated(flaky, how=how, deadline_s=5)()
    assert flaky.calls == 1


def test_an_overall_deadline_ends_the_attempts(monkeypatch):
    """No attempt begins after deadline_s."""
    monkeypatch.setattr("random.uniform", lambda low, high: high)
    flaky = Flaky(*[OSError("down")] * 9)
    with pytest.raises(OSError, match="down"):
        decorated(flaky, max_attempts=9, base_s=0.02, deadline_s=0.05)()
    assert flaky.calls == 2


@both
def test_attempts_can_be_counted(how):
    """attempts(), on_attempt and the event all tell how often it was tried."""
    counted, heard = [], []
    unsubscribe = events.subscribe(heard.append)
    try:
        decorated(Flaky(OSError("one"), OSError("two")), how=how, on_attempt=counted.append)()
    finally:
        unsubscribe()
    assert counted == [1, 2, 3]
    assert [(event.attempt, event.error_type) for event in heard] == [(1, "OSError"), (2, "OSError")]
    assert all(event.wait_s >= 0 for event in heard)
    call_with_retry(Flaky(OSError("one")), **FAST)
    assert attempts() == 2
    call_with_retry(Flaky(), **FAST)
    assert attempts() == 1


@both
def test_attempts_are_on_the_outcome_and_on_the_error(how):
    """The engine's failures say how often the unit was tried, also when the engine itself runs in a retried call."""

    @exponential_backoff_retry(max_attempts=3, base_s=0.001)
    def plain(text):
        raise OSError(f"no {text}")

    @exponential_backoff_retry(max_attempts=3, base_s=0.001)
    async def waiting(text):
        raise OSError(f"no {text}")

    engine = AsyncAnalysisEngine(2, on_error="collect")
    analyze = plain if how == "plain" else waiting

    @exponential_backoff_retry
    def job():
        return asyncio.run(engine.analyze_sections_parallel({"a": "x"}, analyze, "tone"))

    error = job()["a"]
    assert error.attempts == 3
    assert "tone on 'a' failed after 3 attempts" in str(error)
    assert "OSError: no x" in str(error)


@both
def test_a_retried_call_inside_another_is_not_multiplied(how):
    """Three attempts outside and three inside are three calls, not nine; afterwards each counts for itself again."""
    flaky = Flaky(*[OSError("down")] * 20)
    inner = decorated(flaky)
    if how == "plain":
        outer = exponential_backoff_retry(**FAST)(inner)
    else:

        @exponential_backoff_retry(**FAST)
        async def nested():
            return inner()

        def outer():
            return asyncio.run(nested())

    for calls in (3, 6):
        with pytest.raises(OSError):
            outer()
        assert flaky.calls == calls
    with pytest.raises(OSError):
        inner()
    assert flaky.calls == 9


def test_a_budget_bounds_retries_in_sum(caplog):
    """When everything fails, retries end with the reserve and what calls have earned, not at 3 x calls."""
    budget = RetryBudget(ratio=0.5, reserve=10, refill_per_s=0)
    flaky = Flaky(*[OSError("down")] * 1000)
    for _ in range(100):
        with pytest.raises(OSError) as caught:
            decorated(flaky, budget=budget)()
    assert 100 + 10 + 40 <= flaky.calls <= 100 + 10 + 50
    assert any("retry budget is spent" in note for note in caught.value.__notes__)


def test_a_budget_fills_again(monkeypatch):
    """Time and calls earn retries, never more than the reserve."""
    now = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    budget = RetryBudget(ratio=0.5, reserve=2, refill_per_s=1)
    assert [budget.take() for _ in range(3)] == [True, True, False]
    budget.call()
    budget.call()
    assert [budget.take(), budget.take()] == [True, False]
    now = 100.0
    assert [budget.take() for _ in range(3)] == [True, True, False]


def test_what_to_repeat_can_be_said():
    """retry_on takes a type, several, or a predicate, in place of the default."""
    assert decorated(Flaky(KeyError()), retry_on=KeyError)() == "fine"
    assert decorated(Flaky(KeyError(), TypeError()), retry_on=(KeyError, TypeError))() == "fine"
    with pytest.raises(OSError):
        decorated(Flaky(OSError()), retry_on=KeyError)()
    assert decorated(Flaky(KeyError("again")), retry_on=lambda error: "again" in str(error))() == "fine"


@pytest.mark.parametrize(
    "options",
    [{"max_attempts": 0}, {"max_attempts": 1.5}, {"max_attempts": True}, {"base_s": -1}, {"deadline_s": -1}],
    ids=str,
)
def test_options_that_cannot_work_are_refused(options):
    """The error names the option and its value, when the decorator is written."""
    [(name, value)] = options.items()
    with pytest.raises(errors.ConfigurationError, match=f"{name}={value}"):
        exponential_backoff_retry(**options)


def test_a_generator_function_is_refused():
    """Its call only makes the generator, so nothing would be repeated: the decorator says what to decorate instead."""

    def plain():
        yield

    async def waiting():
        yield

    for function in (plain, waiting):
        with pytest.raises(errors.ConfigurationError, match="is a generator function: .* for each item"):
            exponential_backoff_retry(function)


def test_retries_are_logged_with_the_servers_words(caplog):
    """Each retry leaves one INFO record: attempt, error, wait."""
    with caplog.at_level(logging.INFO, logger="analysis_kit.retry"):
        decorated(Flaky(errors.ServerBusyError("maximum pending requests exceeded")))()
    [record] = caplog.records
    assert (
        "attempt 1 of at most 3 failed (ServerBusyError: maximum pending requests exceeded)"
        in record.getMessage()
    )


def test_importing_is_light():
    """The tenacity package loads with the first retried call, not with the import."""
    text = "import sys, analysis_kit.retry; print('tenacity' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", text], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == "False\n"


# -- against a server --------------------------------------------------------------------------------------------------


@pytest.fixture
def server():
    """A fake Ollama and a retried question to it."""
    client_module = pytest.importorskip("analysis_kit.ollama.client")
    with FakeOllama(answer=lambda request: "fine") as fake:
        client = client_module.OllamaClient(fake.url)

        @exponential_backoff_retry(max_attempts=3, base_s=0.001)
        def ask(model):
            return client.generate("question", model=model)

        yield fake, ask
        client.close()


BUSY = Play(status=503, body={"error": "server busy, please try again.  maximum pending requests exceeded"})


def generated(fake):
    return [request for request in fake.requests if request.path == "/api/generate"]


def model_of(fake):
    return next(iter(fake.models))


def test_O1_a_busy_server_is_asked_again(server):
    """503 twice, then 200: the answer, after three requests."""
    fake, ask = server
    fake.script("/api/generate", BUSY, BUSY)
    assert ask(model_of(fake)).text == "fine"
    assert len(generated(fake)) == 3


def test_O1_the_servers_words_are_in_the_final_error(server):
    """503 for ever: three requests, and an error with the server's own text."""
    fake, ask = server
    fake.script("/api/generate", BUSY, BUSY, BUSY, BUSY)
    with pytest.raises(errors.ServerBusyError, match="maximum pending requests exceeded"):
        ask(model_of(fake))
    assert len(generated(fake)) == 3


def test_O17_a_missing_model_is_asked_for_once(server):
    """404: one request, and a typed error with the model's name and how to get it."""
    fake, ask = server
    with pytest.raises(errors.ModelNotFoundError, match=r"no-such-model.*pull"):
        ask("no-such-model")
    assert len(generated(fake)) == 1


def test_O3_a_truncation_is_not_asked_again(server):
    """A question cut at its token limit is one request and a truncation, never the same request again."""
    fake, _ = server
    from analysis_kit.ollama.client import OllamaClient
    from analysis_kit.ollama.questions import Question

    pydantic = pytest.importorskip("pydantic")

    class Answer(pydantic.BaseModel):
        label: str

    fake.script("/api/generate", Play(text='{"label": "po', fields={"done_reason": "length"}))
    fake.script("/api/chat", Play(text='{"label": "po', fields={"done_reason": "length"}))
    question = Question(name="tone", prompt="{text}", schema=Answer)
    with OllamaClient(fake.url, model=model_of(fake)) as client, pytest.raises(errors.TruncatedAnswerError):
        call_with_retry(lambda: client.ask(question, "text"), base_s=0.001)
    assert len([each for each in fake.requests if each.path in {"/api/generate", "/api/chat"}]) == 1


def test_a_shared_budget_is_process_wide():
    """Calls that name no budget share one."""
    assert isinstance(retry.shared_budget, RetryBudget)
