"""What processes send each other in an optimizer step, and how long a step takes for it on a cluster on paper.

    part         what                                             collective       hidden behind
    gradients    of what is trained, all together                 all-reduce       the backward pass (DDP: by buckets)
                                                                  reduce-scatter   the backward pass (FSDP2: by layers)
    parameters   of the layer that comes next, FSDP2 only         all-gather       the layer before
    keys         projections of the teacher (or the student)      all-gather       nothing
    ids          of captions and views                            all-gather       nothing
    prototypes   column sums of Sinkhorn-Knopp, and a maximum     all-reduce       nothing
    scalars      how many pictures are masked                     all-reduce       nothing

Counted is one batch a process and step, in the `fast` implementation. With gradient accumulation DDP sends the same,
FSDP2 gathers its parameters for each batch again. No torch here: a plan is made where there is none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from math import ceil, log2, prod
from typing import Any

FLOAT32, INT64 = 4, 8
"""Bytes of a number."""

BUCKET_BYTES = 25 * 2**20
"""DDP reduces gradients in buckets of this size as they become ready (its default `bucket_cap_mb`)."""

BACKWARD_SHARE = 0.55
"""Of a step's computing: `step_flops` of the paper's models, where the teacher has a forward pass only."""


@dataclass(frozen=True)
class Collective:
    """One exchange between all processes.

    Attributes:
        part: what for, see the table above.
        kind: `all_reduce`, `all_gather` or `reduce_scatter`.
        size: bytes of the whole tensor: what is reduced, or gathered from all processes together.
    """

    part: str
    kind: str
    size: float

    def sent(self, processes: int) -> float:
        """Return the bytes that each process sends, and receives, in a ring."""
        passes = 2 if self.kind == "all_reduce" else 1
        return passes * (processes - 1) / processes * self.size


@dataclass(frozen=True)
class Exchange:
    """The collectives of an optimizer step, in order.

    Attributes:
        exposed: computing waits for them.
        forward: what each piece of the forward pass needs before it starts; `None`: nothing.
        backward: what each piece of the backward pass needs before it starts, and what follows from it.
    """

    exposed: tuple[Collective, ...]
    forward: tuple[Collective | None, ...]
    backward: tuple[tuple[Collective | None, Collective | None], ...]

    @property
    def collectives(self) -> list[Collective]:
        """All of them."""
        found = (*self.exposed, *self.forward, *chain.from_iterable(self.backward))
        return [collective for collective in found if collective is not None]

    def sent_bytes(self, processes: int) -> dict[str, float]:
        """Return the bytes that a process sends in a step, by part, and `total`."""
        parts: dict[str, float] = {}
        for collective in self.collectives:
            parts[collective.part] = parts.get(collective.part, 0.0) + collective.sent(processes)
        return {**parts, "total": sum(parts.values())}


def objective_collectives(
    objectives: Sequence[Mapping[str, Any]], *, crops: int, processes: int, iterations: int = 3
) -> tuple[Collective, ...]:
    """Return what the objectives exchange: `objectives/multi_positive.py`, `objectives/prototype_loss.py`.

    Args:
        objectives: entries of `config.objectives`.
        crops: global crops of a process.
        processes: their number.
        iterations: of Sinkhorn-Knopp.
    """
    found = []
    for settings in objectives:
        if settings.get("name") == "multi_positive":
            keys = crops * processes * settings.get("head_output_size", 256) * FLOAT32
            found += [Collective("ids", "all_gather", crops * processes * INT64)] * 2
            found.append(Collective("keys", "all_gather", keys))
            if not settings.get("teacher", True):  # the candidates are learned too: their gradients come back
                found.append(Collective("keys", "all_reduce", keys))
        elif settings.get("name") == "ibot":
            sums = settings.get("num_prototypes", 65536) * FLOAT32
            found += [Collective("prototypes", "all_reduce", sums)] * (iterations + 1)
            found.append(Collective("scalars", "all_reduce", INT64))
    return tuple(found)


def replicated(trained: int, exposed: Sequence[Collective]) -> Exchange:
    """Return the exchange of DDP: every process holds everything, gradients are averaged in buckets.

    Args:
        trained: parameters with a gradient, in float32.
        exposed: of the objectives.
    """
    size = trained * FLOAT32
    buckets = max(ceil(size / BUCKET_BYTES), 1)
    return Exchange(
        tuple(exposed), (None,), ((None, Collective("gradients", "all_reduce", size / buckets)),) * buckets
    )


Shapes = tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class ModelSize:
    """The parameters of a `SynCLRForPreTraining` as FSDP2 groups them.

    Attributes:
        num_layers: blocks of an encoder.
        layer: shapes of the parameters of a block.
        trained_rest: shapes of all other parameters of the student and its heads.
        frozen_rest: the same of the teacher.
    """

    num_layers: int
    layer: Shapes
    trained_rest: Shapes
    frozen_rest: Shapes

    @classmethod
    def of(cls, model: Any) -> ModelSize:
        """Measure a model; it may be on the meta device."""
        layers = [*model.student.layers, *model.synclr.layers]
        inside = {id(parameter) for layer in layers for parameter in layer.parameters()}
        rest = [parameter for parameter in model.parameters() if id(parameter) not in inside]
        return cls(
            len(model.student.layers),
            tuple(tuple(parameter.shape) for parameter in layers[0].parameters()),
            tuple(tuple(parameter.shape) for parameter in rest if parameter.requires_grad),
            tuple(tuple(parameter.shape) for parameter in rest if not parameter.requires_grad),
        )

    @property
    def trained(self) -> int:
        """Parameters of the student and its heads."""
        return self.num_layers * _numbers(self.layer) + _numbers(self.trained_rest)

    @property
    def frozen(self) -> int:
        """Parameters of the teacher and its heads."""
        return self.num_layers * _numbers(self.layer) + _numbers(self.frozen_rest)


def _numbers(shapes: Shapes, processes: int = 1) -> int:
    """Count parameters; FSDP2 cuts the first dimension and fills up what cannot be cut evenly.

    A tensor `(1, ...)`, as positions and tokens are, takes a whole place on every process.
    """
    return sum(ceil(shape[0] / processes) * processes * prod(shape[1:]) for shape in shapes)


def sharded(
    size: ModelSize,
    exposed: Sequence[Collective],
    processes: int,
    *,
    teacher: bool = True,
    parameter_bytes: int = 2,
    gradient_bytes: int = FLOAT32,
) -> Exchange:
    """Return the exchange of FSDP2 (full shard), where each block is a group and the rest is the root's.

    The parameters of a block are gathered before its forward pass, dropped after it, and those of the student gathered
    again before its backward pass; the root's are gathered once. FSDP2 fetches in the backward pass what ran before:
    in front of the student's first block that is the teacher's last, which nobody needs.

    Args:
        size: of the model.
        exposed: of the objectives.
        processes: among which everything is cut.
        teacher: whether an objective requires one.
        parameter_bytes: of a parameter on its way: 2 in bfloat16 (`bf16: true`), else 4.
        gradient_bytes: of a gradient on its way.
    """

    def gather(shapes: Shapes) -> Collective:
        return Collective("parameters", "all_gather", _numbers(shapes, processes) * parameter_bytes)

    def scatter(shapes: Shapes) -> Collective:
        return Collective("gradients", "reduce_scatter", _numbers(shapes, processes) * gradient_bytes)

    layer, layers = gather(size.layer), size.num_layers
    return Exchange(
        tuple(exposed),
        (gather(size.trained_rest + size.frozen_rest), *[layer] * layers * (1 + teacher)),
        (
            *[(layer, scatter(size.layer))] * layers,
            (layer if teacher else None, scatter(size.trained_rest)),
        ),
    )


def state_bytes(trained: int, frozen: int, shards: int = 1) -> dict[str, float]:
    """Return the bytes a process holds from step to step, in float32, cut into `shards` equal parts.

    Without cutting, DDP holds gradients twice: its buckets are copies. What FSDP2 has gathered at a moment (two
    blocks and the root) and activations come on top.
    """
    parts = {
        "student": trained * FLOAT32,
        "gradients": trained * FLOAT32 * (2 if shards == 1 else 1),
        "AdamW": 2 * trained * FLOAT32,
        "teacher": frozen * FLOAT32,
    }
    return {**{name: part / shards for name, part in parts.items()}, "total": sum(parts.values()) / shards}


@dataclass(frozen=True)
class Cluster:
    """Machines of GPUs on paper: every process has a GPU and a network card of its own, nobody disturbs anybody.

    Attributes:
        node_bandwidth: bytes a second that a GPU sends to others of its machine while it receives as many; 400 GB/s is
            what all-reduces reach over NVLink 4 (450 GB/s each way).
        network_bandwidth: the same to other machines; 50 GB/s is a 400 Gbit/s card for each GPU.
        node_size: GPUs of a machine.
        node_latency: seconds of a hop within a machine.
        network_latency: seconds of a hop between machines.
    """

    node_bandwidth: float = 400e9
    network_bandwidth: float = 50e9
    node_size: int = 8
    node_latency: float = 5e-6
    network_latency: float = 15e-6

    def seconds(self, collective: Collective | None, processes: int) -> float:
        """Return the seconds of a collective: within each machine, and the parts of each GPU between machines."""
        if collective is None or processes == 1:
            return 0.0
        near = min(processes, self.node_size)
        far = ceil(processes / self.node_size)
        within = collective.size * (near - 1) / near / self.node_bandwidth + ceil(log2(near)) * self.node_latency
        between = collective.size / near * (far - 1) / far / self.network_bandwidth
        between += ceil(log2(far)) * self.network_latency
        return (2 if collective.kind == "all_reduce" else 1) * (within + between)

    def step_seconds(self, exchange: Exchange, processes: int, compute_seconds: float) -> float:
        """Return the seconds of an optimizer step.

        Computing and one collective at a time run side by side: what a piece of computing needs is fetched during the
        piece before it, and what follows from a piece of the backward pass is sent during the next ones. So all but
        the last bucket of the gradients can be hidden. What slows computing down meanwhile is not known here.

        Args:
            exchange: what is sent.
            processes: their number.
            compute_seconds: of one process by itself.
        """
        forward = [(self.seconds(needed, processes), 0.0) for needed in exchange.forward]
        backward = [tuple(self.seconds(one, processes) for one in pair) for pair in exchange.backward]
        seconds = (
            sum(self.seconds(collective, processes) for collective in exchange.exposed)
            + _pipeline_seconds((1 - BACKWARD_SHARE) * compute_seconds, forward)
            + _pipeline_seconds(BACKWARD_SHARE * compute_seconds, backward)
        )
        return max(seconds, compute_seconds)  # rounding must not make many faster than one


def _pipeline_seconds(compute_seconds: float, pieces: Sequence[Sequence[float]]) -> float:
    """Return how long equal pieces of computing take, each with (seconds fetched before, seconds sent after)."""
    end = link_free = 0.0
    fetched = link_free = pieces[0][0]
    for place, (_, sent) in enumerate(pieces):
        start = max(end, fetched)
        end = start + compute_seconds / len(pieces)
        if place + 1 < len(pieces):
            fetched = link_free = max(link_free, start) + pieces[place + 1][0]
        if sent:
            link_free = max(link_free, end) + sent
    return max(end, link_free)
