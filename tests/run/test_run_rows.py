"""What a run's rows say: statuses, cancelling and going on, the cache, tables, notices, files."""

from __future__ import annotations

import json
import math
import socket
import threading
from datetime import date

import numpy as np
import pandas as pd
import pytest
from fakes.ollama import FakeOllama, Play

import analysis_kit as ak
from analysis_kit import OllamaConnectionPool, events, frames
from analysis_kit.errors import AnalysisError, ConfigurationError, OllamaError, OllamaUnreachableError

ANSWER = json.dumps({"label": "positive", "score": 0.5, "confidence": 0.9})
TEXTS = {f"unit {number}": f"Revenue of division {number} grew {number} percent." for number in range(6)}
SPLIT = ["wait_s", "queue_s", "load_s", "prompt_s", "generate_s", "other_s"]
CALLS = ("/api/generate", "/api/chat")


def calls_to(fake):
    """Return the requests in which a model was asked."""
    return [each for each in fake.requests if each.path in CALLS]


@pytest.fixture
def fake():
    """Stand up a server with four slots that finds everything positive."""
    with FakeOllama(slots=4, answer=lambda _request: ANSWER) as server:
        yield server


def run_of(data, analyzers="sentiment", **how):
    """Run to the end, without a dashboard."""
    return ak.run_async(ak.analyze(data, analyzers, dashboard=False, **how))


def closed_port():
    """Return a port on which nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def failing_for(*words):
    """Return an answer function that gives text of no schema where the prompt holds one of ``words``."""
    return lambda request: "no JSON" if any(word in json.dumps(request) for word in words) else ANSWER


# -- done, and then from the cache ------------------------------------------------------------------------------------


def test_every_row_is_done_and_says_who_answered_and_where_the_time_went(fake):
    """One row a unit in input order, with model, server, tokens, digest and all six parts of the time."""
    run = run_of(TEXTS, hosts=fake.url)
    frame = run.to_frame()
    assert frame["unit"].tolist() == list(TEXTS)
    assert set(frame["status"]) == {"done"}
    assert set(frame["model"]) == {"fake:latest"}
    assert set(frame["host"]) == {fake.url}
    assert frame["digest"].str.len().min() > 0
    assert (frame["prompt_tokens"] > 0).all()
    assert (frame["generated_tokens"] > 0).all()
    assert frame[SPLIT].notna().all().all()
    assert (frame[SPLIT] >= 0).all().all()
    assert (frame[SPLIT].sum(axis=1) <= frame["duration_s"] + 0.05).all()
    assert list(frame.columns) == [column.name for column in frames.ROW_COLUMNS]
    assert run.failures.empty
    assert run.counts() == {"done": 6}
    assert len(calls_to(fake)) == 6


def test_tokens_that_the_server_did_not_count_are_unknown(fake):
    """An older server leaves the count of a prompt out that it had kept: that is no prompt of zero tokens."""
    fake.script("/api/generate", Play(text=ANSWER, fields={"prompt_eval_count": None, "eval_count": None}))
    frame = run_of({"only": "Revenue grew."}, hosts=fake.url).to_frame()
    assert frame["status"].tolist() == ["done"]
    assert frame[["prompt_tokens", "generated_tokens"]].isna().all().all()


def test_the_same_data_again_is_answered_from_the_cache_without_a_request(fake):
    """The second run asks the model nothing, says so on each row, and finds the same."""
    first = run_of(TEXTS, hosts=fake.url).to_frame()
    asked = len(calls_to(fake))
    second = run_of(TEXTS, hosts=fake.url).to_frame()
    assert len(calls_to(fake)) == asked
    assert set(second["status"]) == {"cached"}
    assert second["cached"].all()
    assert set(second["attempts"]) == {0}
    assert second["score"].equals(first["score"])
    assert second["digest"].equals(first["digest"])


def test_the_cache_can_be_left_out_or_be_another(fake, tmp_path):
    """cache=False asks each time; a URL keeps the answers there."""
    run_of(TEXTS, hosts=fake.url, cache=False)
    run_of(TEXTS, hosts=fake.url, cache=False)
    assert len(calls_to(fake)) == 12
    place = f"sqlite:///{tmp_path / 'mine.sqlite'}"
    assert run_of(TEXTS, hosts=fake.url, cache=place).counts() == {"done": 6}
    assert run_of(TEXTS, hosts=fake.url, cache=place).counts() == {"cached": 6}
    assert run_of(TEXTS, hosts=fake.url).counts() == {"done": 6}


def test_options_may_be_numpys_and_tuples(fake):
    """They go out and into the cache as JSON's, so that no answer is lost over them."""
    options = {
        "seed": np.int64(3),
        "temperature": np.float32(0.5),
        "top_p": np.float64(0.9),
        "stop": np.array(["END", "STOP"]),
    }
    plain = {"seed": 3, "temperature": 0.5, "top_p": 0.9, "stop": ["END", "STOP"]}
    first = run_of({"a": "Revenue grew."}, hosts=fake.url, options=options).to_frame()
    again = run_of({"a": "Revenue grew."}, hosts=fake.url, options=plain).to_frame()
    tupled = {**plain, "stop": tuple(map(np.str_, plain["stop"]))}
    third = run_of({"a": "Revenue grew."}, hosts=fake.url, options=tupled).to_frame()
    assert [*first["status"], *again["status"], *third["status"]] == ["done", "cached", "cached"]
    sent = calls_to(fake)[-1].json["options"]
    assert {name: sent[name] for name in plain} == plain


