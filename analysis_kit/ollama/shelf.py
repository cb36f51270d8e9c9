"""What a server has: its models, what is in memory, which one is meant."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from analysis_kit.errors import ConfigurationError, ModelNotFoundError, OllamaError, StreamBrokenError
from analysis_kit.ollama.calls import Calls
from analysis_kit.ollama.names import same_model
from analysis_kit.ollama.reply import ModelInfo
from analysis_kit.settings import get_settings

_FOR_EXAMPLE = {"completion": "llama3.2", "embedding": "nomic-embed-text"}


class Shelf:
    """A server's models.

    Parameters
    ----------
    calls : Calls
        How the server is reached.
    model : str or None
        The model that is meant where none is named; the attribute of that name may be assigned.
    """

    def __init__(self, calls: Calls, *, model: str | None) -> None:
        self.calls = calls
        self.model = model
        self._default: str | None = None

    @property
    def base_url(self) -> str:
        """The server's base URL; ``embedded`` is started by asking."""
        return self.calls.base_url

    def tags(self) -> tuple[ModelInfo, ...]:
        """Return the models that the server has."""
        return self._models("/api/tags", loaded=False)

    def ps(self) -> tuple[ModelInfo, ...]:
        """Return the models that are in memory now."""
        return self._models("/api/ps", loaded=True)

    def show(self, model: str | None = None) -> dict[str, Any]:
        """Return the server's card of a model: ``details model_info capabilities template parameters`` and more."""
        name = model or self.default_model()
        card: dict[str, Any] = self.calls.plain("POST", "/api/show", {"model": name}, model=name)
        return card

    def version(self, *, within_s: float | None = None) -> str:
        """Return the server's version; ``within_s`` seconds instead of the read limit where that is too long."""
        answer = self.calls.plain("GET", "/api/version", within_s=within_s)
        version = answer.get("version")
        if not isinstance(version, str):
            raise self._strange("/api/version")
        return version

    def pull(
        self, model: str, *, progress: Callable[[str, int | None, int | None], None] | None = None
    ) -> None:
        """Have the server download ``model``.

        Parameters
        ----------
        model : str
            Name, with or without a tag.
        progress : callable, optional
            Called with status, bytes done, bytes in all (None where unknown).

        Raises
        ------
        StreamBrokenError
            If the server reports an error, or ends without success.
        """
        status = ""
        for step in self.calls.progress("/api/pull", {"model": model, "stream": True}, model=model):
            status = str(step.get("status", ""))
            if progress is not None:
                progress(status, step.get("completed"), step.get("total"))
        if status != "success":
            raise StreamBrokenError(
                f"{self.base_url} ended the download of {model!r} without success (last status {status!r})",
                host=self.base_url,
                model=model,
            )

    def load(self, model: str | None = None) -> None:
        """Have the server load a model into memory, without a question."""
        name = model or self.default_model()
        body = {"model": name, "prompt": "", "stream": False}
        self.calls.plain("POST", "/api/generate", body, model=name, loads=True)

    def default_model(self) -> str:
        """Return the model that is asked where a call names none.

        Raises
        ------
        ConfigurationError
            If the server has no completion model, or several and none was chosen; the message lists them.
        """
        chosen = self.model or get_settings().OLLAMA_MODEL or self._default
        if not chosen:
            chosen = self._default = self._only_model("completion")
        return chosen

    def digest(self, model: str) -> str:
        """Return the digest of ``model`` on this server: 64 hex digits that change with the model.

        Raises
        ------
        ModelNotFoundError
            If the server does not have it.
        """
        for info in self.tags():
            if same_model(info.name, model):
                return info.digest
        raise ModelNotFoundError(
            f"{self.base_url} has no model {model!r}; get it with: ollama pull {model}",
            host=self.base_url,
            model=model,
        )

    def _models(self, path: str, *, loaded: bool) -> tuple[ModelInfo, ...]:
        answer = self.calls.plain("GET", path)
        # null is an empty list in Go
        listed = [] if answer.get("models", 0) is None else answer.get("models")
        if not isinstance(listed, list):
            raise self._strange(path)
        try:
            return tuple(ModelInfo.read(item, loaded=loaded) for item in listed)
        except (AttributeError, TypeError, ValueError, OverflowError) as exc:
            raise self._strange(path) from exc

    def _strange(self, path: str) -> OllamaError:
        return OllamaError(
            f"{self.base_url} answered {path} with something else than Ollama does; is another server there?",
            host=self.base_url,
        )

    def _only_model(self, capability: str) -> str:
        able = [info.name for info in self.tags() if capability in self._capabilities(info)]
        if len(able) == 1:
            return able[0]
        have = (
            f"has several {capability} models ({', '.join(able)})" if able else f"has no {capability} model"
        )
        how = (
            "name one with model= or OLLAMA_MODEL"
            if able
            else f"get one with, for example: ollama pull {_FOR_EXAMPLE[capability]}"
        )
        raise ConfigurationError(f"{self.base_url} {have}: {how}")

    def _must_see(self, model: str) -> None:
        able = self.show(model).get("capabilities")
        # a server older than the list says nothing; one that has it answers without the images (measured on v0.24.0)
        if able and "vision" not in able:
            raise ConfigurationError(
                f"model {model!r} at {self.base_url} sees no images (it has {', '.join(able)}): name one with vision"
            )

    def _capabilities(self, info: ModelInfo) -> Sequence[str]:
        # servers before 0.30 do not list them
        return info.capabilities or tuple(self.show(info.name).get("capabilities") or ("completion",))
