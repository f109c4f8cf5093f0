"""What the making of rows tells beside the rows: rejected draws, and what it cost."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Tally:
    """Counts of one shard, or of several added up; the notes beside the shards keep them.

    Attributes:
        counts: draws that were rejected or changed, by reason.
        concepts: rejected draws by the name of the concept that they were about.
        cost: what it took: `seconds` of the process that made it, `prompt_tokens` and `completion_tokens` where the
            back end counts them, `pictures` drawn, the rejected ones included.
        dropped: rows of the task for which nothing is written; `counts` tells why.
        rejects: rejected draws that shall be kept, each a dictionary that fits into JSON.
    """

    counts: Counter[str] = field(default_factory=Counter)
    concepts: Counter[str] = field(default_factory=Counter)
    cost: Counter[str] = field(default_factory=Counter)
    dropped: int = 0
    rejects: list[dict[str, Any]] = field(default_factory=list)

    def add(self, other: Tally) -> None:
        """Add the counts of another one; its rejects stay where they are."""
        self.counts.update(other.counts)
        self.concepts.update(other.concepts)
        self.cost.update(other.cost)
        self.dropped += other.dropped
