"""Tensors that say they lie on an accelerator, on a machine without one: every wait for the device is noted.

They hold their numbers on the CPU, so what is computed is right. `Waits` notes what makes the host wait on a real one:
a number that is read (`.item()`, a branch on a tensor, an index), and a copy between host and device. The device is
called `meta`, the one accelerator that every build of torch knows by name.
"""

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

DEVICE = torch.device("meta")
_READS = ("_local_scalar_dense", "nonzero", "is_nonzero", "item", "equal")


class OnDevice(torch.Tensor):
    """A tensor that says that it lies on the device."""

    @staticmethod
    def __new__(cls, held):
        return torch.Tensor._make_wrapper_subclass(
            cls, held.shape, strides=held.stride(), dtype=held.dtype, device=DEVICE, requires_grad=False
        )

    def __init__(self, held):
        self.held = held

    @classmethod
    def __torch_dispatch__(cls, function, types, args=(), kwargs=None):
        return computed(function, args, dict(kwargs or {}), seen=[])

    def __repr__(self):
        return f"OnDevice({self.shape})"


class Waits(TorchDispatchMode):
    """Keeps the names of the operations that a host would wait for, in `seen`."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        return computed(function, args, dict(kwargs or {}), self.seen)


def computed(function, args, kwargs, seen):
    """Compute an operation on what the tensors hold, and append its name to `seen` if the host would wait for it."""
    name = function.__name__.partition(".")[0]
    inputs = []
    tree_map_only(torch.Tensor, inputs.append, (args, kwargs))
    there = [isinstance(one, OnDevice) for one in inputs]
    target = kwargs.get("device")
    to_device = any(there) if target is None else torch.device(target).type == DEVICE.type
    if name in ("_to_copy", "copy_"):
        if (name == "_to_copy" and there[0] != to_device) or len(set(there)) == 2:
            seen.append(f"copy {'from' if there[0] and name == '_to_copy' else 'to'} the device")
    elif any(there) and name in _READS:
        seen.append(name)
    elif name == "index" and any(there[1:]) and not there[0]:
        seen.append("a table on the host, indexed by the device")
        to_device = False
    else:
        strangers = [one for one, on in zip(inputs, there, strict=True) if not on and one.dim() > 0]
        assert not any(there) or not strangers, f"{function} got tensors on two devices"
    if target is not None:
        kwargs["device"] = torch.device("cpu")
    args, kwargs = tree_map_only(OnDevice, lambda one: one.held, (args, kwargs))
    result = function(*args, **kwargs)
    if name in _READS or not to_device:
        return result
    if function._schema.is_mutable and any(there):
        return inputs[0]
    return tree_map_only(torch.Tensor, OnDevice, result)


def moved(module):
    """Put the parameters and buffers of a module onto the device."""
    for part in module.modules():
        for name, held in list(part._parameters.items()):
            if held is not None:
                part._parameters[name] = torch.nn.Parameter(OnDevice(held.data), requires_grad=False)
        for name, held in list(part._buffers.items()):
            if held is not None:
                part._buffers[name] = OnDevice(held)
    return module
