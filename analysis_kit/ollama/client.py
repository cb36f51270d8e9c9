"""`OllamaClient`: one server, by its own protocol. Replies are frozen, in seconds; failures are typed."""

from __future__ import annotations

import difflib
import math
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, Self, Unpack, overload

from pydantic import BaseModel

from analysis_kit.errors import ConfigurationError, StreamBrokenError
from analysis_kit.ollama.answers import Answer, read_answer
from analysis_kit.ollama.arguments import options_of, seconds
from analysis_kit.ollama.calls import Calls, ReplyStream
from analysis_kit.ollama.host import EMBEDDED, api_key_for, checked_key, resolve_hosts
from analysis_kit.ollama.images import encoded
from analysis_kit.ollama.label_probabilities import TOP_LOGPROBS, label_field
from analysis_kit.ollama.questions import DEFAULT_QUESTIONS, SENTIMENT, Question
from analysis_kit.ollama.reply import Embeddings, Reply, count, durations
from analysis_kit.ollama.shelf import Shelf
from analysis_kit.ollama.text import clean, usable
from analysis_kit.ollama.wire import RequestFields
from analysis_kit.results import Exchange

#: The same question gets the same answer, unless the caller says otherwise.
DETERMINISTIC: Mapping[str, Any] = {"temperature": 0, "seed": 0}


