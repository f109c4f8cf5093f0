"""A step whose student, teacher and heads are cut over two processes gives what one process gives."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml
from accelerate.utils import FullyShardedDataParallelPlugin
from accelerate.utils.fsdp_utils import fsdp2_prepare_auto_wrap_policy
from two_shards import OBJECTIVES, batch_of, build_model, trained, two_shards

import synclr_hf.training
from synclr_hf.training import SynCLRTrainingArguments
from synclr_hf.training.sharding import all_finite, keep_losses_in_float32


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


def test_a_spoiled_shard_is_seen_by_the_process_that_holds_nothing_of_it():
    assert two_shards()["paper", "shards", "finite"] == [True, False]


def test_weights_that_are_not_cut_are_looked_at_alone():
    weights = [torch.ones(2), torch.ones(3, 2)]
    assert all_finite(weights)
    weights[1][2, 0] = -torch.inf
    assert not all_finite(weights)


def test_in_bfloat16_losses_and_gradients_are_float32(both):
    name, loss, gradients, _ = both
    if name == "paper":
        found = two_shards()
        assert found[name, "bf16", "types"] == {"torch.float32"}
        assert found[name, "bf16", "loss"] == pytest.approx(loss, rel=0.01)
        for key, gradient in found[name, "bf16", "gradients"].items():
            assert gradient.dtype == "float32"
            error = torch.from_numpy(gradient) - gradients[key]
            assert error.norm() < 0.1 * gradients[key].norm() + 1e-3, key


def test_the_documented_settings_cut_every_block_of_both_encoders(tmp_path):
    """The lines of the room's page through the Trainer's arguments and accelerate, up to what a GPU is needed for."""
    text = (Path(synclr_hf.training.__file__).parent / "README.md").read_text()
    lines = text.partition("```yaml\n")[2].partition("```")[0]
    entries = yaml.safe_load(lines)["pretraining"]["training_arguments"]
    assert entries.pop("bf16") is True
    arguments = SynCLRTrainingArguments(str(tmp_path), use_cpu=True, report_to="none", **entries)
    plugin = FullyShardedDataParallelPlugin(**arguments.fsdp_plugin_args)
    plugin.set_mixed_precision("bf16")
    keep_losses_in_float32(SimpleNamespace(state=SimpleNamespace(fsdp_plugin=plugin)))
    policy = plugin.mixed_precision_policy
    assert (policy.param_dtype, policy.reduce_dtype, policy.output_dtype) == (torch.bfloat16, torch.float32, None)
    model = build_model()
    plugin.set_auto_wrap_policy(model)
    cut = fsdp2_prepare_auto_wrap_policy(plugin, model)
    found = [name for name, module in model.named_modules() if cut(module)]
    assert found == [f"{encoder}.layers.{place}" for encoder in ("synclr", "student") for place in range(2)]
