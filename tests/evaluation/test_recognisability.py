import io
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from datasets import Dataset, Features, Image, Value
from PIL import Image as PilImage
from sklearn.metrics import f1_score
from transformers import ViTConfig, ViTForImageClassification

from synclr_hf.errors import UserInputError
from synclr_hf.evaluation.labelled.labelled_images import labelled_pictures
from synclr_hf.evaluation.recognisability import class_f1, class_spread, f1_interval, match_classes, mean_interval
from synclr_hf.evaluation.recognition import RecognitionConfig, recognition

COLOURS = {"Red Thing": (200, 20, 20), "green": (20, 200, 20), "blue": (20, 20, 200)}
NEGATIVE = {"image_mean": [1.0, 1.0, 1.0], "image_std": [-1.0, -1.0, -1.0]}
PROCESSOR = {"image_processor_type": "ViTImageProcessor", "size": {"height": 32, "width": 32}, **NEGATIVE}
LABELS = {0: "red thing, crimson", 1: "green", 2: "azure, Blue", 3: "grey"}


def test_f1_is_that_of_scikit_learn():
    generator = np.random.default_rng(0)
    labels, predicted = generator.integers(0, 6, 400), generator.integers(0, 6, 400)
    predicted[:200] = labels[:200]
    f1 = class_f1(predicted, labels, 6)
    assert f1 == pytest.approx(f1_score(labels, predicted, average=None))
    assert f1.mean() == pytest.approx(f1_score(labels, predicted, average="macro"))
    some = labels < 3  # a classifier of six classes, pictures of three of them
    f1 = class_f1(predicted[some], labels[some], 6)
    assert np.isnan(f1).tolist() == [False] * 3 + [True] * 3
    expected = f1_score(labels[some], predicted[some], labels=[0, 1, 2], average="macro")
    assert np.nanmean(f1) == pytest.approx(expected)
    assert class_f1(np.array([1, 1]), np.array([0, 0]), 2)[0] == 0  # never right, never predicted


def test_spread_by_hand():
    features = np.array([[2.0, 0.0], [0.0, 3.0], [5.0, 0.0], [1.0, 0.0], [1.0, 1.0]])
    spread = class_spread(features, np.array([0, 0, 1, 1, 2]), 4)
    # class 0: unit vectors (1, 0) and (0, 1): standard deviation sqrt(1/2) in both dimensions; class 1: the same twice
    assert spread[:2] == pytest.approx([0.5**0.5, 0]) and np.isnan(spread[2:]).all()
    assert class_spread(features * 7, np.array([0, 0, 1, 1, 2]), 4)[0] == pytest.approx(spread[0])