@pytest.mark.parametrize("model", [np.str_("fake:latest"), np.array(["fake:latest"])], ids=["one", "several"])
def test_the_name_of_a_model_may_be_numpys(fake, model):
    """As a table of models gives it: no answer is lost over it, and the next run finds the answer."""
    texts = {"a": "Revenue grew."}
    counts = [run_of(texts, hosts=fake.url, model=each).counts() for each in (model, "fake:latest")]
    assert counts == [{"done": 1}, {"cached": 1}]


@pytest.mark.parametrize("value", [float("nan"), np.float64("inf")])
def test_an_option_that_json_cannot_hold_is_refused_and_not_sent_as_another(fake, value):
    """What would go out as null fails with the reason."""
    (row,) = run_of({"a": "Revenue grew."}, hosts=fake.url, options={"temperature": value}).rows
    assert (row.status, row.error_type) == ("failed", "ConfigurationError")
    assert not calls_to(fake)


def test_repeats_are_rows_of_their_own_with_seeds_of_their_own(fake):
    """repeats=2 asks twice with two seeds, is cached apart, and the rules need no repeat."""
    run = run_of(TEXTS, ["sentiment", "tone"], hosts=fake.url, repeats=2)
    frame = run.to_frame()
    model = frame[frame["analyzer"] == "sentiment"]
    assert model["repeat"].tolist() == [0, 1] * 6
    assert len(frame[frame["analyzer"] == "tone"]) == 6
    assert len({each.json["options"]["seed"] for each in calls_to(fake)}) == 2
    assert len(calls_to(fake)) == 12
    assert {"sentiment.score", "sentiment#1.score", "tone.score"} <= set(run.wide().columns)
    assert run_of(TEXTS, "sentiment", hosts=fake.url, repeats=2).counts() == {"cached": 12}


def test_two_models_give_a_row_each():
    """The models are asked by name and stand beside each other in the wide table; a failed row shares its column."""
    with FakeOllama(slots=4, models=("small:1b", "large:9b"), answer=failing_for("division 3")) as fake:
        run = run_of(TEXTS, hosts=fake.url, model=["small:1b", "large:9b"])
        frame = run.to_frame()
        assert len(frame) == 12
        assert frame["model"].tolist() == ["small:1b", "large:9b"] * 6
        assert {each.model for each in calls_to(fake)} == {"small:1b", "large:9b"}
        scores = [name for name in run.wide().columns if name.endswith(".score")]
        assert scores == ["sentiment[small:1b].score", "sentiment[large:9b].score"]


def test_limit_tries_the_first_units_only(fake):
    """limit=3 makes three rows and three requests."""
    run = run_of(TEXTS, hosts=fake.url, limit=3)
    assert run.to_frame()["unit"].tolist() == list(TEXTS)[:3]
    assert len(calls_to(fake)) == 3


def test_masked_text_is_what_the_model_reads(fake):
    """With mask_entities=True no request holds a name of the call."""
    call = ak.example_transcript()
    run_of(call, hosts=fake.url, mask_entities=True)
    sent = json.dumps([each.json for each in calls_to(fake)])
    assert "[PERSON " in sent
    assert not [name for name in (*call.people, "Fernhill") if name != "Operator" and name in sent]


def test_kept_columns_come_along_into_every_table(fake):
    """The caller's columns stand in the rows and the wide table with the dtype of their values."""
    data = pd.DataFrame(
        {
            "call": ["a", "b"],
            "body": ["We grew.", "We fell."],
            "n": [1, 2],
            "when": pd.Timestamp("2025-02-01", tz="UTC"),
        }
    )
    run = run_of(data, ["tone", "sentiment"], text="body", id="call", keep=["n", "when"], hosts=fake.url)
    frame = run.to_frame()
    assert frame["n"].tolist() == [1, 1, 2, 2]
    assert str(frame["n"].dtype) == "Int64"
    assert frame["when"].dt.year.unique().tolist() == [2025]
    assert run.wide()["n"].tolist() == [1, 2]


