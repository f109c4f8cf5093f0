"""What the page works with: encoders and index, loaded once in the background while the page is already there."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from synclr_hf.errors import UserInputError
from synclr_hf.explorer.config import ExplorerConfig
from synclr_hf.explorer.index.stage import UNTRAINED

if TYPE_CHECKING:
    from synclr_hf.evaluation.encoding.encoders import Encoder
    from synclr_hf.explorer.index.facts import IndexedEncoder
    from synclr_hf.explorer.index.opened import PictureIndex
    from synclr_hf.explorer.patch_cache import PatchCache

Stage = Literal["loading", "building", "ready", "failed"]
LONGEST_WAIT = 300.0
"""Seconds that a request waits for what is being loaded."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class LoadingState:
    """How far the explorer is.

    Attributes:
        stage: `building`: an index is being built, all else works; `failed`: even the model cannot be used.
        text: one line for people.
        no_index: why there is no index to search, and what to type; `None` where there is one.
        seconds: since loading began.
    """

    stage: Stage
    text: str
    no_index: str | None = None
    seconds: float = 0.0


class Explorer:
    """Encoders and index of a page.

    The first encoder and the index are loaded on a thread that `start` begins; the other encoders of the index are
    loaded one by one behind them. All methods may be called from many threads.

    Args:
        config: what is shown.
    """

    def __init__(self, config: ExplorerConfig) -> None:
        self.config = config
        self.computing = threading.Lock()
        """Held while a model runs: one forward pass at a time uses all cores."""
        self._patches: PatchCache | None = None
        self._state = LoadingState("loading", f"loading {config.model_name}")
        self._index: PictureIndex | None = None
        self._encoders: dict[int, Encoder | UserInputError] = {}
        self._news = threading.Condition()
        self._begun = time.monotonic()
        self._thread: threading.Thread | None = None

    @property
    def state(self) -> LoadingState:
        """How far it is now."""
        with self._news:
            still = self._state.stage in ("loading", "building")
            seconds = time.monotonic() - self._begun if still else self._state.seconds
            return replace(self._state, seconds=seconds)

    def start(self) -> None:
        """Begin to load, on a thread of its own; a second call does nothing."""
        with self._news:
            if self._thread is not None:
                return
            self._begun = time.monotonic()
            self._thread = threading.Thread(target=self._load, name="explorer loading", daemon=True)
        self._thread.start()

    def wait(self, timeout: float | None = LONGEST_WAIT) -> None:
        """Wait until model and index are loaded, or known to be missing.

        Raises:
            UserInputError: the model cannot be used, or it takes longer than `timeout` seconds.
        """
        with self._news:
            if not self._news.wait_for(lambda: self._state.stage != "loading", timeout):
                raise UserInputError(f"{self._state.text}; try again in a moment")
            if self._state.stage == "failed":
                raise UserInputError(self._state.text)

    def wait_for_news(self, before: LoadingState, timeout: float) -> LoadingState:
        """Return the state as soon as it says something else than `before`, at most after `timeout` seconds."""
        with self._news:
            self._news.wait_for(lambda: (self._state.stage, self._state.text) != (before.stage, before.text), timeout)
        return self.state

    def encoder(self, number: int = 0) -> Encoder:
        """Return encoder `number` of the index, or the model that is shown; waits for it.

        Raises:
            UserInputError: it cannot be used; the others can.
        """
        self.wait()
        with self._news:
            if number and (self._index is None or not 0 <= number < len(self._index.facts.encoders)):
                raise UserInputError(f"there is no encoder {number} here; look at those of the list")
            if not self._news.wait_for(lambda: number in self._encoders, LONGEST_WAIT):
                raise UserInputError("this encoder is still being loaded; try again in a moment")
            found = self._encoders[number]
        if isinstance(found, UserInputError):
            raise found
        return found

    @property
    def patches(self) -> PatchCache:
        """Patch features that were computed a moment ago."""
        with self._news:
            if self._patches is None:
                from synclr_hf.explorer.patch_cache import PatchCache

                self._patches = PatchCache()
            return self._patches

    @property
    def index(self) -> PictureIndex:
        """The index; waits for it.

        Raises:
            UserInputError: there is none; the message says how to build it.
        """
        self.wait()
        with self._news:
            if self._index is None:
                raise UserInputError(self._state.no_index or "there is no index")
            return self._index

    @property
    def encoder_names(self) -> Sequence[str]:
        """What the encoders of the index are called; the first is the model that is shown."""
        return [one.name for one in self.index.facts.encoders]

    def build(self) -> None:
        """Begin to build the index that is missing, on a thread of its own; `state` tells how far it is.

        Raises:
            UserInputError: it cannot be built here.
        """
        self.wait()
        with self._news:
            if self._state.stage == "building" or self._index is not None:
                return
            if self.config.may_build is None:
                raise UserInputError(self._state.no_index or "there is an index already")
            self._say("building", "building the index of pictures", self._state.no_index)
        threading.Thread(target=self._build, name="explorer building", daemon=True).start()

    def _load(self) -> None:
        try:
            self._say("loading", "loading torch and transformers")
            from synclr_hf.evaluation.encoding.encoder_loading import load_encoder

            self._say("loading", f"loading the model {self.config.model_name}")
            encoder = load_encoder(self.config.model, dtype="float32")
            self._put(0, encoder)
        except Exception as error:  # whatever it is, the page must not wait for it for ever
            self._fail(error)
            return
        self._open_index(encoder)
        self._load_others()

    def _open_index(self, encoder: Encoder, stage: Stage = "loading") -> None:
        reason = self._how_to_build()
        if self.config.index is not None:
            try:
                self._say(stage, "opening the index of pictures")
                from synclr_hf.explorer.index.opening import open_index

                index = open_index(self.config.index)
                if index.encoder_number(encoder) != 0:
                    raise UserInputError(
                        f"the index '{index.name}' shows '{index.facts.encoders[0].name}' first, not "
                        f"'{encoder.name}'; open it with that model, or build one: type {self._command()}"
                    )
                with self._news:
                    self._index = index
                self._say("ready", f"ready: {self._told(index)}")
                return
            except UserInputError as error:
                reason = str(error)
            except Exception as error:
                logger.exception("the index cannot be opened")
                reason = f"the index cannot be opened ({type(error).__name__}); the log says more"
        self._say("ready", f"ready: {self.config.model_name}, without an index", reason)

    def _load_others(self) -> None:
        """Load the other encoders of the index, one after the other."""
        if self._index is None:
            return
        from synclr_hf.evaluation.encoding.encoder_loading import load_encoder

        for number, one in enumerate(self._index.facts.encoders[1:], start=1):
            try:
                encoder = load_encoder(self._source_of(one), dtype="float32")
                if encoder.fingerprint != one.fingerprint:
                    raise UserInputError(
                        f"'{one.name}' is not what the index was made with: its weights or settings have changed"
                    )
                self._put(number, encoder)
            except UserInputError as error:
                self._put(number, UserInputError(f"'{one.name}' cannot be compared here: {error}"))
            except Exception as error:
                logger.exception("an encoder cannot be loaded")
                self._put(number, UserInputError(f"'{one.name}' cannot be loaded ({type(error).__name__})"))

    def _source_of(self, one: IndexedEncoder) -> str:
        """Return what to load for an encoder of the index.

        A run's own encoder is called by a name that means nothing elsewhere; random weights are told by the
        fingerprint to be those of the model that is shown.
        """
        shown = self._index.facts.encoders[0].name  # type: ignore[union-attr]
        return one.name.replace(shown, self.config.model, 1) if one.name.removeprefix(UNTRAINED) == shown else one.name

    def _build(self) -> None:
        try:
            from synclr_hf.explorer.index.stage import build_index

            config = self.config.may_build
            assert config is not None
            build_index(config, heard=self._hear)
            self.config = replace(self.config, index=config.output_dir)
            encoder = self.encoder(0)
        except Exception as error:
            if not isinstance(error, UserInputError):
                logger.exception("the index cannot be built")
            self._say("ready", f"ready: {self.config.model_name}, without an index", _told(error))
            return
        self._open_index(encoder, "building")
        self._load_others()

    def _hear(self, done: int, total: int) -> None:
        told = f"building the index: {done:,} of {total:,} pictures"
        self._say("building", told, self._state.no_index)

    def _how_to_build(self) -> str:
        return f"there is no index of pictures here; build one: type {self._command()}"

    def _command(self) -> str:
        if self.config.may_build is not None:
            from synclr_hf.data.writing import command_line

            return command_line("index", self.config.may_build)
        name = self.config.model_name
        return f"synclr index --model {name} --images IMAGES --output-dir FOLDER, and give it with --index FOLDER"

    def _told(self, index: PictureIndex) -> str:
        toy = " of the toy world, not photographs" if index.facts.is_toy else ""
        return f"{self.config.model_name}, {len(index):,} pictures{toy}"

    def _put(self, number: int, encoder: Encoder | UserInputError) -> None:
        with self._news:
            self._encoders[number] = encoder
            self._news.notify_all()

    def _say(self, stage: Stage, text: str, no_index: str | None = None) -> None:
        with self._news:
            self._state = LoadingState(stage, text, no_index, time.monotonic() - self._begun)
            self._news.notify_all()

    def _fail(self, error: Exception) -> None:
        if not isinstance(error, UserInputError):
            logger.exception("the model cannot be loaded")
        self._say("failed", _told(error))


def _told(error: Exception) -> str:
    return str(error) if isinstance(error, UserInputError) else f"{type(error).__name__}; the log says more"
