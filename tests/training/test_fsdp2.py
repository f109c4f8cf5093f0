"""A step whose student, teacher and heads are cut over two processes gives what one process gives."""

import pytest
import torch
from two_shards import OBJECTIVES, batch_of, build_model, trained, two_shards


@pytest.fixture(scope="module", params=OBJECTIVES)
def both(request):
    """Name of the objectives; loss, gradients and model of one process with all crops."""
    model = build_model(request.param)
    loss = model(**batch_of()).loss
    loss.backward()
    return request.param, loss.item(), trained(model), model.state_dict()


def assert_close(found, expected):
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        found_here = torch.from_numpy(found[name])
        torch.testing.assert_close(found_here, tensor, atol=1e-5, rtol=1e-5, msg=lambda text, n=name: f"{n}: {text}")


def test_loss_and_gradients_equal_those_of_one_process(both):
    name, loss, gradients, _ = both
    assert two_shards()[name, "sharded", "loss"] == pytest.approx(loss, rel=1e-5)
    assert len(gradients) > 20 and max(gradient.abs().max() for gradient in gradients.values()) > 1e-3
    assert_close(two_shards()[name, "sharded", "gradients"], gradients)


def test_the_state_that_is_saved_holds_the_step_and_the_moved_teacher(both):
    name, _, _, state = both
    start = build_model(name).state_dict()
    moved = [key for key in state if key.startswith("synclr.") and not torch.equal(state[key], start[key])]
    assert len(moved) > 10
    assert_close(two_shards()[name, "sharded", "state"], state)


def test_targets_of_a_window_make_parts_add_up(both):
    name, _, gradients, _ = both
    if name == "paper":
        assert_close(two_shards()[name, "accumulated", "gradients"], gradients)