# -- failures ---------------------------------------------------------------------------------------------------------


def test_a_failed_unit_is_a_row_with_its_reason_and_the_others_are_done(fake):
    """One unusable answer costs one row; the table names it with type, words and attempts."""
    fake.answer = failing_for("division 2")
    run = run_of(TEXTS, hosts=fake.url)
    assert run.counts() == {"done": 5, "failed": 1}
    (row,) = run.failures.to_dict("records")
    assert row["unit"] == "unit 2"
    assert row["error_type"] == "InvalidAnswerError"
    assert row["error"]
    assert row["attempts"] >= 1
    assert "unit 2" in run._repr_html_()


def test_a_server_that_is_killed_and_starts_again_seconds_later_costs_no_row(fake):
    """By default too: it comes back only when a row has been refused thrice, and all twelve rows are done in the end."""
    texts = {f"unit {number}": f"Margin {number} rose." for number in range(12)}
    answered, refused = threading.Event(), threading.Event()

    def listen(event):
        if isinstance(event, events.RequestFinished) and event.ok:
            answered.set()
        if isinstance(event, events.RetryScheduled) and event.attempt == 3:
            refused.set()

    def restart():
        assert answered.wait(30)
        fake.stop(reset=True)
        refused.wait(60)
        fake.start()

    keeper = threading.Thread(target=restart)
    keeper.start()
    forget = events.subscribe(listen)
    try:
        run = run_of(texts, hosts=fake.url, max_workers=2, cache=False)
    finally:
        forget()
        keeper.join(60)
    assert run.counts() == {"done": 12}
    assert refused.is_set()
    assert run.to_frame()["attempts"].max() >= 4


def test_a_server_that_stays_away_is_waited_for_once(fake, monkeypatch, caplog):
    """The first row refused waits long for it, those after it no longer than usual; that it is lost is said once."""
    monkeypatch.setattr("analysis_kit.cancellation.sleep", lambda _seconds: None)
    forget = events.subscribe(
        lambda event: fake.stop() if isinstance(event, events.RequestFinished) else None
    )
    try:
        run = run_of(TEXTS, hosts=fake.url, max_workers=1, cache=False)
    finally:
        forget()
    assert run.to_frame()["attempts"].tolist() == [1, 7, 3, 3, 3, 3]
    assert run.counts() == {"done": 1, "failed": 5}
    (said,) = [each.message for each in caplog.records if "is lost now" in each.message]
    assert fake.url in said


def test_a_server_that_breaks_off_once_is_not_called_lost(fake, caplog):
    """One answer that is cut is asked for again, and the server is there: nothing is said; lost is who is away."""
    fake.script("/api/generate", Play(text=ANSWER), Play(text=ANSWER, cut_at=300), *[Play(text=ANSWER)] * 5)
    run = run_of(TEXTS, hosts=fake.url, max_workers=1, cache=False)
    assert run.counts() == {"done": 6}
    assert run.to_frame()["attempts"].tolist() == [1, 2, 1, 1, 1, 1]
    assert not [each for each in caplog.records if "is lost now" in each.message]


def test_a_request_that_moved_to_another_server_was_tried_twice(fake):
    """What two servers were asked in all is what the rows say they were tried."""
    with FakeOllama(slots=4, answer=lambda _request: ANSWER) as other:
        other.script("/api/generate", Play(drop=True))
        run = run_of(TEXTS, hosts=[fake.url, other.url], max_workers=2, cache=False)
        asked = len(calls_to(fake)) + len(calls_to(other))
    assert run.counts() == {"done": 6}
    assert run.to_frame()["attempts"].sum() == asked == 7


def test_a_server_of_several_that_is_away_is_said(fake):
    """The run goes on with the other one, and a notice names the one that is away and why."""
    away = f"http://127.0.0.1:{closed_port()}"
    run = run_of(TEXTS, hosts=[fake.url, away], cache=False)
    assert run.counts() == {"done": 6}
    (said,) = [notice for notice in run.notices if "does not answer" in notice]
    assert said.startswith(f"{away} does not answer, so the others do its work: no Ollama server answers")


