"""Many hosts: work goes where it is done first, a host that fails costs nothing but itself, and it comes back."""

from __future__ import annotations

import asyncio
import contextlib
import threading

import pytest
from fakes.ollama import FakeOllama, Play
from fakes.threads import in_thread

from analysis_kit.cancellation import CancelToken
from analysis_kit.errors import (
    ModelNotFoundError,
    OllamaError,
    OllamaTimeoutError,
    OllamaUnreachableError,
    PoolClosedError,
    ServerBusyError,
    StreamBrokenError,
)
from analysis_kit.ollama import balance
from analysis_kit.ollama.balance import Host, choose
from analysis_kit.ollama.pool import OllamaConnectionPool
from analysis_kit.retry import call_with_retry, is_transient


@pytest.fixture
def lab():
    """Serve with three hosts of four slots."""
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(FakeOllama(slots=4)) for _ in range(3)]


@pytest.fixture
def make():
    """Make pools over hosts, and shut them down after."""
    made = []

    def build(fakes, *args, **options):
        options.setdefault("model", "fake")
        pool = OllamaConnectionPool(*args, hosts=[fake.url for fake in fakes], **options)
        made.append(pool)
        return pool

    yield build
    for pool in made:
        pool.shutdown()


def call(pool, model=None):
    """Ask once through the pool; return the reply."""
    with pool.get_connection(model=model) as client:
        return client.generate("x")


def asked(fake):
    """Count the questions that a host got."""
    return len(fake.asked("/api/generate"))


def states(pool):
    """Return host -> (up, failed, active)."""
    return {host["host"]: (host["up"], host["failed"], host["active"]) for host in pool.get_stats()["hosts"]}


def test_work_is_spread_over_free_hosts(lab, make):
    """As many requests at once as there are hosts run one on each, and the reply says which."""
    pool = make(lab, 6, 0)
    go = threading.Event()
    for fake in lab:
        fake.script("/api/generate", *[Play(text="x", gate=go)] * 6)
    replies = []
    threads = [threading.Thread(target=lambda: replies.append(call(pool))) for _ in range(6)]
    for number, thread in enumerate(threads):
        thread.start()
        threading.Event().wait(0)
        while sum(fake.running for fake in lab) <= number:
            threading.Event().wait(0.001)
    assert [fake.running for fake in lab] == [2, 2, 2]
    assert sorted(host["active"] for host in pool.get_stats()["hosts"]) == [2, 2, 2]
    go.set()
    for thread in threads:
        thread.join(5)
    assert {reply.host for reply in replies} == {fake.url for fake in lab}
    assert all(active == 0 for _, _, active in states(pool).values())


