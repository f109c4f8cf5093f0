"""Language models behind an OpenAI-compatible server: vLLM, TGI, SGLang, `transformers serve`, Inference Providers.

Meant are servers with a plain address that read their key, if any, as a bearer token, OpenAI's own among them. An
address with a query, such as Azure's with `?api-version=`, is refused by `LanguageModelOptions`: cards show addresses.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from synclr_hf.captions.language_models import CutOff, Refused, cut_at, holds
from synclr_hf.captions.server_requests import Server
from synclr_hf.data.workers import Report
from synclr_hf.errors import UserInputError

INFERENCE_PROVIDERS = "https://router.huggingface.co/v1"
INSTRUCTION = (
    "Complete the last line of the text in the manner of the lines before it. "
    "Answer with the completion only: one line, no comment, no quotation marks."
)
_OTHER_NAMES = {"max_tokens": "max_completion_tokens"}
_OF_HUGGING_FACE = (".huggingface.co", ".huggingface.cloud", ".hf.space")


class _Reply(NamedTuple):
    text: str
    finish_reason: object
    usage: Counter[str]


class OpenAIChatModel:
    """A chat model, asked to complete the last line of the prompt.

    The first line of the answer that says something is taken, without the query if the model repeats it. Several
    requests are in flight at a time; one that fails is sent again, see `server_requests`. Each carries its prompt's
    own seed; whether the same seed gives the same text again is up to the server. The length is asked for as
    `max_tokens`, or as `max_completion_tokens` once the server says that it does not support the former.

    The API key is OPENAI_API_KEY for a server of your own; the token of the Hub (HF_TOKEN) is sent to Hugging Face
    only.

    Args:
        model: the model's name at the server.
        batch_size: largest number of requests in flight.
        base_url: address of the server, e.g. `http://host:8000/v1`; `None`: Inference Providers of the Hub.

    Raises:
        UserInputError: an address that cannot be used, or a key that is missing.
    """

    takes = ("batch_size", "base_url")
    parallel_processes = False
    _endpoint = "chat/completions"

    def __init__(self, model: str, *, batch_size: int = 64, base_url: str | None = None) -> None:
        self.name = model
        self.usage: Counter[str] = Counter()
        self._batch_size = batch_size
        self._server = _server(base_url, self._endpoint)

    def complete(
        self,
        prompts: Sequence[str],
        *,
        seeds: Sequence[int],
        temperature: float,
        top_p: float,
        max_new_tokens: int,
        stop: Sequence[str],
        report: Report | None = None,
    ) -> list[str]:
        """Return one completion a prompt; see `LanguageModel.complete`.

        Raises:
            UserInputError: the server refuses all requests, or does not answer any more; the line names it.
        """
        sampling = {"model": self.name, "max_tokens": max_new_tokens, "temperature": temperature, "top_p": top_p}
        bodies = [
            {**sampling, "seed": seed % 2**31, **self._question(prompt, stop)}  # some servers read 32 bits
            for prompt, seed in zip(prompts, seeds, strict=True)
        ]
        answers = self._server.ask(bodies, self._read, self._batch_size, report)
        return [self._taken(answer, prompt, stop) for answer, prompt in zip(answers, prompts, strict=True)]

    def _taken(self, answer: _Reply | Refused, prompt: str, stop: Sequence[str]) -> str:
        """Return the completion of an answer, and count what it took."""
        if isinstance(answer, Refused):
            return answer
        self.usage.update(answer.usage)
        if answer.finish_reason == "content_filter":
            return Refused("the server withholds its answer (content_filter)")
        text, whole = self._completion(answer.text, prompt, stop)
        return text if whole or answer.finish_reason != "length" else CutOff(text)

    def _question(self, prompt: str, stop: Sequence[str]) -> dict[str, Any]:
        """Return the part of the body that the endpoint has for itself; a chat may begin with an empty line."""
        messages = [{"role": "system", "content": INSTRUCTION}, {"role": "user", "content": prompt}]
        return {"messages": messages}

    def _read(self, reply: dict[str, Any]) -> _Reply:
        choice = reply["choices"][0]
        return _Reply(_text(choice["message"]["content"]), choice.get("finish_reason"), _usage(reply))

    def _completion(self, text: str, prompt: str, stop: Sequence[str]) -> tuple[str, bool]:
        """Return what is taken of a text, and whether a stop string ends it."""
        query = prompt.rstrip().rpartition("\n")[2].strip()
        for line in text.splitlines(keepends=True) if "\n" in stop else [text]:
            if said := _without_query(line.strip(), query):
                return cut_at(said, stop), holds(line, stop)
        return "", False


class OpenAICompletionsModel(OpenAIChatModel):
    """A base model that continues the prompt as it stands (`/completions`); otherwise as `OpenAIChatModel`."""

    _endpoint = "completions"

    def __init__(self, model: str, *, batch_size: int = 64, base_url: str | None = None) -> None:
        if base_url is None:
            raise UserInputError(
                f"openai-completions:{model} needs the address of a server; type --base-url http://HOST:PORT/v1"
            )
        super().__init__(model, batch_size=batch_size, base_url=base_url)

    def _question(self, prompt: str, stop: Sequence[str]) -> dict[str, Any]:
        return {"prompt": prompt, **({"stop": list(stop)} if stop else {})}

    def _read(self, reply: dict[str, Any]) -> _Reply:
        choice = reply["choices"][0]
        return _Reply(_text(choice["text"]), choice.get("finish_reason"), _usage(reply))

    def _completion(self, text: str, prompt: str, stop: Sequence[str]) -> tuple[str, bool]:
        return cut_at(text, stop), holds(text, stop)


def _text(value: Any) -> str:
    if not isinstance(value, str | None):
        raise TypeError("a text is expected")
    return value or ""


def _usage(reply: dict[str, Any]) -> Counter[str]:
    told = reply.get("usage") or {}
    return Counter({name: int(told.get(name) or 0) for name in ("prompt_tokens", "completion_tokens")})


def _without_query(line: str, query: str) -> str:
    """Return a line without the query that it may begin with, or the query's last word, its arrow."""
    for beginning in (query, query.rpartition(" ")[2]):
        if beginning and line[: len(beginning)].casefold() == beginning.casefold():
            return line[len(beginning) :].strip()
    return line