def test_a_server_that_answers_is_not_said_to_be_away(fake):
    """One that was set aside over an error of its own is there; and where it is the only one no other does its work."""
    with FakeOllama(slots=4, answer=lambda _request: ANSWER) as other:
        for hosts in ([fake.url, other.url], [fake.url]):
            with OllamaConnectionPool(hosts=hosts) as pool:
                pool.members[0].fail(OllamaError("boom"))
                assert run_of(TEXTS, pool=pool, cache=False).notices == []
                if len(hosts) == 1:
                    pool.members[0].fail(OllamaUnreachableError("gone"))
                    assert run_of(TEXTS, pool=pool, cache=False).notices == []


def test_retry_failed_asks_only_for_what_failed(fake):
    """The two failed units are asked anew and nothing else; then no failure is left."""
    fake.answer = failing_for("division 2", "division 4")
    run = run_of(TEXTS, hosts=fake.url)
    assert run.counts() == {"done": 4, "failed": 2}
    fake.answer = lambda _request: ANSWER
    before = len(calls_to(fake))
    seen = []
    run.watch(lambda _row: seen.append(run.counts()))
    assert ak.run_async(run.retry_failed()) is run
    assert seen[0] == {"done": 5, "not started": 1}  # what is retried counts as open again
    assert len(calls_to(fake)) - before == 2
    assert run.counts() == {"done": 6}
    assert run.failures.empty
    ak.run_async(run.retry_failed())
    assert len(calls_to(fake)) - before == 2


def test_an_empty_text_fails_alone(fake):
    """A missing text of a DataFrame is a failed row, not a dropped one."""
    data = pd.DataFrame({"body": ["We grew.", None]})
    run = run_of(data, text="body", hosts=fake.url)
    assert run.to_frame()["status"].tolist() == ["done", "failed"]
    assert "empty" in run.failures["error"][0]


def test_on_error_raise_names_the_unit_and_keeps_what_was_done(fake):
    """The first failure stops the run; the error says which, and the table holds every row with a status."""
    fake.answer = failing_for("division 2")
    run = ak.analyze(TEXTS, "sentiment", hosts=fake.url, on_error="raise", max_workers=1, dashboard=False)
    with pytest.raises(AnalysisError, match="unit 2") as caught:
        ak.run_async(run)
    assert caught.value.__cause__ is not None
    assert sum(run.counts().values()) == 6
    assert run.counts()["failed"] == 1


# -- cancelling and going on ------------------------------------------------------------------------------------------


def cancelled_midway(fake, *, data=TEXTS):
    """Start a run of two workers, answer two units, let the rest hang, and cancel from another thread."""
    never = threading.Event()
    plays = [Play(text=ANSWER), Play(text=ANSWER), *[Play(text=ANSWER, gate=never)] * 2]
    for path in CALLS:
        fake.script(path, *plays)
    run = ak.analyze(data, "sentiment", hosts=fake.url, max_workers=2, dashboard=False)
    ended = threading.Event()

    def work():
        ak.run_async(run)
        ended.set()

    worker = threading.Thread(target=work)
    worker.start()
    fake.until(lambda: len(calls_to(fake)) == 4)
    assert ak.last_run() is run
    run.cancel()
    came_back = ended.wait(10)
    never.set()
    worker.join(10)
    assert came_back, "cancel() did not end a run whose server never answers"
    return run


def test_cancel_from_another_thread_ends_a_run_whose_server_never_answers(fake):
    """What was finished stays, what ran is 'cancelled', what waited is 'not started', and each is named."""
    run = cancelled_midway(fake)
    assert run.counts() == {"done": 2, "cancelled": 2, "not started": 2}
    assert set(run.failures["status"]) == {"cancelled", "not started"}
    assert len(run.failures) == 4
    assert run.to_frame()["status"].value_counts().sum() == 6
    assert "2 cancelled" in repr(run)


def test_awaiting_a_cancelled_run_again_does_only_the_rest(fake):
    """The four open units are asked, the two finished ones are not."""
    run = cancelled_midway(fake)
    for path in CALLS:
        fake._scripts.pop(path, None)
    before = len(calls_to(fake))
    ak.run_async(run)
    assert run.counts() == {"done": 6}
    assert len(calls_to(fake)) - before == 4
    ak.run_async(run)
    assert len(calls_to(fake)) - before == 4


def test_cancel_while_the_server_is_asked_for_its_models_ends_at_once(fake):
    """A server that hangs before the first unit does not hold a cancelled run."""
    fake.script("/api/tags", Play(hang=True))
    run = ak.analyze(TEXTS, "sentiment", hosts=fake.url, dashboard=False)
    ended = threading.Event()

    def work():
        try:
            ak.run_async(run)
        except BaseException as exc:
            failures.append(exc)
        ended.set()

    failures = []
    worker = threading.Thread(target=work)
    worker.start()
    fake.until(lambda: len(fake.asked("/api/tags")) == 1)
    run.cancel()
    came_back = ended.wait(10)
    fake.stop()
    worker.join(10)
    assert came_back
    assert [type(each).__name__ for each in failures] in ([], ["CancelledError"])