def test_a_slot_moves_to_the_host_that_is_next_and_connections_stay_bounded(lab, make):
    """Slots are not bound to a host: over all hosts there are never more connections than slots."""
    pool = make(lab, 2, 0)
    threads = [threading.Thread(target=lambda: [call(pool) for _ in range(20)]) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert sum(asked(fake) for fake in lab) == 120
    assert all(asked(fake) for fake in lab)
    assert sum(fake.max_running for fake in lab) >= 2
    for fake in lab:
        fake.until(lambda fake=fake: fake.open_connections <= 2)
    assert sum(fake.open_connections for fake in lab) <= 2
    assert pool.get_stats()["open_slots"] == 2


@pytest.mark.parametrize("step", ["other slot", "other client"])
def test_an_interrupt_while_a_slot_changes_its_host_loses_and_doubles_nothing(lab, make, step):
    """Just after the surplus slot went back, or the new client was made: each slot is free once, no host counts as busy."""
    pool = make(lab[:2], 2, 0)
    if step == "other slot":
        with pool.get_connection(), pool.get_connection():
            pass
        owner, name = pool.queue, "free"
    else:
        call(pool)
        owner, name = pool.placement, "_connect"
    real, busy = getattr(owner, name), pool.queue.idle[-1].host

    def interrupted(*args):
        setattr(owner, name, real)
        real(*args)
        raise KeyboardInterrupt

    setattr(owner, name, interrupted)
    busy.out += 5
    with pytest.raises(KeyboardInterrupt):
        call(pool)
    busy.out -= 5
    assert getattr(owner, name) == real
    assert len(set(pool.queue.idle)) == len(pool.queue.idle) == pool.get_stats()["open_slots"]
    assert all(active == 0 for _, _, active in states(pool).values())
    with pool.get_connection() as one, pool.get_connection() as two:
        assert one is not two


@pytest.mark.parametrize("drain_s", [0.0, 5.0])
@pytest.mark.parametrize("first", [0, 1], ids=["stays", "moves"])
def test_who_is_being_placed_at_a_shutdown_asks_nothing_after_it(lab, make, first, drain_s):
    """The pool is shut down while a caller looks where its model is: it gets PoolClosedError, and no host its question."""
    pool = make(lab[:2])
    gate, errors = threading.Event(), []
    for number, fake in enumerate(lab[:2]):
        models = [{"name": "fake"}] if number == first else []
        fake.script("/api/tags", Play(body={"models": models}, gate=gate))

    def work():
        try:
            call(pool)
        except BaseException as exc:
            errors.append(exc)

    thread = threading.Thread(target=work)
    thread.start()
    for fake in lab[:2]:
        fake.until(lambda fake=fake: len(fake.asked("/api/tags")) == 1)
    closer = threading.Thread(target=pool.shutdown, kwargs={"drain_s": drain_s})
    closer.start()
    lab[0].until(lambda: pool.closed)
    if not drain_s:
        closer.join(5)
    gate.set()
    thread.join(10)
    closer.join(10)
    assert [type(error) for error in errors] == [PoolClosedError]
    assert asked(lab[0]) == asked(lab[1]) == 0
    assert pool.get_stats()["open_slots"] == 0
    assert all(active == 0 for _, _, active in states(pool).values())


def test_a_model_is_asked_where_it_is(lab, make):
    """Only hosts that list the model are asked; one that none has is a ModelNotFoundError that names the hosts."""
    lab[1].models["big:70b"] = {}
    pool = make(lab, model=None)
    assert {call(pool, "big:70b").host for _ in range(6)} == {lab[1].url}
    with pytest.raises(ModelNotFoundError, match="ollama pull huge") as caught:
        call(pool, "huge")
    assert all(fake.url in str(caught.value) for fake in lab)
    assert pool.get_stats()["active_connections"] == 0


def test_a_model_that_moved_is_found_again(lab, make):
    """A host that lost the model answers 404: the request moves, and that host is looked at anew, not set aside."""
    pool = make(lab[:2])
    assert call(pool).host == lab[0].url
    del lab[0].models["fake:latest"]
    assert {call(pool).host for _ in range(4)} == {lab[1].url}
    assert asked(lab[0]) == 2
    assert states(pool)[lab[0].url] == (True, 0, 0)


def test_a_host_that_has_the_model_in_memory_comes_first(lab, make):
    """Among free hosts the one where the model is loaded is asked."""
    for fake in lab[:2]:
        fake._loaded = {}
    pool = make(lab, 4, 0)
    assert {call(pool).host for _ in range(5)} == {lab[2].url}


def test_a_full_host_with_the_model_does_not_draw_everything():
    """Resident is not idle: a host that is full comes after a free one that must load first, and speed decides the rest."""
    full, idle = Host("http://a:1", api_key=None), Host("http://b:1", api_key=None)
    for host in (full, idle):
        host._models = ("m:latest",)
    full._loaded = ("m:latest",)
    assert choose([full, idle], "m") is full
    full.out = 1
    assert choose([full, idle], "m") is idle
    idle.out = 1
    full.service_s, idle.service_s = 1.0, 4.0
    assert choose([full, idle], "m") is full
    full.out = 8
    assert choose([full, idle], "m") is idle


@pytest.mark.parametrize(
    "play",
    [
        Play(drop=True),
        Play(text="half a", cut_at=150),
        Play(status=503, body={"error": "busy"}),
        Play(status=500, body={"error": "crashed"}),
        Play(body="<html>", content_type="text/html"),
    ],
)
def test_a_request_moves_once_when_its_host_fails(lab, make, play):
    """Dead, broken, busy, crashed or no Ollama at all: another host answers, and the failing one is set aside."""
    pool = make(lab)
    lab[0].script("/api/generate", play)
    assert call(pool).host == lab[1].url
    assert states(pool)[lab[0].url] == (False, 1, 0)
    for fake in lab:
        fake.script("/api/generate", *[play] * 3)
    once = make(lab)
    with pytest.raises(OllamaError):
        call(once)
    assert [asked(fake) for fake in lab] == [2, 2, 0]
    assert all(active == 0 for _, _, active in states(once).values())


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (400, "invalid option"),
        (500, 'option "num_ctx" must be of type integer'),
        (500, "invalid JSON schema in format"),
    ],
)
def test_a_request_that_is_wrong_does_not_move(lab, make, status, words):
    """A 400, and a 500 that blames the request, is the request's own fault: it is asked once, and no host is blamed."""
    pool = make(lab)
    for fake in lab:
        fake.script("/api/generate", Play(status=status, body={"error": words}))
    with pytest.raises(OllamaError, match=words):
        call(pool)
    assert sum(asked(fake) for fake in lab) == 1
    assert all(up and not failed for up, failed, _ in states(pool).values())