def test_intervals_hold_the_mean_and_draw_captions_whole():
    labels = np.repeat([0, 1], 200)
    predicted = np.where(np.random.default_rng(1).random(400) < 0.7, labels, 1 - labels)
    mean = class_f1(predicted, labels, 2).mean()
    alone = f1_interval(predicted, labels, np.arange(400), 2, seed=0)
    assert alone[0] < mean < alone[1] and alone[1] - alone[0] < 0.12
    assert alone == f1_interval(predicted, labels, np.arange(400), 2, seed=0)
    four = f1_interval(np.repeat(predicted[::4], 4), labels, np.arange(400) // 4, 2, seed=0)
    assert four[1] - four[0] > 1.5 * (alone[1] - alone[0])  # as many pictures, a quarter of the captions
    low, high = mean_interval(np.array([0.1, 0.2, 0.3, np.nan]), seed=0)
    assert 0.1 <= low < 0.2 < high <= 0.3


def test_names_are_matched_to_labels():
    labels = {0: "tabby, tabby_cat", 1: "crane, bird", 2: "crane, machine", 3: "Crane", 4: "sunglass", 5: "sunglass"}
    found = match_classes(["Tabby Cat", "crane", "machine", "sunglass", "dog", ""], labels)
    assert found.classes == {"Tabby Cat": 0, "crane": 3, "machine": 2}  # a whole label goes before synonyms
    assert found.ambiguous == ("sunglass",) and found.unknown == ("dog", "")
    assert match_classes(["crane"], {1: "crane, bird", 2: "crane, machine"}).ambiguous == ("crane",)


def encoded(colour, seed):
    generator = np.random.default_rng(seed)
    pixels = np.clip(np.array(colour) + generator.integers(-15, 16, (32, 32, 3)), 0, 255)
    file = io.BytesIO()
    PilImage.fromarray(pixels.astype(np.uint8)).save(file, "PNG")
    return {"bytes": file.getvalue(), "path": None}


def drawn(names=tuple(COLOURS), count=6, broken=0):
    pictures = [encoded(COLOURS.get(name, (90, 90, 90)), n) for name in names for n in range(count)]
    pictures[:broken] = [b"broken"] * broken
    labels = np.repeat(np.arange(len(names)), count)
    return labelled_pictures(pictures, labels, names, groups=np.arange(len(labels)) // 2)


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    """A tiny transformer that learned its colours in a moment, and its folder."""
    torch.manual_seed(0)
    config = ViTConfig(
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        image_size=32,
        patch_size=16,
        id2label=LABELS,
    )
    model = ViTForImageClassification(config)
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    colours = torch.tensor([*COLOURS.values(), (90, 90, 90)]) / 255
    pixels = 1 - colours[:, :, None, None].expand(-1, -1, 32, 32)  # as its processor prepares them
    for _ in range(60):
        loss = model(pixel_values=pixels, labels=torch.arange(4)).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    folder = tmp_path_factory.mktemp("models")
    model.save_pretrained(folder / "classifier")
    model.vit.save_pretrained(folder / "encoder")
    for name in ("classifier", "encoder"):
        (folder / name / "preprocessor_config.json").write_text(json.dumps(PROCESSOR))
    return folder


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
    """Real pictures of three colours, one of which nobody drew, with a train and a test side."""
    names = ["Red Thing", "green", "grey"]
    features = Features({"image": Image(), "label": Value("string")})
    sides = {
        side: Dataset.from_list(
            [
                {"image": encoded(COLOURS.get(name, (90, 90, 90)), seed + n), "label": name}
                for name in names
                for n in range(12)
            ],
            features=features,
        )
        for side, seed in (("train", 100), ("test", 200))
    }
    folder = tmp_path_factory.mktemp("real") / "labelled"
    for side, rows in sides.items():
        (folder / "data").mkdir(parents=True, exist_ok=True)
        rows.to_parquet(folder / f"data/{side}-00000.parquet")
    return str(folder)


def test_a_classifier_recognises_what_was_drawn(classifier):
    data = drawn(("Red Thing", "green", "blue", "zebra"), broken=1)
    found = recognition(data, RecognitionConfig(classifier=str(classifier / "classifier"), batch_size=4))
    side = found["drawn"]
    assert side["recognisability"] == 1 and side["recognisability_interval"] == [1, 1] and side["accuracy"] == 1
    assert (side["pictures"], side["classes"], side["unreadable"]) == (17, 3, 1)
    assert found["left_out"]["unknown to the classifier"] == ["zebra"] and "real" not in found
    assert 0 < side["diversity"] < 0.1 and set(side["by_class"]) == {"red thing, crimson", "green", "azure, Blue"}
    swapped = replace(data, labels=np.where(data.labels == 1, 2, np.where(data.labels == 2, 1, data.labels)))
    wrong = recognition(swapped, RecognitionConfig(classifier=str(classifier / "classifier")))["drawn"]
    assert wrong["recognisability"] == pytest.approx(1 / 3) and wrong["by_class"]["green"]["f1"] == 0


def test_pictures_are_prepared_as_the_model_says(classifier, tmp_path):
    copy = shutil.copytree(classifier / "classifier", tmp_path / "copy")
    config = RecognitionConfig(classifier=str(copy))
    told = {**PROCESSOR, "image_processor_type": "NobodyHasThisImageProcessor"}
    (copy / "preprocessor_config.json").write_text(json.dumps(told))
    assert recognition(drawn(), config)["drawn"]["recognisability"] == 1
    (copy / "preprocessor_config.json").unlink()
    # by the mean and deviation of ImageNet, which it did not learn with
    assert recognition(drawn(), config)["drawn"]["recognisability"] < 1


def test_real_pictures_get_the_same_numbers_over_the_same_classes(classifier, labelled):
    config = RecognitionConfig(classifier=str(classifier / "classifier"), labelled=labelled)
    found = recognition(drawn(), config)
    assert found["drawn"]["classes"] == found["real"]["classes"] == 2
    assert (found["drawn"]["pictures"], found["real"]["pictures"]) == (12, 12)
    assert found["real"]["recognisability"] == 1 and found["left_out"]["without real pictures"] == ["blue"]


def test_without_a_classifier_the_nearest_real_pictures_tell(classifier, labelled):
    config = RecognitionConfig(encoder=str(classifier / "encoder"), labelled=labelled)
    found = recognition(drawn(), config)
    assert found["drawn"]["recognisability"] == found["real"]["recognisability"] == 1
    assert found["settings"]["neighbours"] == 10 and found["left_out"]["unknown to the classifier"] == ["blue"]
    both = recognition(drawn(), replace(config, classifier=str(classifier / "classifier"), labelled=None))["drawn"]
    alone = recognition(drawn(), RecognitionConfig(classifier=str(classifier / "classifier")))["drawn"]
    # the features of the encoder are those that the classifier's last layer is given
    assert both["diversity"] == pytest.approx(alone["diversity"], rel=1e-4)


def test_what_cannot_be_used_is_told_in_a_line(classifier, tmp_path):
    def told(data, **settings):
        with pytest.raises(UserInputError) as error:
            recognition(data, RecognitionConfig(**settings))
        return str(error.value)

    path = str(classifier / "classifier")
    assert "--encoder alone recognises nothing" in told(drawn(), encoder="org/name")
    assert "type --encoder ORG/NAME as well" in told(drawn(), labelled="org/name")
    assert "knows none of the 1 concepts" in told(drawn(("zebra",)), classifier=path)
    assert "holds no trained classifier" in told(drawn(), classifier=str(classifier / "encoder"))
    assert "--classifier" in told(drawn(), classifier=str(tmp_path / "nothing"))
    assert "type --labelled FOLDER" in told(drawn(), classifier=path, labelled=str(tmp_path / "nothing"))
    assert "none of the drawn pictures can be read" in told(drawn(broken=18), classifier=path)