def test_a_run_that_works_cannot_be_started_a_second_time():
    """Two loops over one table would write into each other, so the second is refused in words."""
    inside, go = threading.Event(), threading.Event()

    def slow(text):
        inside.set()
        go.wait(10)
        return len(text)

    run = ak.analyze(TEXTS, {"slow": slow}, dashboard=False)
    worker = threading.Thread(target=lambda: ak.run_async(run))
    worker.start()
    assert inside.wait(10)
    try:
        with pytest.raises(ConfigurationError, match="working already"):
            ak.run_async(run)
    finally:
        go.set()
        worker.join(10)
    assert run.counts() == {"done": 6}


def test_watchers_see_every_row_that_ends(fake):
    """The dashboard and the command line count with these calls."""
    run = ak.analyze(TEXTS, "sentiment", hosts=fake.url, dashboard=False)
    seen = []
    run.watch(seen.append)
    ak.run_async(run)
    assert sorted(row.unit for row in seen) == sorted(TEXTS)


# -- before: estimate, which server, which model -----------------------------------------------------------------------


def test_the_estimate_counts_calls_tokens_and_what_is_cached(fake):
    """Before a run it asks the model nothing; after half of the work it knows the half; after it the time."""
    run = ak.analyze(TEXTS, ["tone", "sentiment"], hosts=fake.url, dashboard=False)
    first = run.estimate()
    assert (first.rows, first.calls, first.cached) == (12, 6, 0)
    assert first.prompt_tokens > 0
    assert first.generated_tokens > 0
    assert math.isnan(first.wall_s)
    assert "limit=3" in str(first)
    assert calls_to(fake) == []
    run_of(TEXTS, hosts=fake.url, limit=3)
    second = ak.analyze(TEXTS, ["tone", "sentiment"], hosts=fake.url, dashboard=False).estimate()
    assert (second.calls, second.cached) == (3, 3)
    assert second.wall_s > 0
    assert "&lt;" not in second._repr_html_()


def test_the_estimate_counts_no_call_for_an_empty_text(fake):
    """A text that fails before it is sent costs no call."""
    data = pd.DataFrame({"body": ["We grew.", ""]})
    run = ak.analyze(data, "sentiment", text="body", hosts=fake.url, dashboard=False)
    assert run.estimate().calls == 1


def test_without_a_server_and_none_named_the_rules_work_alone_with_one_notice(monkeypatch, caplog):
    """Nothing on the usual port: four analyzers by rules, and one sentence with the ways out."""
    monkeypatch.setattr("analysis_kit.ollama.host.DEFAULT_PORT", closed_port())
    run = run_of(TEXTS, None)
    assert set(run.to_frame()["analyzer"]) == {"tone", "complexity", "numerical", "deception"}
    assert run.counts() == {"done": 24}
    (notice,) = run.notices
    assert "rules analyse alone" in notice
    assert "hosts='embedded'" in notice
    assert [record.message for record in caplog.records if record.name.startswith("analysis_kit.run")] == [
        notice
    ]


@pytest.mark.parametrize("way", ["hosts", "OLLAMA_HOST"])
@pytest.mark.parametrize("analyzers", [None, "sentiment"])
def test_a_named_server_that_does_not_answer_is_an_error(way, analyzers, monkeypatch):
    """No silent substitute: neither rules nor another server stand in for the one that was named."""
    address = f"http://127.0.0.1:{closed_port()}"
    how = {"hosts": address} if way == "hosts" else {}
    if way == "OLLAMA_HOST":
        monkeypatch.setenv("OLLAMA_HOST", address)
        ak.settings.reset_settings()
    with pytest.raises(OllamaUnreachableError, match=address):
        run_of(TEXTS, analyzers, **how)


def test_the_default_analyzers_ask_the_only_model_of_a_server_that_answers(fake):
    """With a server the model's tone stands beside the rules'."""
    frame = run_of(TEXTS, None, hosts=fake.url).to_frame()
    assert set(frame["analyzer"]) == {"tone", "complexity", "numerical", "deception", "sentiment"}


