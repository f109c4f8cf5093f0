"""One packed pass against a pass for each size of crops."""

import copy

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from synclr_hf.models import SynCLRConfig, SynCLRModel
from synclr_hf.models import packed as packed_module
from synclr_hf.models.packed import (
    LayerWork,
    PackedLayer,
    cumulative_lengths,
    encode_packed,
    kept_pictures,
    scaled_pictures,
    use_packed_layers,
    varlen_attention_fault,
    varlen_attention_works,
)

SIZES = {"hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 2, "image_size": 32, "patch_size": 8}


def encoder_of(**settings):
    torch.manual_seed(0)
    model = SynCLRModel(SynCLRConfig(**{**SIZES, **settings}))
    for parameter in model.parameters():  # biases and norms too
        nn.init.normal_(parameter, std=0.2)
    use_packed_layers(model)
    return model


@pytest.fixture
def crops():
    generator = torch.Generator().manual_seed(1)
    pixels = torch.randn(4, 3, 32, 32, generator=generator)
    masks = torch.rand(4, 16, generator=generator) < 0.4
    masks[2] = False
    return [(pixels, masks), (torch.randn(6, 3, 16, 16, generator=generator), None)]


def positions(crops):
    return crops[0][1].flatten().nonzero().squeeze(1)


def plain(encoder, crops):
    """Return the cls features of each stream and the masked patches of the first."""
    tokens = [encoder(pixels, bool_masked_pos=masks).last_hidden_state for pixels, masks in crops]
    return [*(one[:, 0] for one in tokens), tokens[0][:, 1:][crops[0][1]]]


def packed(encoder, crops):
    cls, masked = encode_packed(encoder, crops, positions(crops))
    return [*cls, masked]


def gradients(encoder, features):
    encoder.zero_grad()
    generator = torch.Generator().manual_seed(2)
    sum((one * torch.randn(one.shape, generator=generator)).sum() for one in features).backward()
    return {name: parameter.grad.clone() for name, parameter in encoder.named_parameters()}


def assert_equal_features_and_gradients(encoder, crops, other=None):
    expected, found = plain(other or encoder, crops), packed(encoder, crops)
    for one, two in zip(found, expected, strict=True):
        assert two.abs().max() > 0.1
        torch.testing.assert_close(one, two, atol=1e-5, rtol=1e-5)
    by_plain, by_packed = gradients(other or encoder, expected), gradients(encoder, found)
    for name, gradient in by_plain.items():
        largest = gradient.abs().max().item()
        torch.testing.assert_close(by_packed[name], gradient, atol=1e-5 * max(largest, 1), rtol=1e-4, msg=name)


@pytest.mark.parametrize("settings", [{}, {"qkv_bias": False}, {"hidden_act": "gelu_new"}, {"num_hidden_layers": 1}])
def test_features_and_gradients_equal_those_of_separate_passes(crops, settings):
    assert_equal_features_and_gradients(encoder_of(**settings), crops)


def test_one_stream_alone_and_no_masked_patch(crops):
    encoder = encoder_of()
    (cls,), masked = encode_packed(encoder, crops[1:])
    assert masked is None
    torch.testing.assert_close(cls, encoder(crops[1][0]).last_hidden_state[:, 0], atol=1e-5, rtol=1e-5)
    (cls,), masked = encode_packed(encoder, crops[:1], torch.zeros(0, dtype=torch.long))
    assert masked.shape == (0, 24)


def test_with_checkpointed_activations(crops):
    encoder = encoder_of().train()
    other = copy.deepcopy(encoder)
    names = ("activation_checkpointing_enable", "gradient_checkpointing_enable")  # the new name of transformers 5.2x
    enable = next(getattr(encoder, name) for name in names if hasattr(encoder, name))
    enable({"use_reentrant": False})
    assert all(layer.gradient_checkpointing for layer in encoder.layers)
    assert_equal_features_and_gradients(encoder, crops, other)


@pytest.mark.parametrize("frozen", ["weight", "bias", "norm"])
def test_with_frozen_parameters(crops, frozen):
    encoder = encoder_of()
    for name, parameter in encoder.named_parameters():
        parameter.requires_grad_(frozen not in name)
    found = packed(encoder, crops)
    sum(one.sum() for one in found).backward()
    for name, parameter in encoder.named_parameters():
        assert (parameter.grad is None) == (frozen in name), name


def test_layers_keep_names_parameters_and_hooks(crops):
    encoder = encoder_of()
    fresh = SynCLRModel(SynCLRConfig(**SIZES))
    assert encoder.state_dict().keys() == fresh.state_dict().keys()
    seen = []
    for layer in encoder.layers:
        layer.register_forward_hook(lambda *_: seen.append(1))
        layer.mlp.fc2.register_forward_hook(lambda *_: seen.append(2))
    packed(encoder, crops)
    assert seen == [2, 1] * 3


def test_autocast_is_as_near_to_float32_as_separate_passes(crops):
    encoder = encoder_of()
    with torch.no_grad():
        exact = plain(encoder, crops)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            rough, found = plain(encoder, crops), packed(encoder, crops)
    for true, one, two in zip(exact, rough, found, strict=True):
        assert two.dtype == one.dtype
        assert 0 < (two - true).abs().max() <= 1.5 * (one - true).abs().max()


def flops_of(function):
    with FlopCounterMode(display=False) as counter:
        function()
    return counter.get_total_flops()


def test_the_last_block_does_not_compute_what_nobody_looks_at(crops):
    encoder = encoder_of().eval()
    whole, less = flops_of(lambda: plain(encoder, crops)), flops_of(lambda: packed(encoder, crops))
    tokens, wanted = 4 * 17 + 6 * 5, 4 + 6 + len(positions(crops))
    width = 24
    assert whole - less == 2 * (tokens - wanted) * 9 * width**2  # output projection and MLP


# Stochastic depth


STREAMS = ((6, 5), (12, 3))


def draws_of(seed):
    generator = torch.Generator().manual_seed(seed)
    return [torch.rand(pictures, generator=generator) for pictures, _ in STREAMS]


def factors_of_pictures(branch):
    """Return what each token's branch output is multiplied by, 0 where it does not run: `(N,)`."""
    number = sum(pictures * length for pictures, length in STREAMS)
    if branch.rows is None:
        return branch.factors[:, 0]
    return torch.zeros(number).index_add(0, branch.rows, branch.factors[:, 0])


@pytest.mark.parametrize("choose", [kept_pictures, scaled_pictures])
@pytest.mark.parametrize("rate", [0.1, 0.4])
def test_whole_pictures_are_dropped_and_the_expectation_is_one(choose, rate):
    total = 0
    for seed in range(2000):
        factors = factors_of_pictures(choose(STREAMS, rate, draws_of(seed)))
        start = 0
        for pictures, length in STREAMS:
            of_pictures = factors[start : start + pictures * length].view(pictures, length)
            assert (of_pictures == of_pictures[:, :1]).all()
            if choose is kept_pictures:
                assert (of_pictures[:, 0] > 0).sum() == round(pictures * (1 - rate))
            start += pictures * length
        total = total + factors
    # standard error of a mean of 2,000 draws: at most sqrt(0.4 / 0.6 / 2000) = 0.018
    torch.testing.assert_close(total / 2000, torch.ones_like(total), atol=0.08, rtol=0)


def test_at_least_one_picture_is_kept():
    assert kept_pictures(((2, 3),), 0.9, [torch.tensor([0.7, 0.2])]).rows.tolist() == [3, 4, 5]


def test_a_block_on_kept_pictures_equals_dropping_what_was_computed():
    layer = encoder_of().layers[1]
    assert type(layer) is PackedLayer
    tokens = torch.randn(6 * 5 + 12 * 3, 24, generator=torch.Generator().manual_seed(3)).requires_grad_()
    branches = [kept_pictures(STREAMS, 0.4, draws_of(seed)) for seed in (0, 1)]
    found = layer(tokens, work=LayerWork(*branches))
    parts, start = [], 0
    for pictures, length in STREAMS:
        own = slice(start, start + pictures * length)
        hidden = tokens[own].view(pictures, length, 24)
        first, second = (factors_of_pictures(b)[own].view(pictures, length, 1) for b in branches)
        hidden = hidden + first * layer.attention(layer.norm1(hidden))[0]
        parts.append((hidden + second * layer.mlp(layer.norm2(hidden))).flatten(0, 1))
        start = own.stop
    expected = torch.cat(parts)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    (by_found,) = torch.autograd.grad(found.square().sum(), tokens)
    (by_expected,) = torch.autograd.grad(expected.square().sum(), tokens)
    torch.testing.assert_close(by_found, by_expected, atol=1e-4, rtol=1e-4)


def test_stochastic_depth_saves_the_work_of_what_it_drops(crops):
    encoder = encoder_of(num_hidden_layers=8, drop_path_rate=0.5)
    pixels = [(crops[0][0].repeat(4, 1, 1, 1), None), (crops[1][0].repeat(4, 1, 1, 1), None)]
    whole = flops_of(lambda: encode_packed(encoder.eval(), pixels))
    less = flops_of(lambda: encode_packed(encoder.train(), pixels))
    rates = [0.5 * i / 7 for i in range(7)]  # not the last block, which runs on few tokens anyway
    assert less / whole == pytest.approx(1 - sum(rates) / 7, abs=0.05)


def test_dropping_in_the_last_block_and_at_small_rates_on_a_gpu(crops, monkeypatch):
    """With factors only: the same draws give what plain stochastic depth gives."""
    monkeypatch.setitem(packed_module.SMALLEST_SUBSET_RATE, "cpu", 1.0)
    encoder = encoder_of(drop_path_rate=0.5).train()
    draws = {}

    def drawn(*shape, device=None):
        found = torch.randn(1).new_empty(shape).uniform_(generator=torch.Generator().manual_seed(shape[1]))
        draws[shape[1]] = found
        return found

    monkeypatch.setattr(torch, "rand", drawn)
    found = packed(encoder, crops)
    used = iter(())

    def replayed(*shape, device=None):
        return next(used).view(shape)

    expected = []
    monkeypatch.setattr(torch, "rand", replayed)
    for pixels, masks in crops:
        used = iter(draws[len(pixels)][2:])  # the first block drops nothing and draws nothing
        expected.append(encoder(pixels, bool_masked_pos=masks).last_hidden_state)
    expected = [*(one[:, 0] for one in expected), expected[0][:, 1:][crops[0][1]]]
    for one, two in zip(found, expected, strict=True):
        torch.testing.assert_close(one, two, atol=1e-5, rtol=1e-5)


# What only a GPU has


def test_the_kernel_is_not_used_where_it_is_not():
    assert not varlen_attention_works(torch.device("cpu"), torch.bfloat16, 64)


def by_sequence(query, key, value, lengths, longest):
    """A loop over sequences stands in for the kernel, which no CPU has."""
    assert lengths.dtype == torch.int32 and lengths.diff().max() == longest
    parts = [
        nn.functional.scaled_dot_product_attention(*(p[a:b].transpose(0, 1) for p in (query, key, value)))
        for a, b in zip(lengths[:-1], lengths[1:], strict=True)
    ]
    return torch.cat(parts, dim=1).transpose(0, 1)


def test_a_variable_length_kernel_gets_what_it_needs(crops, monkeypatch):
    monkeypatch.setattr(packed_module, "varlen_attention", by_sequence)
    monkeypatch.setattr(packed_module, "varlen_attention_works", lambda *_: True)
    assert_equal_features_and_gradients(encoder_of(), crops)


def across_sequences(query, key, value, lengths, longest):
    return by_sequence(query, key, value, lengths.new_tensor([0, lengths[-1]]), lengths[-1])


def wrong_gradient(query, key, value, lengths, longest):
    return by_sequence(query, key, value.detach() + 0 * value, lengths, longest)


def without_words(query, key, value, lengths, longest):
    raise NotImplementedError


@pytest.mark.parametrize(
    ("kernel", "fault"),
    [
        (by_sequence, None),
        (across_sequences, "not those of plain attention"),
        (wrong_gradient, "not those of plain attention"),
        (packed_module.varlen_attention, "CPU"),
        (without_words, "NotImplementedError"),
    ],
)
def test_a_kernel_that_is_wrong_or_not_there_is_found_out(monkeypatch, kernel, fault):
    monkeypatch.setattr(packed_module, "varlen_attention", kernel)
    found = varlen_attention_fault(torch.device("cpu"), torch.bfloat16, 64)
    assert found is None if fault is None else fault in found


def test_where_pictures_begin():
    assert cumulative_lengths(((2, 3), (3, 2)), torch.device("cpu")).tolist() == [0, 3, 6, 8, 10, 12]


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # the compiler's own
def test_the_block_compiles_whole_and_once_for_all_layers(crops, monkeypatch):
    encoder = encoder_of(num_hidden_layers=6).train()
    expected = plain(encoder, crops)
    by_plain = gradients(encoder, expected)
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    compiled = torch.compile(packed_module._packed_block.__wrapped__, fullgraph=True)
    monkeypatch.setattr(packed_module, "_packed_block", compiled)
    found = packed(encoder, crops)
    by_packed = gradients(encoder, found)
    graphs = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    assert graphs <= 2, "one for all blocks but the last, one for that"
    for one, two in zip(found, expected, strict=True):
        torch.testing.assert_close(one, two, atol=1e-4, rtol=1e-4)
    for name, gradient in by_plain.items():
        torch.testing.assert_close(
            by_packed[name], gradient, atol=1e-3 * max(gradient.abs().max().item(), 1), rtol=1e-3
        )