def test_a_stream_moves_only_before_its_first_piece(lab, make):
    """What the caller has seen is not told again by another host."""
    pool = make(lab[:2])
    lab[0].script("/api/generate", Play(drop=True))
    with pool.get_connection() as client:
        assert "".join(piece.text for piece in client.generate("x", stream=True)) == "ok"
    for host in pool.members:
        host._failures = 0
    for fake in lab[:2]:
        fake.script("/api/generate", Play(lines=[{"response": "half", "done": False}]))
    with pool.get_connection() as client, pytest.raises(StreamBrokenError):
        list(client.generate("x", stream=True))


def test_a_host_that_accepts_and_never_answers_is_set_aside(lab, make):
    """After the read limit the request is answered elsewhere; a probe finds the mute host mute, quickly."""
    pool = make(lab[:2], read_timeout_s=0.2, load_timeout_s=0)
    lab[0].script("/api/generate", Play(hang=True))
    assert call(pool).host == lab[1].url
    assert not states(pool)[lab[0].url][0]
    assert call(pool).host == lab[1].url


def test_a_failing_host_gets_growing_pauses_and_comes_back(lab, make, monkeypatch):
    """Each failure in a row doubles the pause up to a bound; a host that answers its probe is in use again."""
    host = Host("http://a:1", api_key=None)
    monkeypatch.setattr(balance.random, "uniform", lambda low, high: high)
    now = [100.0]
    monkeypatch.setattr(balance.time, "monotonic", lambda: now[0])
    pauses = []
    for _ in range(12):
        host.fail(OllamaError("no"))
        pauses.append(host._until - now[0])
    assert pauses[:4] == [0.5, 1.0, 2.0, 4.0]
    assert pauses[-1] == balance.LONGEST_PAUSE_S
    monkeypatch.undo()

    monkeypatch.setattr(balance, "FIRST_PAUSE_S", 0.02)
    pool = make(lab[:2])
    lab[0].stop()
    assert {call(pool).host for _ in range(4)} == {lab[1].url}
    lab[0].start()
    for _ in range(500):
        if call(pool).host == lab[0].url:
            break
        threading.Event().wait(0.005)
    else:
        pytest.fail("the host never came back")
    assert states(pool)[lab[0].url][0]


