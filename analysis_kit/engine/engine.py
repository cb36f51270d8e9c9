"""`AsyncAnalysisEngine`: units x analyzers -> results, in input order, under an error policy, and cancellable."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, cast

from analysis_kit.cancellation import CancelToken
from analysis_kit.engine.arguments import OnError, checked_callable
from analysis_kit.engine.drain import Run
from analysis_kit.engine.flights import Item
from analysis_kit.engine.limits import Cap
from analysis_kit.engine.remember import remembered
from analysis_kit.engine.staffing import Staff
from analysis_kit.engine.tasks import Outcome, Task, is_async, joined_failure, name_of
from analysis_kit.errors import AnalysisError, ConfigurationError

__all__ = ["AsyncAnalysisEngine", "Outcome", "Task"]

Units = Mapping[str, Any]
Analyze = Callable[[Any], Any]


class AsyncAnalysisEngine(Staff):
    """Runs analyzers over units, ``max_workers`` at a time.

    One engine serves any number of runs, one after the other or at once, from any loop and thread: nothing in it is
    bound to a loop, and ``max_workers`` and ``rate_limit`` hold for all of them together. Within ``with`` (or ``async
    with``) workers wait for the next run; at its end they are gone. Outside of it they are made for each run and end
    with it, so a closed engine still works.

    Parameters
    ----------
    max_workers : int or "auto", default 4
        Units at the same time. "auto": as many as ``cap`` says at that moment; without one, the process-wide pool's.
    use_processes : bool, default False
        Worker processes (extra ``processes``) instead of threads, for work that needs the processor. Functions of a
        notebook's cells travel; context variables do not.
    executor : concurrent.futures.Executor, optional
        Where units run instead, for example ``dask_client.get_executor()``; it stays the caller's.
    on_error : {"raise", "collect"}, default "raise"
        "raise": the first failure stops the run, and `AnalysisError` names it. "collect": it takes the failed unit's place.
    timeout_s : float, optional
        Seconds that one unit may take.
    rate_limit : str, optional
        Starts per time, evenly spaced: "120/min".
    cap : Cap, optional
        Has ``limit``, read before each unit, for ``max_workers="auto"``.

    Raises
    ------
    ConfigurationError
        If an argument cannot work; the message names it, its value and what is allowed.

    Examples
    --------
    >>> from analysis_kit.engine.loop import run_async
    >>> with AsyncAnalysisEngine(max_workers=2) as engine:
    ...     run_async(engine.analyze_sections_parallel({"opening": "Good morning.", "close": "Bye."}, len))
    {'opening': 13, 'close': 4}
    """

    # -- what it is for -----------------------------------------------------------------------------------------------

    async def analyze_sections_parallel(
        self,
        sections: Units,
        analyze: Analyze,
        analyzer_name: str | None = None,
        *,
        cache_as: str | None = None,
        deadline_s: float | None = None,
    ) -> dict[str, Any]:
        """Analyse every section, several at a time, longest first.

        Parameters
        ----------
        sections : mapping
            Name -> text.
        analyze : callable
            Takes the text. A plain function runs on a worker, an async one on the running loop.
        analyzer_name : str, optional
            How errors and timings call it; by default its own name.
        cache_as : str, optional
            Keep results in the cache under this kind, and look there first; an edited function is called anew. They
            must be JSON values.
        deadline_s : float, optional
            Seconds for the whole run.

        Returns
        -------
        dict
            Name -> what ``analyze`` returned (or, under "collect", the `AnalysisError`), in the order of ``sections``.

        Raises
        ------
        AnalysisError
            Under "raise": names every unit that failed; ``partial`` holds what had finished, by name.
        ConfigurationError
            If ``sections`` is no mapping or ``analyze`` no function.
        """
        checked_callable(analyze)
        name = analyzer_name or name_of(analyze)
        found = await self._table(
            sections, {name: analyze}, cache_as=cache_as, deadline_s=deadline_s, flat=True
        )
        return found[name]

    async def analyze_speakers_parallel(
        self,
        speakers: Units,
        analyze: Analyze,
        analyzer_name: str | None = None,
        *,
        cache_as: str | None = None,
        deadline_s: float | None = None,
    ) -> dict[str, Any]:
        """Do the same over speakers: name -> all that they said."""
        return await self.analyze_sections_parallel(
            speakers, analyze, analyzer_name, cache_as=cache_as, deadline_s=deadline_s
        )

    async def analyze_multiple(
        self, units: Units, analyzers: Mapping[str, Analyze], *, deadline_s: float | None = None
    ) -> dict[str, dict[str, Any]]:
        """Run several analyzers over every unit, all in one run.

        Returns
        -------
        dict
            Analyzer -> unit -> result, both in input order.

        Raises
        ------
        AnalysisError
            As `analyze_sections_parallel`; ``partial`` has the same two levels.
        """
        if not isinstance(analyzers, Mapping):
            raise ConfigurationError(
                f"analyzers must map names to functions, got {type(analyzers).__name__}."
            )
        for name, analyze in analyzers.items():
            checked_callable(analyze, what=f"analyzer {name!r}")
        return await self._table(units, analyzers, cache_as=None, deadline_s=deadline_s, flat=False)

    async def run_tasks(
        self,
        tasks: Iterable[Task],
        *,
        on_outcome: Callable[[Outcome], object] | None = None,
        token: CancelToken | None = None,
        on_error: OnError | None = None,
        deadline_s: float | None = None,
        timeout_s: float | None = None,
        cap: Cap | None = None,
    ) -> list[Outcome]:
        """Work through ``tasks``, largest first; each ends in exactly one `Outcome`.

        Parameters
        ----------
        tasks : iterable of Task
        on_outcome : callable, optional
            Given each outcome on the loop's thread, in the order in which units end, soon after they do. If it raises,
            the run stops and raises that. An interrupt inside of it may have that one outcome given twice.
        token : CancelToken, optional
            Cancelling it stops the run, as `cancel` does.
        on_error, timeout_s
            As for the engine, which gives the defaults.
        deadline_s : float, optional
            Seconds for the whole run.
        cap : Cap, optional
            In place of the engine's, from now on.

        Returns
        -------
        list of Outcome
            In the order of ``tasks``. Under "collect" also after a cancel by ``token`` or `cancel` and after the
            deadline: what was under way is "cancelled" then, the rest "not started".

        Raises
        ------
        AnalysisError
            Under "raise", for failed units and for the deadline; ``partial`` holds values by ``task.key``.
        CancelledError
            If the caller's own task is cancelled; under "raise" also after ``token`` or `cancel`.
        """
        if cap is not None:
            self._cap = cap
        terms = self._terms(on_error, timeout_s, deadline_s)
        run, outcomes = await self._drain(_largest_first(tasks), terms, token=token, give=on_outcome)
        if run is not None:
            _conclude(
                run,
                lambda: {
                    key: value for key, value in _by_key(outcomes) if not isinstance(value, AnalysisError)
                },
                told=terms.on_error == "collect",
            )
        return outcomes

    async def stream(
        self,
        units: Units | Iterable[tuple[str, Any]] | Iterable[Task],
        analyze: Analyze | None = None,
        analyzer_name: str | None = None,
        *,
        token: CancelToken | None = None,
        on_error: OnError | None = None,
        deadline_s: float | None = None,
        timeout_s: float | None = None,
    ) -> AsyncGenerator[Outcome, None]:
        """Yield outcomes as units end; memory stays flat however many units there are.

        Units are drawn on the loop's thread, some 16 for each worker ahead of the reader; a slow reader slows the
        workers. Leaving the loop early cancels the rest.

        Parameters
        ----------
        units : mapping, or iterable of (name, text) or of Task
            May be a generator without end. With tasks, ``analyze`` is left out.
        analyze, analyzer_name
            As in `analyze_sections_parallel`.
        token, on_error, deadline_s, timeout_s
            As in `run_tasks`.

        Yields
        ------
        Outcome

        Raises
        ------
        AnalysisError
            Under "raise", after the finished outcomes, for failed units; always for the deadline.
        """
        tasks = _drawn(units, analyze, analyzer_name)
        run = self._begin(self._terms(on_error, timeout_s, deadline_s), token)
        processes = None
        try:
            lane, processes = self._lane(run, fed=True, coroutines=analyze is not None and is_async(analyze))
            async with contextlib.aclosing(run.stream(lane, tasks, self._most())) as outcomes:
                async for outcome in outcomes:
                    yield outcome
        finally:
            self._done(run, processes)
        _conclude(run, dict, told=False)

    # -- how ----------------------------------------------------------------------------------------------------------

    async def _table(
        self,
        units: Units,
        analyzers: Mapping[str, Analyze],
        *,
        cache_as: str | None,
        deadline_s: float | None,
        flat: bool,
    ) -> dict[str, dict[str, Any]]:
        _check_mapping(units)
        if cache_as is not None:
            analyzers = {name: remembered(analyze, cache_as) for name, analyze in analyzers.items()}
        tasks = [
            Task((name, unit), name, str(unit), _length(text), functools.partial(analyze, text))
            for name, analyze in analyzers.items()
            for unit, text in units.items()
        ]
        terms = self._terms(None, None, deadline_s)
        run, outcomes = await self._drain(_largest_first(tasks), terms)
        if run is not None:
            partial = functools.partial(_finished, outcomes, flat=flat)
            _conclude(run, partial, told=terms.on_error == "collect")
        found: dict[str, dict[str, Any]] = {name: {} for name in analyzers}
        for (name, unit), value in _by_key(outcomes):
            found[name][unit] = value
        return found


def _check_mapping(units: object) -> None:
    if not isinstance(units, Mapping):
        hint = ""
        if hasattr(units, "sections"):
            hint = " A transcript has .sections and .speakers."
        elif hasattr(units, "to_dict"):
            hint = " analyze() takes a DataFrame; a Series is one by its .to_dict()."
        raise ConfigurationError(f"units must be a mapping name -> text, got {type(units).__name__}.{hint}")


def _largest_first(tasks: Iterable[Task]) -> list[Item]:
    """Return the tasks with their positions, in the order of work; equal ones stay in the order given."""
    items = list(enumerate(tasks))
    items.sort(key=_size, reverse=True)
    return items


def _size(item: Item) -> int:
    return item[1].size


def _length(text: object) -> int:
    try:
        return len(text)  # type: ignore[arg-type]
    except TypeError:  # a unit need not be a text
        return 0


def _by_key(outcomes: Sequence[Outcome]) -> Iterator[tuple[Any, Any]]:
    for outcome in outcomes:
        yield outcome.task.key, outcome.value if outcome.error is None else outcome.error


def _finished(outcomes: Sequence[Outcome], *, flat: bool) -> dict[Any, Any]:
    """Return what had finished: by unit if there is one analyzer only, else by analyzer and unit."""
    found: dict[Any, Any] = {}
    for outcome in outcomes:
        if outcome.error is None:
            name, unit = cast("tuple[str, str]", outcome.task.key)
            (found if flat else found.setdefault(name, {}))[unit] = outcome.value
    return found


def _drawn(
    units: Units | Iterable[tuple[str, Any]] | Iterable[Task],
    analyze: Analyze | None,
    analyzer_name: str | None,
) -> Iterator[Task]:
    """Return an iterator of tasks over what `AsyncAnalysisEngine.stream` takes; checked now, drawn later."""
    if analyze is None:
        return iter(cast("Iterable[Task]", units))
    checked_callable(analyze)
    given: object = units
    if isinstance(given, (str, bytes)) or not isinstance(given, Iterable):
        raise ConfigurationError(
            f"units must be a mapping name -> text, or yield (name, text), got {type(given).__name__}."
        )
    analyzer = analyzer_name or name_of(analyze)
    pairs: Iterable[tuple[str, Any]] = given.items() if isinstance(given, Mapping) else given
    tasks = (
        Task(name, analyzer, str(name), _length(text), functools.partial(analyze, text))
        for name, text in pairs
    )
    return (task for _, task in _largest_first(tasks)) if isinstance(given, Mapping) else tasks


def _conclude(run: Run, partial: Callable[[], dict[Any, Any]], *, told: bool) -> None:
    """Raise what a run that did not go through has to raise; ``told``: the caller has an error in each unit's place."""
    reason = run.stopping
    if isinstance(reason, ConfigurationError):
        raise reason
    if told:
        return
    if run.failures and run.terms.on_error == "raise":
        error = joined_failure(run.failures, partial())
        raise error from error.__cause__
    if isinstance(reason, Exception):
        raise AnalysisError(f"The run was stopped: {reason}.", partial=partial()) from reason
    if reason is not None:
        raise reason
