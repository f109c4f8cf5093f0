"""The one place where randomness comes from."""

from __future__ import annotations

import hashlib


def seed_for(run_seed: int, *names: str | int) -> int:
    """Derive the seed of one named draw from the seed of the run.

    Args:
        run_seed: the seed of the whole run.
        *names: what the draw is for, e.g. `("caption", caption_id, attempt)`; order and type matter.

    Returns:
        An integer in [0, 2**63), the same on every machine and in every process.
    """
    digest = hashlib.blake2b(repr((int(run_seed), *names)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1
