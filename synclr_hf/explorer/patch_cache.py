"""Patch features that were computed a moment ago: bounded in bytes, the ones not used for longest go first."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable

from torch import Tensor

MAX_BYTES = 512 * 2**20
"""Some 1,700 pictures of 14 x 14 patches and 768 features in float16."""


class PatchCache:
    """Tensors by key; many threads may use it.

    Args:
        max_bytes: of all tensors together; a larger one is not kept.
    """

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        self._max_bytes, self._bytes = max_bytes, 0
        self._kept: OrderedDict[Hashable, Tensor] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable) -> Tensor | None:
        """Return what was put there, if it is still there."""
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
            return self._kept.get(key)

    def put(self, key: Hashable, tensor: Tensor) -> None:
        """Keep a tensor; others make room for it."""
        if tensor.nbytes > self._max_bytes:
            return
        with self._lock:
            old = self._kept.pop(key, None)
            self._bytes += tensor.nbytes - (0 if old is None else old.nbytes)
            self._kept[key] = tensor
            while self._bytes > self._max_bytes:
                self._bytes -= self._kept.popitem(last=False)[1].nbytes

    @property
    def num_bytes(self) -> int:
        """Bytes of all tensors that are kept."""
        with self._lock:
            return self._bytes
