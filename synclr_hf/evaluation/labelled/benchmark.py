"""What is known of a benchmark: where its copy lies, how it is read and scored, and what the paper did with it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Metric = Literal["accuracy", "mean_per_class_accuracy", "map_11point", "mean_iou"]
METRICS: tuple[Metric, ...] = ("accuracy", "mean_per_class_accuracy", "map_11point", "mean_iou")


@dataclass(frozen=True)
class Benchmark:
    """One benchmark of the paper.

    Attributes:
        name: what one types, e.g. `aircraft`.
        title: its own name.
        hub_id: the copy on the Hub that is loaded; `None`: no complete copy was found, give one by `NAME=FOLDER`.
        table: the table of the paper that it belongs to.
        num_classes: classes of the whole benchmark.
        num_train: pictures of the whole `train` split.
        num_test: pictures of the whole `test` split.
        num_validation: pictures of the whole `validation` split; `None` where it has none.
        train: name of the split that is learned from.
        test: name of the split that the numbers are about.
        validation: name of the split that settings are chosen on; `None`: a protocol takes a part of `train`, 20 % in
            the reference.
        metric: the metric of the paper (B.5), see `EvaluationData.metric`.
        image: column of the pictures.
        label: column of the classes: class numbers or names; lists of them, or of 0 and 1, where a picture has
            several. `None` for segmentation.
        mask: column of the masks of a segmentation benchmark.
        label_names: the class names where the copy does not tell them.
        mask_ignored: values in the stored masks that count for nothing.
        mask_shift: taken off the stored values of a mask: class 0 is stored as this.
        config_name: configuration of the data set on the Hub.
        revision: branch or commit of the copy; `refs/convert/parquet` is the Hub's own Parquet export, which is what
            can be loaded of a data set with a loading script.
        data_dir: folder inside the copy.
        same_test_split: whether the test pictures are the paper's: only then may numbers stand beside its own.
        split_note: where the splits of this copy differ from what the paper or its reference code uses.
        licence: terms as the card of the copy states them, else that they were not stated or not looked at.
        citation: where the data set was published.
        checked: what was seen, and what is a guess: nothing could be downloaded when this was written.
    """

    name: str
    title: str
    hub_id: str | None
    table: str
    num_classes: int
    num_train: int
    num_test: int
    num_validation: int | None = None
    train: str = "train"
    test: str = "test"
    validation: str | None = None
    metric: Metric = "accuracy"
    image: str = "image"
    label: str | None = "label"
    mask: str | None = None
    label_names: tuple[str, ...] | None = None
    mask_ignored: tuple[int, ...] = ()
    mask_shift: int = 0
    config_name: str | None = None
    revision: str | None = None
    data_dir: str | None = None
    same_test_split: bool = True
    split_note: str = ""
    licence: str = "not checked"
    citation: str = ""
    checked: str = ""