def test_all_hosts_down_is_one_error_with_each_ones_last_failure(lab, make):
    """With nobody left the error names every host and what it last said; when one is back the next call works."""
    pool = make(lab)
    for fake in lab:
        fake.stop()
    with pytest.raises(OllamaUnreachableError, match="none of the 3 hosts answers") as caught:
        for _ in range(3):
            with contextlib.suppress(StreamBrokenError):
                call(pool)
    assert str(caught.value).count("refused") == 3
    assert pool.health_check() is False
    assert pool.get_stats()["active_connections"] == 0
    lab[2].start()
    assert call(pool).host == lab[2].url
    assert pool.health_check() is True


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("named", [True, False])
def test_the_first_call_to_hosts_that_are_all_down_names_each_once(count, named):
    """Whether a model was named or not, at checkout or at the call: one error, each host in it once with its failure."""
    hosts = [f"127.0.0.1:{port}" for port in range(1, count + 1)]
    pool = OllamaConnectionPool(hosts=[*hosts, hosts[0]], model="fake" if named else None)
    for _ in range(2):
        with pytest.raises(OllamaUnreachableError) as caught:
            call(pool)
        text = str(caught.value)
        assert text.startswith(f"none of the {count} hosts answers")
        assert [text.count(f"{host}: ") for host in hosts] == [1] * count
    assert pool.get_stats()["active_connections"] == 0


def test_hosts_that_die_during_a_request_are_one_error_with_each_ones_failure(lab, make):
    """Both hosts of a pool die under its request: the second failure, which moves no more, is noted and told as well."""
    pool = make(lab[:2])
    call(pool)
    for ask in (lambda client: client.generate("x"), lambda client: client.embed("x", "fake")):
        for host in pool.members:
            host._failures = 0
        with pool.get_connection() as client:
            for fake in lab[:2]:
                fake.stop()
            with pytest.raises(OllamaUnreachableError, match="none of the 2 hosts answers"):
                ask(client)
        assert [up for up, _, _ in states(pool).values()] == [False, False]
        for fake in lab[:2]:
            fake.start()
    assert call(pool).text == "ok"


def test_hosts_that_are_both_too_slow_are_asked_once_each(lab, make):
    """A read limit that ran out on both is the last one's OllamaTimeoutError, which nothing repeats."""
    pool = make(lab[:2], read_timeout_s=0.2, load_timeout_s=0.1)
    for fake in lab[:2]:
        fake.script("/api/generate", Play(hang=True))
    with pytest.raises(OllamaTimeoutError) as caught:
        call(pool)
    assert not is_transient(caught.value)
    assert [asked(fake) for fake in lab[:2]] == [1, 1]


def test_the_only_host_that_is_up_speaks_for_itself(lab, make):
    """Busy, with the other one set aside: its own 503, with the time that it asked for, not "none answers"."""
    pool = make(lab[:2])
    pool.members[1].fail(OllamaError("gone"))
    lab[0].script("/api/generate", Play(status=503, body={"error": "busy"}, headers={"Retry-After": "7"}))
    with pytest.raises(ServerBusyError) as caught:
        call(pool)
    assert (caught.value.status, caught.value.retry_after_s) == (503, 7)


@pytest.mark.parametrize(("status", "kind"), [(503, ServerBusyError), (500, OllamaError)])
def test_hosts_that_answer_with_failures_are_not_called_unreachable(lab, make, status, kind):
    """Where both hosts of a request refuse it the error is the last one's own, with status and words."""
    pool = make(lab[:2])
    for fake in lab[:2]:
        fake.script("/api/generate", Play(status=status, body={"error": "no memory"}))
    with pytest.raises(kind, match="no memory") as caught:
        call(pool)
    assert (type(caught.value), caught.value.status) == (kind, status)


def test_a_model_that_was_pulled_meanwhile_is_found_at_once(lab, make):
    """A model that no host had a moment ago is looked for again, so that ``ollama pull`` and the same cell suffice."""
    pool = make(lab[:2])
    with pytest.raises(ModelNotFoundError):
        call(pool, "new")
    lab[1].models["new:latest"] = {}
    assert call(pool, "new").host == lab[1].url


def test_a_host_that_comes_back_with_other_models_is_asked_for_them(lab, make, monkeypatch):
    """What a host had before it went away does not count when it is back: its new model is found, its old one elsewhere."""
    monkeypatch.setattr(balance, "FIRST_PAUSE_S", 0.01)
    pool = make(lab[:2])
    assert call(pool).host == lab[0].url
    lab[0].stop()
    assert call(pool).host == lab[1].url
    lab[0].models = {"other:latest": {}}
    lab[0].start()
    for _ in range(500):
        if call(pool).host == lab[1].url and states(pool)[lab[0].url][0]:
            break
        threading.Event().wait(0.005)
    asked_before = asked(lab[0])
    assert {call(pool).host for _ in range(4)} == {lab[1].url}
    assert asked(lab[0]) == asked_before
    assert call(pool, "other").host == lab[0].url