def _server(base_url: str | None, endpoint: str) -> Server:
    from huggingface_hub import get_token

    address = base_url or INFERENCE_PROVIDERS
    try:
        parts = urlsplit(address)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if not host:
        raise UserInputError(f"--base-url {address} is no address of a server; type --base-url http://HOST:PORT/v1")
    path = parts.path.rstrip("/").removesuffix("/completions").removesuffix("/chat") or "/v1"
    shown = f"{parts.scheme}://{host}{f':{port}' if port else ''}{path}"
    hugging_face = parts.scheme == "https" and f".{host}".endswith(_OF_HUGGING_FACE)
    key = (os.environ.get("OPENAI_API_KEY") or "").strip() or None
    if hugging_face and (base_url is None or key is None):
        key = get_token()
    if base_url is None and not key:
        raise UserInputError(
            "Inference Providers need a token of the Hub; type hf auth login, or set HF_TOKEN, or name a server with "
            "--base-url http://HOST:PORT/v1"
        )
    variable = "HF_TOKEN" if hugging_face else "OPENAI_API_KEY"
    rights = f"set {variable} to a key that it accepts"
    advice = {
        0: "type other settings, or another --base-url",
        400: "type other settings, or --language-model openai-completions:MODEL for a model without a chat template",
        401: rights,
        403: rights,
        404: "type --language-model with a model that it serves, or another --base-url",
    }
    url = parts._replace(path=f"{path}/{endpoint}", query="", fragment="").geturl()
    return Server(url=url, shown=shown, key=key, advice=advice, other_names=_OTHER_NAMES)