@pytest.mark.parametrize(("models", "said"), [((), "no "), (("a:1b", "b:1b"), "a:1b.*b:1b")])
def test_no_model_and_several_models_are_an_error_that_lists_them(models, said):
    """The kit does not choose between models, and says what there is."""
    with FakeOllama(models=models) as fake:
        with pytest.raises(ConfigurationError, match=said):
            run_of(TEXTS, hosts=fake.url)
        assert calls_to(fake) == []


def test_text_that_leaves_this_machine_is_said_once(fake, monkeypatch, caplog):
    """A server by another name than this machine's is told about in one notice, however often the run is awaited."""
    found = socket.getaddrinfo

    def resolve(host, *rest, **more):
        return found("127.0.0.1" if host == "llm.example" else host, *rest, **more)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    run = run_of(TEXTS, hosts=f"http://llm.example:{fake.port}", limit=2)
    ak.run_async(run)
    said = [notice for notice in run.notices if "not this machine" in notice]
    assert len(said) == 1
    assert f"llm.example:{fake.port}" in said[0]
    assert sum("not this machine" in record.message for record in caplog.records) == 1
    assert not [n for n in run_of(TEXTS, hosts=fake.url).notices if "not this machine" in n]


def test_a_run_tells_while_it_works_how_long_it_has():
    """The seconds grow with every row, and stand still when it is through."""
    seen = []
    run = ak.analyze(TEXTS, "tone", dashboard=False)
    run.watch(lambda _row: seen.append(run.wall_s))
    ak.run_async(run)
    assert seen[0] > 0
    assert seen == sorted(seen)
    assert seen[-1] <= run.wall_s == run.wall_s


def test_a_server_that_works_on_one_at_a_time_is_said_with_what_to_set():
    """Four workers against one slot: the notice has the number at once and both settings."""
    with FakeOllama(slots=1, answer=lambda _request: ANSWER, delay_s=0.03) as fake:
        run = run_of(TEXTS, hosts=fake.url, max_workers=4)
    (notice,) = [each for each in run.notices if "requests at once" in each]
    assert "OLLAMA_NUM_PARALLEL=4" in notice
    assert "max_workers=1" in notice


def test_a_server_with_room_for_all_is_said_without_advice():
    """Four workers against four slots: one sentence, and nothing to set."""
    with FakeOllama(slots=4, answer=lambda _request: ANSWER, delay_s=0.3) as fake:
        run = run_of(TEXTS, hosts=fake.url, max_workers=4)
    (notice,) = [each for each in run.notices if "requests at once" in each]
    assert "OLLAMA_NUM_PARALLEL" not in notice


def test_a_server_that_is_given_one_request_at_a_time_is_not_spoken_of():
    """One worker shows nothing of what the server could do at once."""
    with FakeOllama(slots=4, answer=lambda _request: ANSWER, delay_s=0.05) as fake:
        assert run_of(TEXTS, hosts=fake.url, max_workers=1, cache=False).notices == []


def test_several_servers_are_each_said_with_what_to_set_there():
    """One slot each: every server's own number, and no advice on workers, who serve all of them."""
    texts = {f"unit {number}": f"Margin {number} rose." for number in range(24)}
    with (
        FakeOllama(answer=lambda _request: ANSWER, delay_s=0.08) as one,
        FakeOllama(answer=lambda _request: ANSWER, delay_s=0.08) as two,
    ):
        run = run_of(texts, hosts=[one.url, two.url], max_workers=8, cache=False)
    said = {notice.split(" worked on ")[0]: notice for notice in run.notices if "requests at once" in notice}
    assert set(said) == {one.url, two.url}
    assert all("OLLAMA_NUM_PARALLEL=" in notice and "max_workers" not in notice for notice in said.values())


# -- after: tables, prompts, files ---------------------------------------------------------------------------------------


def test_the_prompt_of_a_row_is_the_request_as_sent_and_the_reply(fake):
    """The command holds the very JSON that the server got; the reply is the server's own."""
    run = run_of({"a": "It's <b>good</b>: revenue grew."}, hosts=fake.url)
    said = run.prompt(0)
    command, reply = said.split("\n\n# the reply:\n")
    (sent,) = calls_to(fake)
    assert command.startswith(f"curl {fake.url}{sent.path} -d '")
    body = command.partition("-d '")[2].removesuffix("'").replace("'\\''", "'")
    assert json.loads(body) == sent.json
    assert ANSWER in json.dumps(json.loads(reply)).replace('\\"', '"')


def test_a_row_without_a_prompt_says_why(fake):
    """Rules have no prompt, and a row number outside the table names the rows there are."""
    run = run_of({"a": "We grew."}, "tone")
    with pytest.raises(ConfigurationError, match="row 0 .* has no prompt.*'rules'"):
        run.prompt(0)
    with pytest.raises(TypeError, match="integer"):
        run.prompt("0")
    with pytest.raises(ConfigurationError, match="rows 0 to 0"):
        run.prompt(1)


