"""Requests to a server, many at a time, and again after a while where that may help."""

from __future__ import annotations

import asyncio
import logging
import random
import re
import threading
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from importlib import import_module
from typing import Any, TypeVar

from synclr_hf.captions.language_models import Refused
from synclr_hf.data.workers import Report
from synclr_hf.errors import UserInputError

logger = logging.getLogger(__name__)

TIMEOUT = 300.0
"""Seconds that a server may take over one answer."""
TRIES = 8
"""Failures of one request, with no answer to any other meanwhile, before the server is given up; with answers, and if
the server says so itself, before the request's prompt is held to be refused."""
FIRST_TRIES = 3
"""The same for a server that has not been reached yet: its address may be wrong."""
FIRST_WAIT, LONGEST_WAIT = 0.5, 30.0
"""Seconds before a second try, doubled for every further one, and at most; up to half of it is taken off by chance."""
LONGEST_RETRY_AFTER = 600.0
"""Seconds that a server may ask to wait."""
REFUSED = (400, 413, 422)
"""Status codes that may be about this one prompt, e.g. a filter of contents, or its length."""
FIRST_REFUSALS = 8
"""Prompts that a server may refuse before it has answered one, or as many as are in flight if these are more; then it
is not about the prompts."""
RETRIED = (408, 409, 425, 429)
"""Status codes after which the same request may do; so may all from 500."""

Answer = TypeVar("Answer")


class _Trouble(Exception):
    """A request that failed and may do better later."""

    def __init__(self, reason: str, retry_after: float | None = None, *, of_prompt: bool = False) -> None:
        super().__init__(reason)
        self.retry_after = retry_after
        self.of_prompt = of_prompt
        """Whether the prompt may be what the server cannot cope with."""


