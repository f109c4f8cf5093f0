"""The prototype loss in pieces against the plain one, which holds every matrix whole."""

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from synclr_hf.objectives import prototype_loss
from synclr_hf.objectives.ibot import masked_patch_loss, sinkhorn_knopp
from synclr_hf.objectives.prototype_loss import balanced_assignments, prototype_cross_entropy

PATCHES, PROTOTYPES, WIDTH = 37, 50, 8


def unit(rows, seed, length=1.0):
    values = torch.randn(rows, WIDTH, generator=torch.Generator().manual_seed(seed))
    return nn.functional.normalize(values, dim=-1) * length


@pytest.fixture(params=[2**24, 200, 1], ids=["one piece", "pieces of rows", "single rows"])
def pieces(request, monkeypatch):
    monkeypatch.setitem(prototype_loss.PIECE_ELEMENTS, "cpu", request.param)


@pytest.mark.usefixtures("pieces")
@pytest.mark.parametrize("iterations", [1, 2, 3, 7])
@pytest.mark.parametrize("temperature", [0.04, 0.07])
def test_assignments_equal_sinkhorn_on_the_whole_matrix(temperature, iterations):
    embeddings, prototypes = unit(PATCHES, 0), unit(PROTOTYPES, 1)
    settings = {"temperature": temperature, "iterations": iterations}
    expected = sinkhorn_knopp(embeddings @ prototypes.T, **settings)
    found = balanced_assignments(embeddings, prototypes, **settings)
    assert found.dtype == torch.float32 and expected.max() > 0.1
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("length", [1e-3, 30.0, 1e4])
def test_assignments_with_huge_logits_and_a_dead_prototype_equal_sinkhorn(length):
    embeddings, prototypes = unit(PATCHES, 0), unit(PROTOTYPES, 1, length)
    prototypes[3] = -length * embeddings.mean(0) / embeddings.mean(0).norm()
    expected = sinkhorn_knopp((embeddings.double() @ prototypes.double().T).float(), temperature=0.04)
    found = balanced_assignments(embeddings, prototypes, temperature=0.04)
    assert found.isfinite().all()
    torch.testing.assert_close(found.sum(1), torch.ones(PATCHES))
    # float32 knows a logit of 1e4 / 0.04 to 0.02, so that both forms are that far from the truth
    torch.testing.assert_close(found, expected, atol=1e-5 if length < 1e3 else 0.05, rtol=1e-3)


def test_no_patch_at_all_gives_no_assignment_and_no_loss():
    nothing = torch.zeros(0, WIDTH, requires_grad=True)
    found = balanced_assignments(nothing.detach(), unit(PROTOTYPES, 1), temperature=0.04)
    assert found.shape == (0, PROTOTYPES)
    loss = prototype_cross_entropy(nothing, unit(PROTOTYPES, 1), found, torch.zeros(0))
    loss.backward()
    assert loss.item() == 0 and nothing.grad.shape == (0, WIDTH)


def losses_and_gradients(loss_of):
    """Return the loss times 3 with the gradients of embeddings and prototypes."""
    embeddings, prototypes = unit(PATCHES, 2).requires_grad_(), unit(PROTOTYPES, 3, 1.3).requires_grad_()
    generator = torch.Generator().manual_seed(4)
    assignments = (torch.randn(PATCHES, PROTOTYPES, generator=generator) * 3).softmax(-1)
    loss = 3 * loss_of(embeddings, prototypes, assignments, torch.rand(PATCHES, generator=generator))
    loss.backward()
    return loss.detach(), embeddings.grad, prototypes.grad


def plain(embeddings, prototypes, assignments, weights):
    return masked_patch_loss(embeddings @ prototypes.T, assignments, weights, 1)


@pytest.mark.usefixtures("pieces")
def test_loss_and_gradients_equal_those_of_the_whole_matrix():
    for found, expected in zip(
        losses_and_gradients(prototype_cross_entropy), losses_and_gradients(plain), strict=True
    ):
        assert expected.abs().max() > 0.01
        torch.testing.assert_close(found, expected, atol=1e-5 * expected.abs().max().item(), rtol=1e-5)