def test_the_wide_table_has_a_line_a_unit(fake):
    """Scores, labels and plain values stand as columns named after the analyzer."""
    wide = run_of(TEXTS, ["tone", "sentiment", "complexity"], hosts=fake.url).wide()
    assert len(wide) == 6
    assert {"tone.score", "sentiment.label", "sentiment.confidence", "complexity.fog"} <= set(wide.columns)
    assert wide["sentiment.score"].tolist() == [0.5] * 6


def test_numbers_stats_and_labelling_tables_have_their_columns(fake):
    """Each table has exactly its published columns; cached rows are no observation; the sample is reproducible."""
    run = run_of(TEXTS, ["numerical", "sentiment"], hosts=fake.url)
    numbers = run.numbers_frame()
    assert list(numbers.columns) == [column.name for column in frames.NUMBER_COLUMNS]
    assert set(numbers["unit"]) <= set(TEXTS)
    assert len(numbers) >= 5
    stats = run.stats_frame()
    assert list(stats.columns) == [column.name for column in frames.STATS_COLUMNS]
    assert stats.set_index("operation")["count"].to_dict() == {"numerical": 6, "sentiment": 6}
    again = run_of(TEXTS, ["numerical", "sentiment"], hosts=fake.url).stats_frame()
    assert again["operation"].tolist() == ["numerical"]
    sample = run.sample_for_labelling(4)
    assert list(sample.columns) == [column.name for column in frames.LABEL_COLUMNS]
    assert sample["your_label"].isna().all()
    assert sample.equals(run.sample_for_labelling(4))
    assert sample["text"].isin(TEXTS.values()).all()
    assert len(run.sample_for_labelling(100)) == 6
    with pytest.raises(ConfigurationError, match="n=-1 must be a whole number"):
        run.sample_for_labelling(-1)


def test_a_run_of_nothing_but_failures_still_makes_every_table(fake):
    """Empty tables have their columns."""
    fake.answer = "no JSON"
    run = run_of(TEXTS, hosts=fake.url)
    assert run.counts() == {"failed": 6}
    assert run.to_frame()["score"].isna().all()
    assert run.numbers_frame().empty
    assert len(run.wide()) == 6
    assert len(run.failures) == 6
    assert run.stats_frame()["failure_count"].tolist() == [6]


def test_a_saved_run_comes_back_with_all_its_tables(fake, tmp_path):
    """Rows, texts, notices, failures and times survive the file, which is JSON."""
    fake.answer = failing_for("division 2")
    run = run_of(TEXTS, ["tone", "numerical", "sentiment"], hosts=fake.url)
    run.save(tmp_path / "run.json")
    json.loads((tmp_path / "run.json").read_text(encoding="utf-8"))
    back = ak.AnalysisRun.load(tmp_path / "run.json")
    pd.testing.assert_frame_equal(back.to_frame(), run.to_frame())
    pd.testing.assert_frame_equal(back.wide(), run.wide())
    pd.testing.assert_frame_equal(back.failures, run.failures)
    pd.testing.assert_frame_equal(back.stats_frame(), run.stats_frame())
    pd.testing.assert_frame_equal(back.numbers_frame(), run.numbers_frame())
    assert back.notices == run.notices
    assert back.wall_s == run.wall_s
    assert back.units == run.units
    assert back.prompt(2) == run.prompt(2)
    assert repr(back) == repr(run)


def test_a_saved_run_with_a_score_off_the_scale_comes_back(tmp_path):
    """Scores of any scale were kept once; a file with one is read as it is."""

    class Half(ak.BaseAnalyzer):
        def ask(self, text):
            return ak.Finding(score=0.5)

    path = tmp_path / "run.json"
    run_of({"a": "We grew."}, Half()).save(path)
    path.write_text(path.read_text().replace('"score": 0.5', '"score": 87.0'))
    assert ak.AnalysisRun.load(path).to_frame()["score"].tolist() == [87.0]


