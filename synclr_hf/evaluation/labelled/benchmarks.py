"""The benchmarks of the paper: ImageNet, nine fine-grained sets, six of unseen concepts, ADE20k.

Splits, metrics and class counts are those of the reference code (`eval/main_downstream_linear.py`); counts of pictures
are those of the publications or of the copy's card. `checked` tells for each what was read where.
"""

from __future__ import annotations

from synclr_hf.errors import unknown_name
from synclr_hf.evaluation.labelled.benchmark import Benchmark

_TABLE_6, _TABLE_7, _TABLE_9 = "Table 6", "Table 7", "Table 9"
_PARQUET_EXPORT = "refs/convert/parquet"
_VOC_NAMES = (
    "aeroplane bicycle bird boat bottle bus car cat chair cow diningtable dog horse motorbike person pottedplant "
    "sheep sofa train tvmonitor"
)

_ALL = (
    Benchmark(
        name="imagenet",
        title="ImageNet-1k",
        hub_id="ILSVRC/imagenet-1k",
        table=_TABLE_6,
        num_classes=1000,
        num_train=1_281_167,
        num_test=50_000,
        test="validation",
        split_note="the field trains on 'train' and reports on 'validation'; the labels of 'test' are not public (-1)",
        licence="terms of access of image-net.org (gated: they are accepted on the page of the data set)",
        citation="Deng et al. 2009; Russakovsky et al. 2015",
        checked="id and gate seen in public code; columns, splits, counts from general knowledge",
    ),
    Benchmark(
        name="aircraft",
        title="FGVC-Aircraft",
        hub_id="Donghyun99/FGVC-Aircraft",
        table=_TABLE_6,
        num_classes=100,
        num_train=3_334,
        num_validation=3_333,
        num_test=3_333,
        validation="val",
        label="variation",
        metric="mean_per_class_accuracy",
        split_note="classes are the 100 variants; the column 'label' of this copy holds the 70 families",
        licence="not stated",
        citation="Maji et al. 2013, arXiv 1306.5151",
        checked="viewer of the copy read: columns, class counts, splits; exact counts from the publication",
    ),
    Benchmark(
        name="cars",
        title="Stanford Cars",
        hub_id="tanganke/stanford_cars",
        table=_TABLE_6,
        num_classes=196,
        num_train=8_144,
        num_test=8_041,
        split_note="this copy is large: to our knowledge it has corrupted test pictures, too, as splits of their own",
        licence="not stated",
        citation="Krause et al. 2013",
        checked="id, columns, splits, counts seen in public code and on its card",
    ),
    Benchmark(
        name="dtd",
        title="Describable Textures (partition 1)",
        hub_id="tanganke/dtd",
        table=_TABLE_6,
        num_classes=47,
        num_train=3_760,
        num_test=1_880,
        split_note="this copy has train and validation in one; the reference chooses on the official validation part",
        licence="not stated",
        citation="Cimpoi et al. 2014",
        checked="card of the copy read: columns, splits, counts, classes; that it is partition 1 is a guess",
    ),
    Benchmark(
        name="flowers",
        title="Oxford Flowers-102",
        hub_id="dpdl-benchmark/oxford_flowers102",
        table=_TABLE_6,
        num_classes=102,
        num_train=1_020,
        num_validation=1_020,
        num_test=6_149,
        validation="validation",
        metric="mean_per_class_accuracy",
        split_note="a well-known other copy, nelorth/oxford-flowers, has other splits (7,169 / 1,020): not comparable",
        licence="not stated",
        citation="Nilsback and Zisserman 2008",
        checked="viewer of the copy read: splits and counts; columns seen in public code",
    ),
    Benchmark(
        name="pets",
        title="Oxford-IIIT Pets",
        hub_id="timm/oxford-iiit-pet",
        table=_TABLE_6,
        num_classes=37,
        num_train=3_680,
        num_test=3_669,
        metric="mean_per_class_accuracy",
        licence="cc-by-sa-4.0",
        citation="Parkhi et al. 2012",
        checked="id, licence, columns seen; counts from the publication (train is its trainval)",
    ),
    Benchmark(
        name="sun397",
        title="SUN397 (partition 1)",
        hub_id="tanganke/sun397",
        table=_TABLE_6,
        num_classes=397,
        num_train=19_850,
        num_test=19_850,
        licence="not stated",
        citation="Xiao et al. 2010",
        checked="viewer of the copy read: 19.9k rows a split; columns seen in public code; partition 1 is a guess",
    ),
    Benchmark(
        name="caltech101",
        title="Caltech-101",
        hub_id="dpdl-benchmark/caltech101",
        table=_TABLE_6,
        num_classes=102,
        num_train=3_059,
        num_test=6_085,
        metric="mean_per_class_accuracy",
        same_test_split=False,
        split_note="some 30 pictures a class to learn from, drawn by TensorFlow Datasets; the reference draws its "
        "own; both count the background as a class",
        licence="not stated",
        citation="Fei-Fei, Fergus and Perona 2004",
        checked="id and splits seen in public code; columns and counts (TensorFlow Datasets) are guesses",
    ),
    Benchmark(
        name="food101",
        title="Food-101",
        hub_id="ethz/food101",
        table=_TABLE_6,
        num_classes=101,
        num_train=75_750,
        num_test=25_250,
        test="validation",
        split_note="what this copy calls 'validation' is the official test split",
        licence="pictures of Foodspotting, scientific fair use only (card)",
        citation="Bossard et al. 2014",
        checked="card and viewer of the copy read: splits, counts, terms; columns seen in public code",
    ),
    Benchmark(
        name="voc2007",
        title="PASCAL VOC 2007 classification",
        hub_id="fuliucansheng/pascal_voc",
        table=_TABLE_6,
        num_classes=20,
        num_train=2_501,
        num_validation=2_510,
        num_test=4_952,
        validation="validation",
        metric="map_11point",
        label="classes",
        label_names=tuple(_VOC_NAMES.split()),
        revision=_PARQUET_EXPORT,
        data_dir="voc2007_main",
        split_note="the reference counts a class that is only there as a 'difficult' object as absent; the list of "
        "classes in this copy may have it. clip-benchmark/wds_voc2007_multilabel (columns webp, npy) has no "
        "validation split",
        licence="not stated",
        citation="Everingham et al. 2007",
        checked="files of the export seen; splits from the publication; column 'classes' seen in public code only",
    ),
    Benchmark(
        name="eurosat",
        title="EuroSAT (RGB)",
        hub_id="timm/eurosat-rgb",
        table=_TABLE_9,
        num_classes=10,
        num_train=16_200,
        num_validation=5_400,
        num_test=5_400,
        validation="validation",
        same_test_split=False,
        split_note="there is no official split; the paper follows CLIP (to our knowledge 10,000 / 5,000, drawn by its "
        "authors), the reference reads folders that are not published",
        licence="mit",
        citation="Helber et al. 2019, arXiv 1709.00029",
        checked="card of the copy read: columns, splits, counts, licence",
    ),
    Benchmark(
        name="gtsrb",
        title="German Traffic Sign Recognition",
        hub_id="tanganke/gtsrb",
        table=_TABLE_9,
        num_classes=43,
        num_train=26_640,
        num_test=12_630,
        split_note="this copy has nine splits, seven of them of corrupted test pictures, and all are downloaded",
        licence="not stated",
        citation="Stallkamp et al. 2011",
        checked="card and viewer of the copy read: splits, counts; columns from general knowledge",
    ),
    Benchmark(
        name="country211",
        title="Country211",
        hub_id="clip-benchmark/wds_country211",
        table=_TABLE_9,
        num_classes=211,
        num_train=31_650,
        num_test=21_100,
        image="jpg",
        label="cls",
        split_note="this copy lacks the validation split (10,550), which the reference chooses on and learns from",
        licence="not stated",
        citation="Radford et al. 2021, arXiv 2103.00020",
        checked="id, columns seen in public code; files and viewer of the copy seen: two splits, 21.1k rows in test; "
        "number to train on from the publication",
    ),
    Benchmark(
        name="mnist",
        title="MNIST",
        hub_id="ylecun/mnist",
        table=_TABLE_9,
        num_classes=10,
        num_train=60_000,
        num_test=10_000,
        licence="not checked",
        citation="LeCun et al. 1998",
        checked="id seen in public code; columns, splits, counts from general knowledge",
    ),
    Benchmark(
        name="resisc45",
        title="NWPU-RESISC45",
        hub_id="timm/resisc45",
        table=_TABLE_9,
        num_classes=45,
        num_train=18_900,
        num_validation=6_300,
        num_test=6_300,
        validation="validation",
        same_test_split=False,
        split_note="there is no official split; the paper follows CLIP (to our knowledge 3,150 / 25,200), the "
        "reference reads folders that are not published",
        licence="unknown (card)",
        citation="Cheng et al. 2017, arXiv 1703.00121",
        checked="viewer of the copy read: splits, counts, licence; columns as in the other sets of this owner",
    ),
    Benchmark(
        name="kitti",
        title="KITTI distance to the nearest vehicle",
        hub_id=None,
        table=_TABLE_9,
        num_classes=4,
        num_train=6_770,
        num_test=711,
        split_note="the task of VTAB as CLIP uses it, train and validation in one; on the Hub only test pictures were "
        "found (haideraltahan/wds_kitti_closest_vehicle_distance)",
        licence="cc-by-nc-sa-3.0 (cvlibs.net, as public code states it)",
        citation="Geiger et al. 2013; Zhai et al. 2019 (VTAB)",
        checked="no copy with a train split was found; counts from general knowledge",
    ),
    Benchmark(
        name="ade20k",
        title="ADE20k scene parsing (150 classes)",
        hub_id="zhoubolei/scene_parse_150",
        table=_TABLE_7,
        num_classes=150,
        num_train=20_210,
        num_test=2_000,
        test="validation",
        metric="mean_iou",
        label=None,
        mask="annotation",
        mask_ignored=(0,),
        mask_shift=1,
        revision=_PARQUET_EXPORT,
        data_dir="scene_parsing",
        split_note="the field trains on 'train' and reports on 'validation'; the masks of 'test' are not public. A "
        "copy in plain Parquet is danjacobellis/scene_parse_150, of which only 'validation' was seen",
        licence="not checked",
        citation="Zhou et al. 2017",
        checked="viewer read: columns, splits, counts; masks 0..150 with 0 = other seen in public code; folder of the "
        "export is a guess",
    ),
)
BENCHMARKS: dict[str, Benchmark] = {each.name: each for each in _ALL}
"""Name -> benchmark, in the order of the paper's tables."""
FINE_GRAINED = ("aircraft", "cars", "dtd", "flowers", "pets", "sun397", "caltech101", "food101", "voc2007")
"""The nine of Table 6, in its order."""
UNSEEN = ("eurosat", "gtsrb", "country211", "mnist", "resisc45", "kitti")
"""The six of Table 9: concepts that the captions never named."""


def benchmark(name: str, option: str = "--dataset") -> Benchmark:
    """Return a benchmark by its name.

    Args:
        name: one of `BENCHMARKS`.
        option: the option that names it, for the error.

    Raises:
        UserInputError: there is none of that name; the message has the nearest one.
    """
    if name not in BENCHMARKS:
        fix = f"{option} NAME, {option} NAME=FOLDER (a copy of it), {option} FOLDER or {option} ORG/NAME"
        raise unknown_name("benchmark", name, BENCHMARKS, fix)
    return BENCHMARKS[name]