def test_compiled_terms_are_those_of_the_cpu():
    """The expression that a GPU compiles, as it is written, beside what a CPU does in place."""
    scores, assignments = torch.randn(6, 9) * 5, torch.rand(6, 9).softmax(-1)
    losses, gradient = prototype_loss._terms(scores, assignments)
    in_place, gradient_in_place = prototype_loss._terms_in_place(scores.clone(), assignments)
    torch.testing.assert_close(losses, in_place)
    torch.testing.assert_close(gradient, gradient_in_place)


def test_only_the_gradients_that_are_needed_are_there():
    embeddings, prototypes = unit(PATCHES, 2), unit(PROTOTYPES, 3).requires_grad_()
    assignments = torch.full((PATCHES, PROTOTYPES), 1 / PROTOTYPES)
    with torch.no_grad():
        assert not prototype_cross_entropy(embeddings, prototypes, assignments, torch.ones(PATCHES)).requires_grad
    prototype_cross_entropy(embeddings, prototypes, assignments, torch.ones(PATCHES)).backward()
    assert embeddings.grad is None and prototypes.grad.abs().max() > 0


def test_under_autocast_it_stays_as_near_to_float32_as_the_plain_form():
    exact = losses_and_gradients(plain)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = losses_and_gradients(plain)
        found = losses_and_gradients(prototype_cross_entropy)
        assignments = balanced_assignments(unit(PATCHES, 0), unit(PROTOTYPES, 1), temperature=0.04)
    for true, by_plain, by_pieces in zip(exact, rough, found, strict=True):
        assert by_pieces.dtype == torch.float32
        error, error_of_plain = (by_pieces - true).abs().max(), (by_plain.float() - true).abs().max()
        assert 0 < error <= 2 * error_of_plain + 1e-3 * true.abs().max()
    expected = sinkhorn_knopp(unit(PATCHES, 0) @ unit(PROTOTYPES, 1).T, temperature=0.04)
    assert assignments.dtype == torch.bfloat16
    torch.testing.assert_close(assignments.float(), expected, atol=0.03, rtol=0.2)
    torch.testing.assert_close(assignments.float().sum(1), torch.ones(PATCHES), atol=0.01, rtol=0)


def test_float16_which_cannot_hold_small_assignments_is_not_stored():
    with torch.autocast("cpu", dtype=torch.float16):
        found = balanced_assignments(unit(PATCHES, 0), unit(PROTOTYPES, 1), temperature=0.04)
        loss = prototype_cross_entropy(unit(PATCHES, 2), unit(PROTOTYPES, 3), found, torch.ones(PATCHES))
    assert found.dtype == loss.dtype == torch.float32


class Largest(TorchDispatchMode):
    """Counts the results of operations that are as large as the whole matrix, views not."""

    def __init__(self, elements):
        super().__init__()
        self.elements, self.seen = elements, set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for tensor in [result] if isinstance(result, torch.Tensor) else []:
            if tensor.untyped_storage().size() >= 4 * self.elements:
                self.seen.add(tensor.untyped_storage().data_ptr())
        return result


def test_one_full_matrix_is_stored_and_no_other(monkeypatch):
    monkeypatch.setitem(prototype_loss.PIECE_ELEMENTS, "cpu", 200)
    embeddings, prototypes = unit(PATCHES, 2).requires_grad_(), unit(PROTOTYPES, 3).requires_grad_()
    with Largest(PATCHES * PROTOTYPES) as seen:
        assignments = balanced_assignments(embeddings.detach(), prototypes.detach(), temperature=0.05)
        prototype_cross_entropy(embeddings, prototypes, assignments, torch.ones(PATCHES)).backward()
    assert seen.seen == {assignments.untyped_storage().data_ptr()}
    with Largest(PATCHES * PROTOTYPES) as seen_by_plain:
        assignments = sinkhorn_knopp(embeddings.detach() @ prototypes.detach().T, temperature=0.05)
        plain(embeddings, prototypes, assignments, torch.ones(PATCHES)).backward()
    assert len(seen_by_plain.seen) > 2