@dataclass
class Server:
    """A server, how it is addressed, and what is known of it.

    Attributes:
        url: where requests are posted.
        shown: the address for messages; without credentials.
        key: API key, sent and never shown.
        advice: what to type when it refuses a request, by status code; 0 for all others.
        other_names: names of settings, and what they are called by servers that do not support them.
    """

    url: str
    shown: str
    key: str | None = field(default=None, repr=False)
    advice: Mapping[int, str] = field(default_factory=dict)
    other_names: Mapping[str, str] = field(default_factory=dict)
    _reached: bool = field(default=False, init=False)
    _answers: int = field(default=0, init=False)
    _early_refusals: int = field(default=0, init=False)
    _told: bool = field(default=False, init=False)
    _doubted: int = field(default=0, init=False)
    _not_before: float = field(default=0.0, init=False)
    _renamed: set[str] = field(default_factory=set, init=False)

    def ask(
        self, bodies: Sequence[Any], read: Callable[[Any], Answer], at_once: int, report: Report | None = None
    ) -> list[Answer | Refused]:
        """Post every body as JSON and return what `read` makes of the replies, in order; each reply is read once.

        A server that answers others may refuse one (`REFUSED`), or fail at it `TRIES` times: that one is a `Refused`.

        It runs in a thread of its own, so that it works where an event loop runs already, e.g. in a notebook.

        Args:
            bodies: what to post, dictionaries.
            read: takes a reply; any `ValueError`, `TypeError` or `LookupError` means that it is garbage.
            at_once: largest number of requests in flight.
            report: is told how many more are done.

        Raises:
            UserInputError: the server has refused all it was asked, or refuses whoever asks, or does not answer any
                more.
        """
        return _in_own_loop(self._ask_all(bodies, read, at_once, report))

    async def _ask_all(
        self, bodies: Sequence[Any], read: Callable[[Any], Answer], at_once: int, report: Report | None
    ) -> list[Answer | Refused]:
        http = _http_library()
        answers: list[Any] = [None] * len(bodies)
        waiting = iter(enumerate(bodies))
        limits = http.Limits(max_connections=at_once, max_keepalive_connections=at_once)
        headers = {"Authorization": f"Bearer {self.key}"} if self.key else {}
        async with http.AsyncClient(headers=headers, limits=limits, timeout=None, follow_redirects=True) as client:

            async def work() -> None:
                for place, body in waiting:
                    answers[place] = answer = await self._ask(client, body, read)
                    if isinstance(answer, Refused):
                        self._note(answer, max(FIRST_REFUSALS, at_once))
                    if report is not None:
                        report(1)

            try:
                async with asyncio.TaskGroup() as group:
                    for _ in range(min(at_once, len(bodies))):
                        group.create_task(work())
            except BaseExceptionGroup as errors:  # the first one stopped the others
                raise errors.exceptions[0] from None
        refused = next((answer for answer in answers if isinstance(answer, Refused)), None)
        if refused is not None and not self._answers:
            raise self._refuses(refused)
        return answers

    async def _ask(self, client: Any, body: Any, read: Callable[[Any], Answer]) -> Answer | Refused:
        failures, in_vain, answers = 0, 0, self._answers
        of_prompt, before = 0, 0
        while True:
            await asyncio.sleep(max(0.0, self._not_before - time.monotonic()))
            try:
                answer = await self._ask_once(client, body, read)
            except _Trouble as trouble:
                failures += 1
                in_vain = in_vain + 1 if self._answers == answers else 1
                answers = self._answers
                if trouble.of_prompt:
                    before = before if of_prompt else answers
                    of_prompt += 1
                    if of_prompt >= TRIES and answers > min(before, self._doubted):
                        self._doubted = answers
                        return Refused(f"{trouble}, {of_prompt} times")
                if in_vain >= (TRIES if self._reached else FIRST_TRIES):
                    raise self._gave_up(f"{trouble}, {in_vain} times") from None
                wait = min(LONGEST_WAIT, FIRST_WAIT * 2 ** (failures - 1)) * random.SystemRandom().uniform(0.5, 1)
                if trouble.retry_after is not None:
                    if trouble.retry_after > LONGEST_RETRY_AFTER:
                        raise self._gave_up(f"{trouble}; it asks to wait {trouble.retry_after:.0f} s") from None
                    self._not_before = max(self._not_before, time.monotonic() + trouble.retry_after)
                    wait += trouble.retry_after
                if in_vain == 2:
                    logger.warning("the server %s is in trouble (%s); trying again", self.shown, trouble)
                await asyncio.sleep(wait)
            else:
                self._answers += not isinstance(answer, Refused)
                return answer

    def _note(self, refused: Refused, most: int) -> None:
        """Tell of the first prompt that is refused while others are answered; raise after `most` if none is."""
        if not self._answers:
            self._early_refusals += 1
            if self._early_refusals >= most:
                raise self._refuses(refused)
        elif not self._told:
            self._told = True
            logger.warning("the server %s refuses a prompt (%s); the run goes on without it", self.shown, refused)

    async def _ask_once(self, client: Any, body: Any, read: Callable[[Any], Answer]) -> Answer | Refused:
        sent = {self.other_names[name] if name in self._renamed else name: value for name, value in body.items()}
        try:
            async with asyncio.timeout(TIMEOUT):
                response = await client.post(self.url, json=sent)
        except TimeoutError:
            raise _Trouble(f"no answer within {TIMEOUT:g} s") from None
        except _http_library().HTTPError as error:  # refused, cut, not HTTP
            raise _Trouble(self._without_key(str(error)) or type(error).__name__) from None
        self._reached = True
        status = response.status_code
        if status in RETRIED or status >= 500:
            wait = _retry_after(response.headers)
            raise _Trouble(f"{status}: {self._message(response)}", wait, of_prompt=status >= 500 and wait is None)
        if status >= 300:
            refused = Refused(f"{status}: {self._message(response)}")
            if status == 400 and (unsupported := self._unsupported(refused, sent)):
                self._renamed.update(unsupported)
                return await self._ask_once(client, body, read)
            if status in REFUSED:
                return refused
            raise self._refuses(refused)
        try:
            return read(response.json())
        except (ValueError, TypeError, LookupError, AttributeError):
            reason = f"an answer that makes no sense: {self._without_key(response.text)[:80]!r}"
            raise _Trouble(reason, of_prompt=True) from None

    def _unsupported(self, refused: Refused, sent: Mapping[str, Any]) -> list[str]:
        """Return the names of what was sent that the server says it does not support, and that have another name."""
        if not re.search(r"unsupported|not supported", refused, re.IGNORECASE):
            return []
        return [name for name in self.other_names if name in sent and re.search(rf"\b{name}\b", refused)]

    def _message(self, response: Any) -> str:
        """Return what the server says about an error, in one line."""
        try:
            said = response.json()
            for name in ("error", "message", "detail"):
                said = said.get(name, said) if isinstance(said, dict) else said
        except ValueError:
            said = response.text
        return self._without_key(str(said)) or response.reason_phrase or "no reason given"

    def _without_key(self, text: str) -> str:
        line = " ".join(text.split())
        return (line.replace(self.key, "***") if self.key else line)[:200]

    def _refuses(self, refused: Refused) -> UserInputError:
        advice = self.advice.get(int(refused.partition(":")[0]), self.advice.get(0, ""))
        return UserInputError(f"the server {self.shown} refuses the request ({refused}); {advice}")

    def _gave_up(self, reason: str) -> UserInputError:
        return UserInputError(
            f"the server {self.shown} does not answer ({reason}); see that it runs and type the same command again, "
            "or type another --base-url"
        )


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds that a server asks to wait, as a number or as a date."""
    value = headers.get("Retry-After")
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(value).timestamp() - time.time()
        except ValueError:
            return None
    return max(0.0, seconds) if seconds == seconds else None


def _http_library() -> Any:
    """Return httpx or httpx2, whichever this version of huggingface_hub brings along.

    Its own clients are not used: they refuse a server in the same network when HF_HUB_OFFLINE is set, and show the
    token of the Hub to any server.
    """
    from huggingface_hub.errors import HTTPError

    return import_module(HTTPError.__module__.partition(".")[0])


def _in_own_loop(work: Coroutine[Any, Any, Answer]) -> Answer:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    future = asyncio.run_coroutine_threadsafe(work, loop)
    try:
        return future.result()
    finally:  # after Ctrl-C there are requests in flight
        asyncio.run_coroutine_threadsafe(_cancel_the_rest(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _cancel_the_rest() -> None:
    rest = asyncio.all_tasks() - {asyncio.current_task()}
    for task in rest:
        task.cancel()
    await asyncio.gather(*rest, return_exceptions=True)
    await asyncio.get_running_loop().shutdown_asyncgens()
