import dataclasses

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score
from tiny_evaluation import coloured, tiny_context, tiny_encoder
from torch.nn.functional import normalize

from synclr_hf.data.seeds import seed_for
from synclr_hf.errors import UserInputError
from synclr_hf.evaluation import neighbours
from synclr_hf.evaluation.intervals import bootstrap_interval
from synclr_hf.evaluation.protocols.retrieval import Config, evaluate, ranked


def rows(count, seed, width=6):
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("multi_label", [False, True])
def test_pieces_equal_sklearn_and_a_loop(multi_label, monkeypatch):
    generator = torch.Generator().manual_seed(0)
    queries, gallery = rows(13, 1), rows(50, 2)
    if multi_label:
        classes, wanted = ((torch.rand(n, 8, generator=generator) < 0.15).float() for n in (50, 13))
        classes[0, 0], classes[1, 1] = -1, torch.nan
        relevant = ((wanted > 0).float() @ (classes > 0).float().T) > 0
    else:
        classes, wanted = (torch.randint(5, (n,), generator=generator) for n in (50, 13))
        wanted[4] = 7  # nobody has it
        relevant = wanted[:, None] == classes
    similarity = normalize(queries, dim=1) @ normalize(gallery, dim=1).T
    monkeypatch.setattr(neighbours, "CELLS_AT_ONCE", 150)  # three queries at once
    monkeypatch.setattr(neighbours, "GALLERY_ROWS_AT_ONCE", 7)
    found = ranked(queries, wanted, gallery, classes, [1, 5])
    for query in range(13):
        order = similarity[query].argsort(descending=True)
        hits = relevant[query][order]
        for k in (1, 5):
            assert found[f"recall_at_{k}"][query] == hits[:k].any()
        if not hits.any():
            assert found["map"][query].isnan() and found["map_at_r"][query].isnan()
            continue
        expected = average_precision_score(relevant[query].numpy(), similarity[query].numpy())
        assert found["map"][query].item() == pytest.approx(expected)
        count = int(hits.sum())
        at_r = sum(hits[: i + 1].double().mean() for i in range(count) if hits[i]) / count
        assert found["map_at_r"][query].item() == pytest.approx(float(at_r))


def test_protocol_counts_queries_without_a_match():
    train = coloured(40, 0, num_classes=2)
    labels = np.where(np.arange(40) % 3 == 0, 0, train.labels)  # some told wrong, or all would be right
    train = dataclasses.replace(train, labels=labels, label_names=("red", "green", "blue"))
    context = tiny_context(tiny_encoder(model=None), train=train)
    found = evaluate(context, Config(recall_at=(3, 1)))
    assert found.primary == "map" and found.details["queries_without_match"] == 10
    assert list(found.metrics) == ["map", "map_at_r", "recall_at_1", "recall_at_3"]
    assert found.config == {"recall_at": [1, 3], "queries": "test", "gallery": "train"}
    train_table, test_table = context.table("train"), context.table("test")
    values = ranked(test_table.features, test_table.labels, train_table.features, train_table.labels, [1])
    known = test_table.labels.numpy() < 2
    assert found.metrics["map"] == pytest.approx(values["map"].numpy()[known].mean())
    assert found.metrics["recall_at_1"] == pytest.approx(values["recall_at_1"].numpy()[known].mean())
    assert 0.5 < found.metrics["map"] < 1  # 0.5 by chance
    low, high = found.intervals["map"]
    assert low < found.metrics["map"] < high
    groups = test_table.groups.numpy()[known]
    assert (low, high) == bootstrap_interval(
        values["map"].numpy()[known], groups, seed=seed_for(context.seed, "retrieval")
    )


def test_bad_settings_and_sides_without_a_common_class():
    with pytest.raises(UserInputError, match=r"retrieval.recall_at is \[0\]; allowed: numbers of 1 or more; type"):
        evaluate(tiny_context(), Config(recall_at=(0,)))
    strange = dataclasses.replace(coloured(10, 1), labels=np.full(10, 2))
    context = tiny_context(tiny_encoder(model=None), train=coloured(10, 0, num_classes=2), test=strange)
    with pytest.raises(UserInputError, match="none of the 10 test pictures has the class of a train picture"):
        evaluate(context, Config())
