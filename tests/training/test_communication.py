"""What a step sends: counted in two real processes, and the simulated cluster against numbers worked out by hand."""

import pytest
from two_shards import CROPS, OBJECTIVES, build_model, two_shards

from synclr_hf.training.communication import (
    BACKWARD_SHARE,
    BUCKET_BYTES,
    Cluster,
    Collective,
    Exchange,
    ModelSize,
    objective_collectives,
    replicated,
    sharded,
)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_collectives_are_those_of_two_processes(name):
    model = build_model(name)
    size = ModelSize.of(model)
    assert size.trained == sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert size.trained + size.frozen == sum(p.numel() for p in model.parameters())
    exposed = objective_collectives(OBJECTIVES[name], crops=CROPS // 2, processes=2)
    teacher = name == "paper"
    expected = {
        "replicated": replicated(size.trained, exposed),
        "sharded": sharded(size, exposed, 2, teacher=teacher, parameter_bytes=4),
    }
    for way, exchange in expected.items():
        collectives = sorted((one.kind, one.size) for one in exchange.collectives)
        assert two_shards()[name, way, "collectives"] == collectives


def test_bytes_of_a_ring():
    reduced, gathered = Collective("gradients", "all_reduce", 800.0), Collective("keys", "all_gather", 800.0)
    assert reduced.sent(8) == 1400 and gathered.sent(8) == 700 and reduced.sent(1) == 0
    exchange = Exchange((gathered, gathered), (None,), ((None, reduced),))
    assert exchange.sent_bytes(8) == {"keys": 1400, "gradients": 1400, "total": 2800}


def test_what_cannot_be_cut_evenly_takes_a_place_on_every_process():
    size = ModelSize(1, ((8, 2),), ((1, 5, 4),), ((9,),))
    exchange = sharded(size, (), 4, parameter_bytes=1, gradient_bytes=1)
    root, *layers = exchange.forward
    assert root.size == 4 * 20 + 12 and [layer.size for layer in layers] == [16, 16]
    assert exchange.backward[-1][1].size == 80


def test_seconds_of_a_collective():
    cluster = Cluster(node_bandwidth=100.0, network_bandwidth=10.0, node_size=4, node_latency=1.0, network_latency=2.0)
    gathered, reduced = Collective("", "all_gather", 1600.0), Collective("", "all_reduce", 1600.0)
    assert cluster.seconds(gathered, 1) == 0
    assert cluster.seconds(gathered, 4) == 1600 * 3 / 4 / 100 + 2
    within_and_between = 14 + 1600 / 4 * 1 / 2 / 10 + 2
    assert cluster.seconds(gathered, 8) == within_and_between
    assert cluster.seconds(reduced, 8) == 2 * within_and_between


def test_all_but_the_last_bucket_hide_behind_the_backward_pass():
    cluster = Cluster(node_bandwidth=1e9, node_latency=0.0)
    exchange = replicated(10 * BUCKET_BYTES // 4, ())
    bucket = cluster.seconds(exchange.backward[0][1], 8)
    assert len(exchange.backward) == 10
    slow = 100 * bucket
    assert cluster.step_seconds(exchange, 8, slow) == pytest.approx(slow + bucket)
    fast = bucket  # the first bucket is ready after a tenth of the backward pass, then they stand in line
    expected = (1 - BACKWARD_SHARE) * fast + BACKWARD_SHARE * fast / 10 + 10 * bucket
    assert cluster.step_seconds(exchange, 8, fast) == pytest.approx(expected)
    assert cluster.step_seconds(exchange, 1, fast) == pytest.approx(fast)


def test_layers_are_fetched_while_others_compute():
    cluster = Cluster(node_bandwidth=1.0, node_size=2, node_latency=0.0)
    layer = Collective("parameters", "all_gather", 2.0)  # one second
    exchange = Exchange((), (layer, layer, layer), ((layer, None), (layer, None)))
    forward, backward = 1 + 3 * 10, 1 + 2 * 10
    computing = 30 / (1 - BACKWARD_SHARE)
    share = BACKWARD_SHARE * computing / 2
    assert cluster.step_seconds(exchange, 2, computing) == pytest.approx(forward + backward - 20 + 2 * share)
    waiting = 3 + 0.001 / 3 * (1 - BACKWARD_SHARE) + 2 + 0.001 / 2 * BACKWARD_SHARE
    assert cluster.step_seconds(exchange, 2, 0.001) == pytest.approx(waiting)