def test_a_saved_run_keeps_what_kind_its_kept_columns_are(tmp_path):
    """Times, dates, durations, periods and what is missing come back as they were, not as text."""
    data = pd.DataFrame(
        {
            "text": ["Revenue rose.", "Costs rose."],
            "time": pd.to_datetime(["2025-01-31", None]),
            "zone": pd.to_datetime(["2025-01-31", "2025-07-31"]).tz_localize("Europe/Berlin"),
            "day": pd.Series([date(2025, 1, 31), date(2025, 7, 31)], dtype=object),
            "span": pd.to_timedelta([1, 2], unit="h"),
            "quarter": pd.period_range("2025Q1", periods=2, freq="Q-JAN"),
            "week": pd.period_range("2025-01-06", periods=2, freq="W"),
            "told": [{"time": "noon"}, {"time": "night"}],
            "count": pd.array([1, None], dtype="Int64"),
            "name": ["x", None],
        }
    )
    kept = [column for column in data if column != "text"]
    run = ak.run_async(ak.analyze(data, "tone", text="text", keep=kept))
    run.save(tmp_path / "run.json")
    back = ak.AnalysisRun.load(tmp_path / "run.json").to_frame()
    pd.testing.assert_frame_equal(back[kept], run.to_frame()[kept])
    assert run.to_frame()["time"].dtype.kind == "M"


def test_a_loaded_run_says_that_it_cannot_run_again(tmp_path):
    """It has rows and no analyzers: one sentence, and the rows stay."""
    run_of(TEXTS, "tone").save(tmp_path / "run.json")
    back = ak.AnalysisRun.load(tmp_path / "run.json")
    for again in (back, back.retry_failed()):
        with pytest.raises(ConfigurationError, match="loaded run"):
            ak.run_async(again)
    assert back.counts() == {"done": 6}


@pytest.mark.parametrize(
    "held",
    [
        "",
        "[]",
        "{}",
        '{"format": "other"}',
        "\x00\xff",
        '{"format": "analysis_kit run 1", "units": [], "rows": [1]}',
    ],
)
def test_a_file_that_is_no_saved_run_is_refused(held, tmp_path):
    """Whatever else the file holds, the sentence names it."""
    place = tmp_path / "run.json"
    place.write_text(held, encoding="latin-1")
    with pytest.raises(ConfigurationError, match=r"run\.json is not a saved run"):
        ak.AnalysisRun.load(place)


def test_saving_to_a_place_that_takes_no_file_leaves_nothing(tmp_path):
    """A refused file is one sentence, and no half of it is left."""
    run = run_of(TEXTS, "tone")
    (tmp_path / "taken").mkdir()
    with pytest.raises(ConfigurationError, match="cannot be written"):
        run.save(tmp_path / "taken")
    assert [each.name for each in tmp_path.iterdir()] == ["taken"]


def test_the_rich_display_escapes_what_the_data_says():
    """Names of units, analyzers and error texts are shown and never markup."""

    def bad(text):
        raise ValueError("<img src=x onerror=alert(1)>")

    run = run_of({"<script>alert(1)</script>": "We grew."}, {"<b>bad</b>": bad})
    shown = run._repr_html_()
    assert "<script" not in shown
    assert "<img" not in shown
    assert "<b>" not in shown
    assert "&lt;img src=x onerror=alert(1)&gt;" in shown


def test_the_last_run_is_known_from_its_start_and_its_repr_before():
    """A run says that it is not started; once it starts it is the last one."""
    run = ak.analyze(TEXTS, "tone", dashboard=False)
    assert "not started" in repr(run)
    assert ak.last_run() is not run
    ak.run_async(run)
    assert ak.last_run() is run


def test_plot_and_explore_work_on_a_finished_run(fake):
    """The picture has an alt text, and the explorer marks the evidence of the row that is chosen."""
    run = run_of(TEXTS, ["tone", "sentiment"], hosts=fake.url)
    assert run.plot().get_label()
    box = run.explore()
    choice, page = box.children
    assert len(choice.options) == 12
    assert "Revenue of" in page.value
    choice.value = 3
    assert "positive" in page.value
    box.close()


def test_analyze_works_with_what_the_container_overrides(monkeypatch):
    """In the block of an override the run uses the double: of the engine, and of an analyzer it would make by itself."""
    monkeypatch.setenv("OLLAMA_HOST", "127.0.0.1:9")
    box = ak.get_container()

    class Double(ak.NumericalAnalyzer):
        version = "double"

        def ask(self, text):
            return ak.Finding(label="double", score=None)

    engine = ak.AsyncAnalysisEngine(2)
    with box.override(ak.NumericalAnalyzer, Double), box.override(ak.AsyncAnalysisEngine, instance=engine):
        run = ak.analyze(TEXTS, "numerical", dashboard=False)
        assert run._engine() is engine
        assert set(ak.run_async(run).to_frame()["label"]) == {"double"}
    frame = run_of(TEXTS, "numerical")
    assert "double" not in set(frame.to_frame()["label"])
