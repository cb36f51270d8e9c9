"""What a run will do: which analyzers, which models, which server, and the jobs that follow from them."""

from __future__ import annotations

import contextlib
import difflib
import functools
import inspect
from collections.abc import Awaitable, Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from analysis_kit.analyzers.base import BaseAnalyzer, as_finding, usable_text
from analysis_kit.analyzers.complexity import ComplexityAnalyzer
from analysis_kit.analyzers.deception import DeceptionAnalyzer
from analysis_kit.analyzers.lexicon import LexiconSentimentAnalyzer
from analysis_kit.analyzers.llm import LLMAnalyzer
from analysis_kit.analyzers.numerical import NumericalAnalyzer
from analysis_kit.analyzers.sentiment import SentimentAnalyzer
from analysis_kit.cache import ResultCache
from analysis_kit.container import get_container
from analysis_kit.engine.arguments import OnError, Workers, checked_callable
from analysis_kit.engine.engine import AsyncAnalysisEngine
from analysis_kit.engine.tasks import awaits, is_async, name_of
from analysis_kit.errors import ConfigurationError, OllamaUnreachableError
from analysis_kit.ollama.host import is_loopback
from analysis_kit.ollama.pool import OllamaConnectionPool
from analysis_kit.results import Examined
from analysis_kit.run.units import Unit

RULES: tuple[type[BaseAnalyzer], ...] = (
    LexiconSentimentAnalyzer,
    ComplexityAnalyzer,
    NumericalAnalyzer,
    DeceptionAnalyzer,
)
LLMS: tuple[type[LLMAnalyzer], ...] = (SentimentAnalyzer,)
#: The name of each analyzer -> its class.
REGISTRY: dict[str, type[BaseAnalyzer]] = {cls().name: cls for cls in (*RULES, *LLMS)}


class FunctionAnalyzer(BaseAnalyzer):
    """A user's function, or an analyzer that overrides ``analyze`` whole: it is called as it is, and never cached."""

    kind = "rules"

    def __init__(self, function: Callable[[str], Any], *, name: str) -> None:
        super().__init__()
        self.name = name
        self.function = function

    def examine(self, text: str, *, sample: int = 0) -> Any:
        """Return what the function says, as a finding; where it gives an awaitable, one that comes to a finding."""
        del sample
        usable = usable_text(text)
        with contextlib.ExitStack() as measured:
            measured.enter_context(self.monitor.measure(self.name))
            value = self.function(usable)
            if awaits(value):
                return self._awaited(value, measured.pop_all())
            return Examined(as_finding(value, analyzer=self.name))

    async def _awaited(self, value: Awaitable[Any], measured: contextlib.ExitStack) -> Examined:
        with measured:
            return Examined(as_finding(await value, analyzer=self.name))

    async def examine_async(self, text: str) -> Examined:
        """Do the same for an async function, on the running loop."""
        usable = usable_text(text)
        with self.monitor.measure(self.name):
            return Examined(as_finding(await self.function(usable), analyzer=self.name))


@dataclass(frozen=True, slots=True)
class RunConfig:
    """How a run is to be done; the options of `analyze` that are not about its data, with the same names."""

    analyzers: tuple[BaseAnalyzer, ...] | None = None
    models: tuple[str | None, ...] = (None,)
    options: Mapping[str, Any] = field(default_factory=dict)
    hosts: str | Sequence[str] | None = None
    max_workers: Workers | None = None
    on_error: OnError = "collect"
    deadline_s: float | None = None
    timeout_s: float | None = None
    cache: ResultCache | None = None
    caching: bool = True
    repeats: int = 1
    dashboard: bool | None = None
    engine: AsyncAnalysisEngine | None = None
    pool: OllamaConnectionPool | None = None


@dataclass(frozen=True, slots=True)
class Job:
    """One row to be: a unit, an analyzer ready to use, a repeat."""

    unit: Unit
    analyzer: BaseAnalyzer
    repeat: int = 0

    @property
    def call(self) -> Callable[[], Any]:
        """What does the work."""
        if isinstance(self.analyzer, FunctionAnalyzer) and is_async(self.analyzer.function):
            return functools.partial(self.analyzer.examine_async, self.unit.text)
        return functools.partial(self.analyzer.examine, self.unit.text, sample=self.repeat)

    @property
    def model(self) -> str:
        """The model asked for; empty for rules, and where the server's only model will answer."""
        return (self.analyzer.model or "") if isinstance(self.analyzer, LLMAnalyzer) else ""


@dataclass(frozen=True, slots=True)
class Plan:
    """The jobs of a run in table order, and what the user should be told before."""

    jobs: tuple[Job, ...]
    notices: tuple[str, ...] = ()

    @property
    def llm_jobs(self) -> tuple[Job, ...]:
        """The jobs that ask a model."""
        return tuple(job for job in self.jobs if job.analyzer.kind == "llm")


