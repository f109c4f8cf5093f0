"""Two real processes that train a tiny model by DDP and by FSDP2; run once for all tests that look at what they did.

The processes import this file, so it imports little.
"""

import tempfile
from datetime import timedelta
from functools import cache
from types import SimpleNamespace

import torch
from torch import distributed, multiprocessing
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method
from torch.nn.parallel import DistributedDataParallel
from torch.utils._python_dispatch import TorchDispatchMode

from synclr_hf.objectives.distributed import max_over_processes
from synclr_hf.training.configuration_pretraining import SynCLRPreTrainingConfig
from synclr_hf.training.modeling_pretraining import SynCLRForPreTraining
from synclr_hf.training.sharding import all_finite, keep_losses_in_float32

ENCODER = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 32, "patch_size": 8}
CONTRAST = {"name": "multi_positive", "head_hidden_size": 32, "head_output_size": 16}
IBOT = {"name": "ibot", "num_prototypes": 24, "head_hidden_size": 32, "head_bottleneck_size": 16}
OBJECTIVES = {
    "paper": [CONTRAST, IBOT],
    "without a teacher": [{**CONTRAST, "teacher": False, "ids": "images"}],
}
CROPS, LOCAL_CROPS = 16, 2
"""Global crops of both processes together, and local ones of each."""

LEARNING_RATE, DECAY = 0.5, 0.9

KINDS = {
    "allreduce_": "all_reduce",
    "allgather_": "all_gather",
    "_allgather_base_": "all_gather",
    "_reduce_scatter_base_": "reduce_scatter",
}


def build_model(objectives="paper"):
    torch.manual_seed(0)
    settings = [dict(one) for one in OBJECTIVES[objectives]]
    return SynCLRForPreTraining(SynCLRPreTrainingConfig(encoder_config=dict(ENCODER), objectives=settings))


def batch_of(start=0, stop=CROPS):
    """Crops from `start` to `stop`; those of a caption, and of a picture, lie on both processes."""
    generator = torch.Generator().manual_seed(1)
    ids = torch.arange(CROPS)
    batch = {
        "pixel_values": torch.randn(CROPS, 3, 32, 32, generator=generator),
        "caption_ids": ids % 4,
        "image_ids": ids % 8,
        "view_ids": ids,
        "bool_masked_pos": torch.rand(CROPS, 16, generator=generator) < 0.4,
    }
    local = torch.randn(CROPS, LOCAL_CROPS, 3, 16, 16, generator=generator)[start:stop].flatten(0, 1)
    return {**{name: value[start:stop] for name, value in batch.items()}, "local_pixel_values": local}


def trained(model):
    """Take the gradients of a backward pass, then a step; return what came of it, whole."""
    gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.grad is not None:
                parameter -= LEARNING_RATE * parameter.grad
    model.update_teacher(DECAY)
    whole = lambda tensor: tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor  # noqa: E731
    return {name: whole(gradient) for name, gradient in gradients.items()}


