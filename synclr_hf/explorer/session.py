"""What the page works with: encoders and index, loaded once in the background while the page is already there."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from synclr_hf.errors import UserInputError

if TYPE_CHECKING:
    from synclr_hf.evaluation.encoding.encoders import Encoder
    from synclr_hf.explorer.index.opened import PictureIndex

Stage = Literal["loading", "ready", "failed"]


@dataclass(frozen=True)
class ExplorerConfig:
    """What is shown.

    Attributes:
        model: the encoder: a folder or a Hub id.
        index: folder or Hub id of an index; `None`: there is none, and only PCA maps can be looked at.
    """

    model: str
    index: str | None = None


@dataclass(frozen=True)
class LoadingState:
    """How far the explorer is.

    Attributes:
        stage: `failed` has the reason in `text`.
        text: one line for people.
        missing_index: a line that says how to build the index, where there is none.
    """

    stage: Stage
    text: str
    missing_index: str | None = None


class Explorer:
    """Encoders and index of a page.

    Args:
        config: what is shown.
    """

    def __init__(self, config: ExplorerConfig) -> None:
        self.config = config
        self.computing = threading.Lock()
        """Held while a model runs: one forward pass at a time uses all cores."""
        self._state = LoadingState("loading", f"loading {config.model}")
        self._encoders: list[Encoder] = []
        self._index: PictureIndex | None = None
        self._done = threading.Event()

    @property
    def state(self) -> LoadingState:
        """How far it is now."""
        return self._state

    def start(self) -> None:
        """Begin to load, on a thread of its own; a second call does nothing."""
        threading.Thread(target=self._load, name="explorer loading", daemon=True).start()

    def wait(self, timeout: float | None = None) -> None:
        """Wait until all is loaded.

        Raises:
            UserInputError: it failed, or is still loading after `timeout` seconds.
        """
        if not self._done.wait(timeout):
            raise UserInputError(f"{self._state.text}; try again in a moment")
        if self._state.stage == "failed":
            raise UserInputError(self._state.text)

    @property
    def encoders(self) -> Sequence[Encoder]:
        """The encoders, in the order of the index (the first is the model that is shown); waits for them."""
        self.wait()
        return self._encoders

    @property
    def index(self) -> PictureIndex:
        """The index; waits for it.

        Raises:
            UserInputError: there is none; the message says how to build it.
        """
        self.wait()
        if self._index is None:
            raise UserInputError(str(self._state.missing_index))
        return self._index

    def _load(self) -> None:
        try:
            from synclr_hf.evaluation.encoding.encoder_loading import load_encoder
            from synclr_hf.explorer.index.opening import open_index

            names = [self.config.model]
            if self.config.index is not None:
                self._index = open_index(self.config.index)
                names += [one.name for one in self._index.facts.encoders[1:]]
            self._encoders = [load_encoder(name, dtype="float32") for name in names]
            self._state = LoadingState("ready", f"ready: {self.config.model}", None if self._index else "no index")
        except UserInputError as error:
            self._state = LoadingState("failed", str(error))
        finally:
            self._done.set()