def named_analyzers(analyzers: Any) -> list[BaseAnalyzer]:
    """Return the analyzers asked for: names, classes, instances, functions, or a mapping name -> any of these.

    Raises
    ------
    ConfigurationError
        If a name is unknown (the nearest is offered), or a thing cannot analyse.
    """
    if isinstance(analyzers, (str, BaseAnalyzer, type)) or not isinstance(analyzers, Iterable):
        analyzers = [analyzers]
    if isinstance(analyzers, Mapping):
        found = [_analyzer(thing, name=str(name)) for name, thing in analyzers.items()]
    else:
        found = [_analyzer(thing) for thing in analyzers]
    names = [each.name for each in found]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ConfigurationError(
            f"two analyzers are called {twice[0]!r}; give a mapping name -> analyzer to tell them apart"
        )
    if not found:
        raise ConfigurationError(f"analyzers= is empty; known are {', '.join(REGISTRY)}")
    return found


def _analyzer(thing: Any, *, name: str | None = None) -> BaseAnalyzer:
    if isinstance(thing, str):
        if thing not in REGISTRY:
            near, known = difflib.get_close_matches(thing, REGISTRY, n=1), ", ".join(REGISTRY)
            hint = f"did you mean {near[0]!r}? (known: {known})" if near else f"known are {known}"
            raise ConfigurationError(f"no analyzer is called {thing!r}; {hint}")
        thing = REGISTRY[thing]
    if isinstance(thing, type) and issubclass(thing, BaseAnalyzer):
        thing = _made(thing)
    if isinstance(thing, BaseAnalyzer):
        if type(thing).analyze is not BaseAnalyzer.analyze:
            return FunctionAnalyzer(thing.analyze, name=name or thing.name)
        if is_async(thing.ask):
            raise ConfigurationError(
                f"{type(thing).__name__}.ask is async: write it as a plain function, since every unit has a worker of its "
                "own; or override analyze(text), which may be async"
            )
        if name is not None and name != thing.name:
            renamed = thing.with_parts()
            renamed.name = name
            return renamed
        return thing
    method = getattr(thing, "analyze", None)
    if callable(method) and not isinstance(thing, type):
        return FunctionAnalyzer(method, name=name or type(thing).__name__)
    if inspect.iscoroutine(thing) or (callable(thing) and not isinstance(thing, type)):
        function = checked_callable(thing, what="an analyzer")
        return FunctionAnalyzer(function, name=name or name_of(function))
    raise ConfigurationError(
        f"{thing!r} is no analyzer: give a name ({', '.join(REGISTRY)}), an analyzer, or a function of one text"
    )


def _made(kind: type[BaseAnalyzer]) -> BaseAnalyzer:
    """Return an analyzer of ``kind``: the container's, where one is registered, so that an override reaches it."""
    registered = get_container().find(cast("Hashable", kind))
    return kind() if registered is None else cast("BaseAnalyzer", registered)


def make_plan(
    units: Sequence[Unit], config: RunConfig, *, pool: Callable[[], OllamaConnectionPool], host_given: bool
) -> Plan:
    """Return the plan of a run; asks the server which models it has, if any analyzer needs one.

    Parameters
    ----------
    units : sequence of Unit
        What to analyse.
    config : RunConfig
        Its analyzers None stands for the rules, and the models' analyzers where a server answers.
    pool : callable
        Gives the pool; called only if a server is needed.
    host_given : bool
        Whether a host was named: then it must answer.

    Raises
    ------
    OllamaUnreachableError
        If a server is needed and none answers.
    ConfigurationError
        If no model was named and the server has none, or several.
    """
    chosen = [_made(kind) for kind in (*RULES, *LLMS)] if config.analyzers is None else list(config.analyzers)
    notices: list[str] = []
    models: list[str | None] = []
    if any(isinstance(each, LLMAnalyzer) for each in chosen):
        try:
            with pool().get_connection() as client:
                # to ask for the server's own choice is how an absent server shows at once
                models = [model or client.default_model() for model in config.models]
        except OllamaUnreachableError as exc:
            if config.analyzers is not None or host_given:
                raise
            chosen = [each for each in chosen if not isinstance(each, LLMAnalyzer)]
            notices.append(
                f"No Ollama server answers at {exc.host}, so the rules analyse alone; for a model start Ollama, "
                "set OLLAMA_HOST, or use hosts='embedded'."
            )
        away = [host for host in getattr(pool(), "hosts", ()) if models and not is_loopback(host)]
        if away:
            notices.append(f"The texts are sent to {', '.join(away)}, which is not this machine.")
        notices += [
            f"{host['host']} does not answer, so the others do its work: {host['last_error']}"
            for host in (
                pool().get_stats()["hosts"] if models and len(getattr(pool(), "hosts", ())) > 1 else ()
            )
            if host.get("away")
        ]
    ready: list[tuple[BaseAnalyzer, int]] = []
    for each in chosen:
        if isinstance(each, LLMAnalyzer):
            num_ctx = max((each.context_for(unit.text) for unit in units), default=0)
            for model in [each.model] if each.model else models:
                twin = each.for_model(model, options=config.options, num_ctx=num_ctx)
                ready.append(
                    (twin.with_parts(pool=pool(), cache=config.cache, caching=config.caching), config.repeats)
                )
        else:
            # rules say the same each time, and so need no repeats
            parted = each.with_parts(pool=config.pool, cache=config.cache, caching=config.caching)
            ready.append((parted, config.repeats if each.kind == "custom" else 1))
    jobs = (
        Job(unit, analyzer, repeat) for unit in units for analyzer, times in ready for repeat in range(times)
    )
    return Plan(tuple(jobs), tuple(notices))
