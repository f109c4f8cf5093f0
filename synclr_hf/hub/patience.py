"""How to speak with a Hub that is busy, is far away, or refuses."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import TypeVar

from huggingface_hub import HfApi
from huggingface_hub.errors import (
    HfHubHTTPError,
    HTTPError,  # of httpx or httpx2, whichever this version of the client uses
    LocalTokenNotFoundError,
    OfflineModeIsEnabled,
)

from synclr_hf.errors import UserInputError

WAITS = (1.0, 3.0, 9.0)
"""Seconds before each further try when the Hub is busy or the connection is cut."""
LONGEST_WAIT = 300.0
"""The most seconds that a user is kept waiting because the Hub asks for it (`Retry-After`)."""
BUSY = (408, 429, 500, 502, 503, 504)
CONFLICT = (409, 412)
"""Another process committed at the same moment; the same commit does well a moment later."""

Answer = TypeVar("Answer")


def client() -> HfApi:
    """Return a client with the endpoint and the token of the environment."""
    return HfApi(library_name="synclr_hf")


def patiently(repo_id: str, action: Callable[[], Answer]) -> Answer:
    """Do something on the Hub, again after a while where that may help.

    Args:
        repo_id: the repository, for errors.
        action: what to do; it may be done again after it failed half-way.

    Raises:
        UserInputError: it cannot be done, or not now; the message has one line.
    """
    for wait in WAITS:
        try:
            return action()
        except Exception as error:
            asked = retry_after(error)
            if refusal(repo_id, error) is not None or asked > LONGEST_WAIT or not _may_pass(error):
                raise _told(repo_id, error) from error
            time.sleep(max(wait, asked))
    try:
        return action()
    except Exception as error:
        raise _told(repo_id, error) from error


def refusal(repo_id: str, error: Exception) -> UserInputError | None:
    """Return what to tell the user about an error that waiting does not help, `None` for others."""
    if isinstance(error, UserInputError):
        return error
    if isinstance(error, OfflineModeIsEnabled):
        return UserInputError("HF_HUB_OFFLINE is set: nothing can be published; type unset HF_HUB_OFFLINE")
    if isinstance(error, LocalTokenNotFoundError):
        return _refused(repo_id, "no token was found")
    if _status(error) == 401:
        return _refused(repo_id, "the token is missing or not valid")
    if _status(error) == 403:
        return _refused(repo_id, "the token has no right to write there")
    return None


def reason(error: Exception) -> str:
    """Return in a few words why the Hub could not be used."""
    if isinstance(error, HfHubHTTPError):
        return f"the Hub answered {_status(error)}: {_first_line(error)}"
    if isinstance(error, _CUT):
        return f"the connection failed: {_first_line(error)}"
    return _first_line(error)


def retry_after(error: Exception) -> float:
    """Return the seconds that the Hub asks to wait, 0 if it asks for none."""
    if not isinstance(error, HfHubHTTPError) or error.response is None:
        return 0.0
    headers = error.response.headers
    told = headers.get("Retry-After", "").strip()
    if told.isdigit():
        return float(told)
    reset = re.search(r"\br=0\b.*\bt=(\d+)", headers.get("RateLimit", ""))
    return float(reset[1]) if reset else 0.0


def is_conflict(error: Exception) -> bool:
    """Tell whether another process committed at the same moment."""
    return _status(error) in CONFLICT


_CUT = (HTTPError, ConnectionError, TimeoutError, RuntimeError)
"""How a cut connection shows; the last: bytes that got stuck."""


def _may_pass(error: Exception) -> bool:
    if isinstance(error, HfHubHTTPError):
        return _status(error) in (*BUSY, *CONFLICT)
    return isinstance(error, _CUT)


def _told(repo_id: str, error: Exception) -> Exception:
    """Return the one line for the user; what is no error of the Hub stays what it is."""
    known = refusal(repo_id, error)
    if known is not None:
        return known
    if not isinstance(error, (HfHubHTTPError, *_CUT)):
        return error
    asked = retry_after(error)
    again = f"wait {asked / 60:.0f} minutes, as it asks, and " if asked > LONGEST_WAIT else ""
    return UserInputError(
        f"{repo_id}: {reason(error)}; {again}type the same command again: what arrived is not sent twice"
    )


def _status(error: Exception) -> int | None:
    return getattr(getattr(error, "response", None), "status_code", None)


def _refused(repo_id: str, why: str) -> UserInputError:
    return UserInputError(
        f"{repo_id} cannot be written: {why}; type hf auth login with a token that may write, or set HF_TOKEN"
    )


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)[:200]
