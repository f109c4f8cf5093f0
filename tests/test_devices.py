"""Compiling is for GPUs and never in the way: what cannot be compiled runs as it is written."""

import logging

import pytest
import torch

from synclr_hf import devices
from synclr_hf.devices import compiled_on_gpu, matrix_dtype


class OnGpu(torch.Tensor):
    """A tensor of the CPU that says that it lies on a GPU: there is none in the tests."""

    is_cuda = True


@pytest.fixture
def gpu(monkeypatch):
    monkeypatch.setattr(devices, "can_compile", lambda: True)
    return torch.arange(3.0).as_subclass(OnGpu)


@compiled_on_gpu
def doubled(values, times=2):
    """Multiply."""
    return values * times


def test_on_a_cpu_nothing_is_compiled(monkeypatch):
    monkeypatch.setattr(torch, "compile", None)
    assert doubled(torch.ones(2), 3).tolist() == [3, 3] and doubled.__wrapped__(torch.ones(1)).item() == 2


def test_on_a_gpu_it_is_compiled_once(gpu, monkeypatch):
    asked = []

    def compiled(function, dynamic):
        asked.append((function, dynamic))
        return lambda *args: ("compiled", function(*args).tolist())

    monkeypatch.setattr(torch, "compile", compiled)
    tripled = compiled_on_gpu(doubled.__wrapped__)
    assert [tripled(gpu, 3), tripled(gpu, 2)] == [("compiled", [0, 3, 6]), ("compiled", [0, 2, 4])]
    compiled_on_gpu(dynamic=False)(doubled.__wrapped__)(gpu)
    assert asked == [(doubled.__wrapped__, None), (doubled.__wrapped__, False)]


def test_what_does_not_compile_says_so_once_and_runs_as_it_is_written(gpu, monkeypatch, caplog):
    def refused(*_):
        raise RuntimeError("no kernel\nfor this GPU")

    monkeypatch.setattr(torch, "compile", lambda *_, **__: refused)
    tripled = compiled_on_gpu(doubled.__wrapped__)
    with caplog.at_level(logging.WARNING):
        assert [tripled(gpu, 3).tolist(), tripled(gpu, 1).tolist()] == [[0, 3, 6], [0, 1, 2]]
    assert [record.getMessage() for record in caplog.records] == ["doubled runs uncompiled: no kernel"]


def test_memory_that_is_full_is_no_reason_to_run_uncompiled(gpu, monkeypatch):
    def full(*_):
        raise torch.OutOfMemoryError("full")

    monkeypatch.setattr(torch, "compile", lambda *_, **__: full)
    with pytest.raises(torch.OutOfMemoryError):
        compiled_on_gpu(doubled.__wrapped__)(gpu)


def test_products_run_in_the_type_of_autocast():
    values = torch.ones(2)
    assert matrix_dtype(values) == torch.float32 and matrix_dtype(values.half()) == torch.float16
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert matrix_dtype(values) == torch.bfloat16


def test_a_gpu_without_triton_is_told_once(monkeypatch, caplog):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr("torch.utils._triton.has_triton", lambda: False)
    devices.can_compile.cache_clear()
    with caplog.at_level(logging.WARNING):
        assert [devices.can_compile(), devices.can_compile()] == [False, False]
    devices.can_compile.cache_clear()
    assert [record.getMessage().partition(":")[0] for record in caplog.records] == [
        "Triton is missing or does not know this GPU"
    ]