def test_loading_the_model_does_not_make_a_host_slow(make):
    """A first request that waited for the model to load says nothing about the host's speed."""
    with FakeOllama(loaded=False, load_s=0.5) as cold, FakeOllama() as warm:
        pool = make([cold, warm])
        with pool.get_connection() as one, pool.get_connection() as two:
            assert {client.generate("x").host for client in (one, two)} == {cold.url, warm.url}
        assert all(host.service_s < 0.25 for host in pool.members)


def test_hosts_that_are_away_cost_one_limit_together(lab, make, monkeypatch):
    """Three hosts are asked what they have, or whether they are back, at the same time and not one after the other."""
    together = threading.Barrier(3)

    def meet(host, **_):
        together.wait(10)
        host.fail(OllamaError(f"{host.name} is away"))

    monkeypatch.setattr(Host, "look", meet)
    monkeypatch.setattr(Host, "probe", meet)
    pool = make(lab)
    for _ in range(2):
        with pytest.raises(OllamaUnreachableError, match="none of the 3"):
            call(pool)


@pytest.mark.parametrize("cancelled", [True, False])
def test_looking_at_hosts_ends_with_its_caller(cancelled, monkeypatch):
    """A cancel, or an interrupt, while hosts that say nothing are asked ends all of the asking; no slot is lost."""
    with contextlib.ExitStack() as stack:
        lab = [stack.enter_context(FakeOllama()) for _ in range(3)]
        for fake in lab:
            fake.script("/api/tags", Play(hang=True))
        pool = OllamaConnectionPool(2, 0, hosts=[fake.url for fake in lab], model="fake")
        token = CancelToken()
        if not cancelled:
            real = threading.Thread.join

            def interrupted(thread, *args):
                if thread.name == "analysis-kit-host":
                    for fake in lab:
                        fake.until(lambda fake=fake: fake.asked("/api/tags"))
                    raise KeyboardInterrupt
                return real(thread, *args)

            monkeypatch.setattr(threading.Thread, "join", interrupted)

        thread, box = in_thread(lambda: call(pool), token)
        for fake in lab:
            fake.until(lambda fake=fake: fake.asked("/api/tags"))
        if cancelled:
            token.cancel()
        thread.join(5)
        monkeypatch.undo()
        assert type(box["error"]) is (asyncio.CancelledError if cancelled else KeyboardInterrupt)
        for fake in lab:
            fake.until(lambda fake=fake: fake.open_connections == 0)
        assert states(pool) == {fake.url: (True, 0, 0) for fake in lab}
        assert call(pool).text == "ok"
        assert len(lab[0].asked("/api/tags")) == 2
        pool.shutdown()


def test_when_all_are_down_one_caller_asks_and_the_others_hear_what_it_found(lab, make):
    """Eight callers at once with every host set aside: each host is probed once, and all are served when one is back."""
    pool = make(lab, 8, 0)
    for host in pool.members:
        host.fail(OllamaError("gone"))
        host._until = float("inf")
    answers = []
    together = threading.Barrier(8)

    def work():
        together.wait()
        answers.append(call(pool).text)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert answers == ["ok"] * 8
    assert sum(len(fake.asked("/api/version")) for fake in lab) <= 3


def test_a_host_that_dies_under_load_loses_no_row(lab, make):
    """One of three hosts is killed with requests on it: all 300 answers come, each once."""
    for fake in lab:
        fake.delay_s = 0.002
    pool = make(lab, 12, 0)
    answers = []
    half = threading.Event()

    def work():
        for _ in range(25):
            answers.append(call(pool).text)
            if len(answers) > 100:
                half.set()

    threads = [threading.Thread(target=work) for _ in range(12)]
    for thread in threads:
        thread.start()
    half.wait(20)
    lab[1].stop(reset=True)
    for thread in threads:
        thread.join(30)
    assert answers == ["ok"] * 300
    assert pool.get_stats()["active_connections"] == 0


