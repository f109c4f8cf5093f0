import numpy as np
import pytest
from PIL import Image
from tiny_evaluation import coloured, tiny_context, tiny_encoder

from synclr_hf.data.seeds import seed_for
from synclr_hf.errors import UserInputError
from synclr_hf.evaluation.encoding.features import encoder_features
from synclr_hf.evaluation.labelled.labelled_images import LabelledImages, labelled_pictures
from synclr_hf.evaluation.labelled.pictures import picture_array
from synclr_hf.evaluation.protocols import knn
from synclr_hf.evaluation.protocols.corruptions import corrupted
from synclr_hf.evaluation.protocols.knn import knn_predictions
from synclr_hf.evaluation.protocols.robustness import Config, evaluate

CONFIG = Config(kinds=("impulse_noise", "contrast"), severities=(1, 5))


@pytest.fixture(scope="module")
def outcome():
    return evaluate(tiny_context(tiny_encoder(batch_size=8)), CONFIG)


def test_the_main_number_is_the_mean_over_kinds_and_severities(outcome):
    table = outcome.details["by_kind_and_severity"]
    values = [table[kind][severity] for kind in CONFIG.kinds for severity in ("1", "5")]
    assert outcome.primary == "corrupted_accuracy"
    assert outcome.metrics["corrupted_accuracy"] == pytest.approx(np.mean(values))
    for place, kind in enumerate(CONFIG.kinds):
        assert outcome.details["by_kind"][kind] == pytest.approx(np.mean(values[2 * place : 2 * place + 2]))
    assert outcome.details["by_severity"]["5"] == pytest.approx(np.mean(values[1::2]))
    ratio = outcome.metrics["corrupted_accuracy"] / outcome.metrics["accuracy"]
    assert outcome.metrics["relative_robustness"] == pytest.approx(ratio)
    low, high = outcome.intervals["corrupted_accuracy"]
    assert 0 <= low <= outcome.metrics["corrupted_accuracy"] <= high <= 1
    assert outcome.config["num_test"] == 30


def test_clean_accuracy_is_that_of_knn_and_corruption_costs_some(outcome):
    clean = knn.evaluate(tiny_context(), knn.Config())
    assert outcome.metrics["accuracy"] == clean.metrics["accuracy"] > outcome.metrics["corrupted_accuracy"]


def test_one_condition_equals_pictures_that_are_corrupted_beforehand(outcome):
    context = tiny_context()
    test, train = context.data.test, context.table("train")
    made = [
        corrupted(picture_array(picture, 32), "contrast", 5, seed=seed_for(0, "corruptions", row))
        for row, picture in enumerate(test.pictures)
    ]
    data = labelled_pictures([Image.fromarray(pixels) for pixels in made], test.labels, test.label_names)
    features = encoder_features(context.encoder, data).features
    predicted = knn_predictions(train.features, train.labels, features, ks=(10,))[10]
    right = (predicted.numpy() == test.labels).mean()
    assert outcome.details["by_kind_and_severity"]["contrast"]["5"] == pytest.approx(right)


def test_numbers_repeat_and_do_not_depend_on_the_batches(outcome):
    again = evaluate(tiny_context(tiny_encoder(batch_size=13)), CONFIG)
    assert again == outcome


def test_raw_pixels_fewer_pictures_and_unreadable_ones():
    data = coloured(30, 1)
    pictures = [b"broken" if place == 7 else picture for place, picture in enumerate(data.pictures)]
    broken = LabelledImages(pictures, data.labels, data.label_names, data.groups, "broken")
    context = tiny_context(tiny_encoder(model=None), test=broken)
    outcome = evaluate(context, Config(kinds=("gaussian_noise",), severities=(1,), num_neighbours=200))
    assert outcome.details["num_unreadable_test"] == 1 and outcome.config["num_test"] == 29
    assert outcome.config["num_neighbours"] == 60
    few = evaluate(tiny_context(tiny_encoder(model=None)), Config(("jpeg",), (1,), max_test_pictures=12))
    assert few.config["num_test"] == 12


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kinds": ("rain",)}, "unknown corruption 'rain'.*type robustness.kinds=fog,snow"),
        ({"severities": (0,)}, "unknown severity '0'"),
        ({"severities": ()}, "robustness.severities is .*one or more different ones"),
        ({"kinds": ("fog", "fog")}, "robustness.kinds is .*one or more different ones"),
        ({"max_test_pictures": 0}, "robustness.max_test_pictures is 0; allowed: above 0"),
    ],
)
def test_settings_that_cannot_be_used_say_so(settings, message):
    with pytest.raises(UserInputError, match=message):
        Config(**settings)


def test_nothing_readable_says_so():
    data = coloured(4, 1)
    none = LabelledImages([b"broken"] * 4, data.labels, data.label_names, data.groups, "none")
    with pytest.raises(UserInputError, match="none of the 4 test pictures can be read"):
        evaluate(tiny_context(test=none), CONFIG)