class Counter(TorchDispatchMode):
    """Writes down every collective: its kind, and the bytes of the whole tensor."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        if function.namespace == "c10d":
            kind = KINDS[function.overloadpacket.__name__]
            tensors = arguments[1 if kind == "reduce_scatter" else 0]
            while not isinstance(tensors, torch.Tensor) and not isinstance(tensors[0], torch.Tensor):
                tensors = tensors[0]
            tensors = [tensors] if isinstance(tensors, torch.Tensor) else tensors
            self.seen.append((kind, sum(tensor.numel() * tensor.element_size() for tensor in tensors)))
        return function(*arguments, **(options or {}))


def _counted(model, batch):
    with Counter() as counter:
        loss = model(**batch).loss
        loss.backward()
    return loss.detach(), sorted(counter.seen)


def _averaged_in_buckets(_, bucket):
    """What DDP does itself, in Python, where it can be counted."""
    work = distributed.all_reduce(bucket.buffer() / distributed.get_world_size(), async_op=True)
    return work.get_future().then(lambda future: future.value()[0])


def shard(model, **options):
    """Cut a model as accelerate does where it is told to wrap `PackedLayer`."""
    for encoder in (model.synclr, model.student):
        for layer in encoder.layers:
            fully_shard(layer, **options)
    return fully_shard(model, **options)


def policy_of_the_trainer():
    """What accelerate and we make of `bf16: true`."""
    policy = MixedPrecisionPolicy(torch.bfloat16, torch.bfloat16, torch.bfloat16)
    accelerator = SimpleNamespace(state=SimpleNamespace(fsdp_plugin=SimpleNamespace(mixed_precision_policy=policy)))
    keep_losses_in_float32(accelerator)
    return accelerator.state.fsdp_plugin.mixed_precision_policy


def _start(folder, results):
    """Import once, which takes longer than all the rest, and go on as two processes."""
    other = multiprocessing.get_context("fork").Process(target=_run, args=(1, folder, results), daemon=True)
    other.start()
    _run(0, folder, results)
    other.join()
    raise SystemExit(other.exitcode)


def _run(rank, folder, results):
    torch.set_num_threads(1)
    meeting = f"file://{folder}/meeting"
    distributed.init_process_group("gloo", meeting, timedelta(seconds=60), rank=rank, world_size=2)
    half = CROPS // 2
    batch, found = batch_of(rank * half, (rank + 1) * half), {}
    for name in OBJECTIVES:
        model = DistributedDataParallel(build_model(name))
        model.register_comm_hook(None, _averaged_in_buckets)
        found[name, "replicated", "collectives"] = _counted(model, batch)[1]
        model = shard(build_model(name))
        loss, found[name, "sharded", "collectives"] = _counted(model, batch)
        found[name, "sharded", "gradients"] = trained(model)
        distributed.all_reduce(loss)
        found[name, "sharded", "loss"] = loss / 2
        whole = StateDictOptions(full_state_dict=True, cpu_offload=True)
        found[name, "sharded", "state"] = get_model_state_dict(model, options=whole)
    model = shard(build_model())
    register_fsdp_forward_method(model, "window_targets")
    quarter = half // 2
    parts = [batch_of(start, start + quarter) for start in range(rank * half, (rank + 1) * half, quarter)]
    for part, targets in zip(parts, model.window_targets(parts), strict=True):
        (model(**part, targets=targets).loss / len(parts)).backward()
    found["paper", "accumulated", "gradients"] = trained(model)
    finite = [all_finite(model.parameters())]
    spoiled = model.get_parameter("student.embeddings.cls_token").detach().to_local()  # one row: one shard is empty
    assert spoiled.numel() == (0 if rank else 32)
    spoiled.fill_(torch.nan)
    found["paper", "shards", "finite"] = [*finite, all_finite(model.parameters())]
    model = shard(build_model(), mp_policy=policy_of_the_trainer())
    outputs = model(**batch)
    outputs.loss.backward()
    found["paper", "bf16", "types"] = {str(one.dtype) for one in (outputs.loss, *outputs.parts.values())}
    found["paper", "bf16", "loss"] = max_over_processes(outputs.loss) / 2 - max_over_processes(-outputs.loss) / 2
    found["paper", "bf16", "gradients"] = trained(model)
    if rank == 0:
        results.put({key: _as_arrays(value) for key, value in found.items()})
    distributed.destroy_process_group()


def _as_arrays(value):
    """Tensors in a queue would need the process that made them."""
    if isinstance(value, dict):
        return {name: tensor.detach().numpy() for name, tensor in value.items()}
    return value.item() if isinstance(value, torch.Tensor) else value


@cache
def two_shards():
    """Return (objectives, `replicated` or `sharded` or `accumulated`, what) -> what it was."""
    context = multiprocessing.get_context("spawn")
    results = context.SimpleQueue()
    with tempfile.TemporaryDirectory() as folder:
        process = context.Process(target=_start, args=(folder, results))
        process.start()
        while process.is_alive() and results.empty():
            process.join(0.05)
        found = None if results.empty() else results.get()
        process.join()
    assert process.exitcode == 0
    return found