def test_a_lone_server_killed_and_started_again_under_load_loses_no_row(make):
    """With one host retries carry the rows over its restart."""
    with FakeOllama(slots=4, delay_s=0.002) as fake:
        pool = make([fake], 4, 0)
        answers = []
        half, down = threading.Event(), threading.Event()

        def work():
            for _ in range(25):
                answers.append(
                    call_with_retry(lambda: call(pool), max_attempts=50, base_s=0.01, max_wait_s=0.05).text
                )
                if len(answers) > 30:
                    half.set()

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        half.wait(20)
        fake.stop(reset=True)
        down.wait(0.1)
        fake.start()
        for thread in threads:
            thread.join(30)
        assert answers == ["ok"] * 100
        pool.shutdown()


def test_a_cancel_is_no_failure_of_the_host(lab, make):
    """A request that we ended ourselves sets no host aside and does not move."""
    pool = make(lab[:1] + lab[1:2])
    token = CancelToken()
    for fake in lab[:2]:
        fake.script("/api/generate", Play(text="x", gate=threading.Event()))

    thread, box = in_thread(lambda: call(pool), token)
    lab[0].until(lambda: lab[0].running == 1)
    token.cancel()
    thread.join(5)
    assert type(box["error"]) is asyncio.CancelledError
    assert all(up and not failed for up, failed, _ in states(pool).values())
    assert asked(lab[1]) == 0


def test_each_key_goes_to_its_own_host(make):
    """With a key a host, none is sent to another, by questions, listings or probes."""
    with FakeOllama(api_key="one") as first, FakeOllama(api_key="two") as second, FakeOllama() as without:
        fakes = {first: "Bearer one", second: "Bearer two", without: None}
        pool = make(fakes, api_key={first.url: "one", second.url: "two"})
        with pool.get_connection() as a, pool.get_connection() as b, pool.get_connection() as c:
            assert {client.generate("x").host for client in (a, b, c)} == {fake.url for fake in fakes}
        assert pool.health_check()
        for fake, sent in fakes.items():
            assert asked(fake) == 1
            assert {request.headers.get("authorization") for request in fake.requests} == {sent}


@pytest.mark.parametrize("fault", [Play(drop=True), Play(status=500, body={"error": "down"})])
def test_a_request_that_moves_leaves_its_hosts_key_behind(make, fault):
    """Moved to a host with a key of its own, or with none, a request carries that host's key, or none, and is answered."""
    with FakeOllama(api_key="one") as first, FakeOllama(api_key="two") as second, FakeOllama() as without:
        for other, sent in ((second, "Bearer two"), (without, None)):
            keys = {fake.url: fake.api_key for fake in (first, other) if fake.api_key}
            pool = make([first, other], 1, 0, api_key=keys)
            first.script("/api/generate", fault)
            with pool.get_connection() as client:
                assert client.generate("x").host == other.url
            assert {request.headers.get("authorization") for request in other.requests} == {sent}
            assert {request.headers.get("authorization") for request in first.requests} == {"Bearer one"}


def test_the_cap_counts_the_hosts_that_are_up(lab, make):
    """What a host could do that is set aside is not asked of the others; with none up the cap stays a number."""
    pool = make(lab, 32, 0)
    cap = pool.limit_for()
    assert cap.limit == 12
    pool.members[0].fail(OllamaError("gone"))
    assert cap.limit == 8
    for host in pool.members[1:]:
        host.fail(OllamaError("gone"))
    assert cap.limit == 12
    assert call(pool).text == "ok"


def test_the_html_shows_every_host(lab, make):
    """A host that was set aside is shown with its last failure, and one that had no request as such, asked or not."""
    pool = make(lab[:2])
    assert pool.health_check()
    assert pool._repr_html_().count("no request yet") == 2
    lab[0].script("/api/generate", Play(status=500, body={"error": "<b>boom</b>"}))
    call(pool)
    html = pool._repr_html_()
    assert all(fake.url in html for fake in lab[:2])
    assert "&lt;b&gt;boom" in html
    assert "set aside" in html
