"""Which CUDA devices a process sees; that the processes share tasks and end well is in test_writing.py."""

import os
from dataclasses import dataclass

import pytest

from synclr_hf.data.workers import _named_devices, do_tasks, share_of_devices, visible_devices


@dataclass
class Look:
    """Tells what the process saw when it started."""

    def load(self):
        self.seen = os.environ.get("CUDA_VISIBLE_DEVICES")

    def do(self, task, report):
        return os.getpid(), self.seen


def seen(devices, workers=2):
    return dict(do_tasks(Look(), range(workers), lambda units: None, workers, devices))


@pytest.mark.parametrize("before", [None, "7,GPU-ab12"])
def test_each_process_sees_its_own_device_only(monkeypatch, before):
    if before is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", before)
    devices = _named_devices(2, os.environ)
    assert sorted(seen(devices).values()) == (["0", "1"] if before is None else ["7", "GPU-ab12"])
    assert os.environ.get("CUDA_VISIBLE_DEVICES") == before


def test_without_devices_nothing_is_hidden(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    assert set(seen(()).values()) == {"3"}
    assert seen(("3",), workers=1) == {os.getpid(): "3"}


def test_devices_are_shared_out_evenly():
    def shares(devices, workers):
        return [",".join(share_of_devices(devices, workers, number)) for number in range(workers)]

    assert shares("01234567", 2) == ["0,1,2,3", "4,5,6,7"]
    assert shares("012", 2) == ["0", "1,2"]
    assert shares("01", 5) == ["0", "1", "0", "1", "0"]
    assert shares("", 2) == ["", ""]


def test_the_names_of_the_devices():
    import torch

    assert _named_devices(3, {}) == ("0", "1", "2")
    assert _named_devices(2, {"CUDA_VISIBLE_DEVICES": "4, MIG-1f"}) == ("4", "MIG-1f")
    assert _named_devices(1, {"CUDA_VISIBLE_DEVICES": "5,-1,6"}) == ("5",)  # CUDA stops at the first that is none
    assert _named_devices(0, {"CUDA_VISIBLE_DEVICES": ""}) == ()
    assert len(visible_devices()) == torch.cuda.device_count()