class OllamaClient(Shelf):
    """Talks to one Ollama server. Threads may share it: each call has a connection of its own.

    Parameters
    ----------
    host : str, optional
        Any form of OLLAMA_HOST, or ``embedded``; default OLLAMA_HOST, else ``127.0.0.1:11434``.
    model : str, optional
        Asked where a call names none; default ``OLLAMA_MODEL``, else the server's only completion model.
    options : mapping, optional
        Ollama options of every call, over temperature 0 and seed 0; a call's own options win.
    connect_timeout_s : float, default 3.0
        Seconds for connecting.
    read_timeout_s : float, default 600.0
        Seconds for each line of an answer, the first included.
    load_timeout_s : float, default 300.0
        Seconds more for the first line where the model may have to be loaded.
    api_key : str, optional
        Sent as bearer token to this host only. ``OLLAMA_API_KEY`` is sent to https://ollama.com and nowhere else.
    keep_alive : str or float, optional
        How long the server keeps the model in memory after a call; default the server's own rule.

    Examples
    --------
    >>> with OllamaClient("gpu1:11434", model="llama3.2") as client:  # doctest: +SKIP
    ...     client.generate("Say hello.").text
    """

    def __init__(
        self,
        host: str | None = None,
        *,
        model: str | None = None,
        options: Mapping[str, Any] | None = None,
        connect_timeout_s: float = 3.0,
        read_timeout_s: float = 600.0,
        load_timeout_s: float = 300.0,
        api_key: str | None = None,
        keep_alive: str | float | None = None,
    ) -> None:
        hosts = resolve_hosts(host)
        if len(hosts) > 1:
            raise ConfigurationError(
                f"a client talks to one host, and {', '.join(hosts)} are {len(hosts)}; for several use OllamaConnectionPool"
            )
        key = None if api_key is None else checked_key(api_key)
        self._host = hosts[0]
        self._given = options_of(options)
        self._keep_alive = keep_alive
        calls = Calls(
            lambda: connectable(hosts[0]),
            connect_timeout_s=seconds("connect_timeout_s", connect_timeout_s),
            read_timeout_s=seconds("read_timeout_s", read_timeout_s),
            load_timeout_s=seconds("load_timeout_s", load_timeout_s, zero=True),
            api_key=lambda base_url: api_key_for(base_url, key),
        )
        super().__init__(calls, model=model)

    # completions
    @overload
    def generate(
        self,
        prompt: str,
        model: str | None = None,
        *,
        stream: Literal[False] = False,
        **fields: Unpack[RequestFields],
    ) -> Reply: ...
    @overload
    def generate(
        self, prompt: str, model: str | None = None, *, stream: Literal[True], **fields: Unpack[RequestFields]
    ) -> ReplyStream: ...
    def generate(
        self, prompt: str, model: str | None = None, *, stream: bool = False, **fields: Unpack[RequestFields]
    ) -> Reply | ReplyStream:
        """Complete ``prompt``.

        Parameters
        ----------
        prompt : str
            Not blank; lone surrogates and NUL are replaced by U+FFFD.
        model : str, optional
            Default as the class says.
        stream : bool, default False
            Return a `ReplyStream` of the pieces as they come.
        **fields
            The request's other fields, by the protocol: ``options`` ``format`` (``"json"``, a JSON Schema or a pydantic
            model) ``system`` ``template`` ``raw`` ``suffix`` ``images`` (bytes, paths, or base64) ``context`` ``think``
            ``keep_alive`` ``logprobs`` ``top_logprobs`` ``truncate`` ``shift``.

        Returns
        -------
        Reply or ReplyStream

        Raises
        ------
        AnalysisError
            If the prompt is blank.
        ConfigurationError
            If there are images and the model sees none: a server may answer all the same, without them.
        EmptyAnswerError, TruncatedAnswerError
            If no text came.
        OllamaError
            If the server fails: `OllamaUnreachableError`, `ModelNotFoundError`, `ServerBusyError`,
            `OllamaTimeoutError`, `StreamBrokenError`, or itself.
        """
        prompt = usable(prompt)
        body = self._body(model, fields, prompt=prompt)
        prompt = f"{fields.get('system') or ''}\n{prompt}"
        if stream:
            return ReplyStream(self.calls.pieces("/api/generate", body, prompt=prompt))
        return self.calls.whole("/api/generate", body, prompt=prompt)

    @overload
    def chat(
        self,
        messages: Iterable[Mapping[str, Any]],
        model: str | None = None,
        *,
        stream: Literal[False] = False,
        **fields: Unpack[RequestFields],
    ) -> Reply: ...
    @overload
    def chat(
        self,
        messages: Iterable[Mapping[str, Any]],
        model: str | None = None,
        *,
        stream: Literal[True],
        **fields: Unpack[RequestFields],
    ) -> ReplyStream: ...
    def chat(
        self,
        messages: Iterable[Mapping[str, Any]],
        model: str | None = None,
        *,
        stream: bool = False,
        **fields: Unpack[RequestFields],
    ) -> Reply | ReplyStream:
        """Answer the last of ``messages``.

        Parameters
        ----------
        messages : iterable of mapping
            ``{"role": "user", "content": "..."}`` and their like, oldest first; at least one with text. ``images`` as
            in `generate`.
        model, stream, **fields
            As `generate`; and ``tools``.

        Returns
        -------
        Reply or ReplyStream
            Tools that the model wants called are in `Reply.tool_calls`.

        Raises
        ------
        AnalysisError, AnswerError, OllamaError
            As `generate`.
        """
        try:
            listed = [dict(message) for message in messages]
        except (TypeError, ValueError) as exc:
            raise ConfigurationError(
                'messages= is no list of mappings; write [{"role": "user", "content": "..."}]'
            ) from exc
        spoken = "\n".join(str(message.get("content") or "") for message in listed)
        prompt = usable(spoken)
        if prompt != spoken:
            for message in listed:
                if isinstance(message.get("content"), str):
                    message["content"] = clean(message["content"])
        for message in listed:
            if message.get("images") is not None:
                message["images"] = encoded(message["images"])
        body = self._body(model, fields, messages=listed)
        if stream:
            return ReplyStream(self.calls.pieces("/api/chat", body, prompt=prompt))
        return self.calls.whole("/api/chat", body, prompt=prompt)

    def ask(
        self,
        question: Question,
        text: str,
        *,
        model: str | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> Answer:
        """Ask ``question`` about ``text``, and check the answer against the question's schema.

        The schema goes along as ``format``. Servers hold a model to its structure but not to its bounds: numbers are moved
        into them and flagged. Reasoning is switched off. Where the schema has a closed list of labels, token
        log-probabilities are asked for (older servers ignore that), so that label probabilities come along.

        Parameters
        ----------
        question : Question
            Prompt, schema, token limit.
        text : str
            The passage.
        model : str, optional
            Default as the class says.
        options : mapping, optional
            Ollama options over the client's and the question's ``num_predict``.

        Returns
        -------
        Answer

        Raises
        ------
        AnalysisError
            If the text is blank.
        TruncatedAnswerError, EmptyAnswerError, InvalidAnswerError
            If the answer is cut, absent, or not of the schema; each holds the text that came.
        OllamaError
            If the server fails.
        """
        schema = question.json_schema
        prompt = question.render(usable(text))
        fields: dict[str, Any] = {
            "format": schema,
            "think": False,
            "options": {"num_predict": question.num_predict, **self._given, **(options or {})},
        }
        if label_field(schema) is not None:
            fields |= {"logprobs": True, "top_logprobs": TOP_LOGPROBS}
        body = self._body(model, fields, prompt=prompt)
        reply = self.calls.whole("/api/generate", body, prompt=prompt)
        # token lists are hundreds of times the answer's size; what they say is in the probabilities
        raw = {key: value for key, value in reply.raw.items() if key not in ("context", "logprobs")}
        return read_answer(reply, question, Exchange(reply.host, "/api/generate", body, raw))

    def analyze_sentiment(self, text: str, model: str | None = None) -> dict[str, Any]:
        """Return the tone of ``text`` as JSON values: ``label score confidence model flags probabilities``."""
        return _plain(self.ask(SENTIMENT, text, model=model))

    def analyze(self, text: str, model: str | None = None) -> dict[str, Any]:
        """Return every default finding about ``text`` as JSON values: question name -> finding."""
        return {
            question.name: _plain(self.ask(question, text, model=model)) for question in DEFAULT_QUESTIONS
        }

    def embed(
        self,
        texts: str | Sequence[str],
        model: str | None = None,
        *,
        dimensions: int | None = None,
        truncate: bool = False,
        options: Mapping[str, Any] | None = None,
    ) -> Embeddings:
        """Return one vector a text.

        Parameters
        ----------
        texts : str or sequence of str
            None of them blank.
        model : str, optional
            Default the client's, else the server's only embedding model.
        dimensions : int, optional
            Vectors of this length.
        truncate : bool, default False
            Whether the server may cut a text that is too long; by default that is an error.
        options : mapping, optional
            Ollama options.

        Raises
        ------
        AnalysisError
            If a text is blank.
        ConfigurationError
            If the model has no vectors of ``dimensions``.
        OllamaError
            If the server fails.
        """
        listed = [usable(text) for text in ([texts] if isinstance(texts, str) else texts)]
        name = model or self.model or self._only_model("embedding")
        body: dict[str, Any] = {"model": name, "input": listed, "truncate": truncate}
        extra = {
            "dimensions": dimensions,
            "options": dict(options or {}) or None,
            "keep_alive": self._keep_alive,
        }
        body.update({key: value for key, value in extra.items() if value is not None})
        began = time.perf_counter()
        answer = self.calls.plain("POST", "/api/embed", body, model=name, loads=True)
        total_s, load_s, _, _ = durations(answer)
        try:
            vectors = tuple(tuple(map(float, row)) for row in answer.get("embeddings") or ())
        except (TypeError, ValueError, OverflowError):
            vectors = ()
        # a row without numbers, or with one that is none, is no vector
        vectors = tuple(row for row in vectors if row and all(map(math.isfinite, row)))
        if len(vectors) != len(listed):
            raise StreamBrokenError(
                f"{self.base_url} gave {len(vectors)} vectors for {len(listed)} texts (model {name!r})",
                host=self.base_url,
                model=name,
            )
        lengths = {len(vector) for vector in vectors}
        if dimensions is not None and lengths - {dimensions}:
            raise ConfigurationError(
                f"dimensions={dimensions}: model {name!r} at {self.base_url} gives vectors of length {max(lengths)}"
            )
        return Embeddings(
            vectors,
            name,
            self.base_url,
            total_s=total_s,
            load_s=load_s,
            elapsed_s=time.perf_counter() - began,
            prompt_tokens=count(answer.get("prompt_eval_count")),
        )

    # life
    def abort(self) -> None:
        """End every call under way at once, from any thread; it raises the cancelling error there."""
        self.calls.abort()

    def close(self) -> None:
        """Close the connections; a later call connects anew."""
        self.calls.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __repr__(self) -> str:
        model = f" model={self.model!r}" if self.model else ""
        return f"<OllamaClient {self.calls.known_host or self._host}{model}>"

    # inside
    def _body(self, model: str | None, fields: Mapping[str, Any], **content: Any) -> dict[str, Any]:
        known = RequestFields.__annotations__
        if unknown := fields.keys() - known.keys():
            # a server would pass over it without a word
            name = min(unknown)
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {close[0]}=?" if close else f"there are {', '.join(known)}"
            raise ConfigurationError(f"{name}= is no field of a request; {hint}")
        form = fields.get("format")
        if isinstance(form, type) and issubclass(form, BaseModel):
            form = form.model_json_schema()
        body: dict[str, Any] = {"model": model or self.default_model(), **content}
        body |= {"keep_alive": self._keep_alive, **fields, "format": form, "stream": True}
        body["images"] = encoded(fields.get("images"))
        if any(each.get("images") for each in (body, *content.get("messages", ()))):
            self._must_see(body["model"])
        body["options"] = {**DETERMINISTIC, **self._given, **options_of(fields.get("options"))}
        return {key: value for key, value in body.items() if value is not None}


def connectable(host: str) -> str:
    """Return ``host`` as a base URL; for the word ``embedded`` that starts the embedded server."""
    if host != EMBEDDED:
        return host
    from analysis_kit.ollama.embedded import embedded_url

    return embedded_url()


def _plain(answer: Answer) -> dict[str, Any]:
    return {
        **answer.value.model_dump(mode="json"),
        "model": answer.reply.model,
        "flags": list(answer.flags),
        "probabilities": dict(answer.probabilities),
    }
