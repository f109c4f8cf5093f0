"""The pictures that an index is made of, and what is known about each."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from synclr_hf.data.pictures import Picture
from synclr_hf.data.reading import read_captions
from synclr_hf.data.runs import RUN_FILE, read_record
from synclr_hf.data.seeds import seed_for
from synclr_hf.errors import UserInputError
from synclr_hf.evaluation.labelled.stored_sets import content_state, is_toy_set
from synclr_hf.evaluation.seeing.shown_pictures import Origin, ShownPictures, in_turns, shown_pictures
from synclr_hf.hub.dataset_files import published_card

if TYPE_CHECKING:
    from datasets import Dataset

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+(@[\w./-]+)?")
TEXTS = ("caption", "concept", "source", "template")


@dataclass(frozen=True)
class IndexSource:
    """Pictures with what is known about each, in the order of the index.

    Attributes:
        name: what the set is called: a Hub id, or the last part of a folder's path.
        pictures: still encoded.
        caption_ids: (N,) int64; `None`: the pictures were not drawn from captions.
        places: (N,) int64, which of the caption's pictures it is.
        texts: column -> a text a picture; empty where nothing is known.
        fingerprint: checksum of all of it.
        is_toy: whether the toy world drew them.
        cards: `captions`, `images` -> the card of the set, where there is one.
    """

    name: str
    pictures: Sequence[Picture]
    caption_ids: np.ndarray | None
    places: np.ndarray
    texts: dict[str, Sequence[str]]
    fingerprint: str
    is_toy: bool = False
    cards: dict[str, str] | None = None

    def __len__(self) -> int:
        return len(self.pictures)

    def row(self, place: int) -> dict[str, Any]:
        """Return what is known about a picture, as a row of the index without thumbnail and features."""
        told: dict[str, Any] = {name: self.texts[name][place] or None for name in TEXTS}
        told["caption_id"] = None if self.caption_ids is None else int(self.caption_ids[place])
        return {**told, "place": int(self.places[place])}


def index_source(
    images: str,
    *,
    captions: str | None = None,
    split: str | None = None,
    max_pictures: int | None = None,
    seed: int = 0,
) -> IndexSource:
    """Find the pictures of an index; nothing is decoded.

    Args:
        images: a folder that our images stage wrote, a labelled data set, a folder of pictures, or a name on the Hub.
        captions: the captions set that tells the templates of an images set; default: the one that it was drawn from,
            where it is still there.
        split: of a data set; default: as `shown_pictures` says.
        max_pictures: at most so many, evenly over concepts; the pictures of a caption stay together.
        seed: of that choice.

    Raises:
        UserInputError: nothing is there, or something without pictures.
    """
    shown = shown_pictures([images], split=split)
    if len(shown) == 0:
        raise UserInputError(f"--images '{images}' holds no pictures; type a set or a folder with some")
    origin = shown.origin
    chosen = _chosen(shown, max_pictures, seed)
    state = content_state(images) or shown.fingerprint
    known = {} if origin is None else {"own": origin.own[chosen], "places": origin.places[chosen]}
    texts = _texts(shown, chosen)
    cards = _cards(images, captions)
    caption_ids = None
    if origin is not None:
        caption_ids = np.asarray(origin.rows.with_format("numpy")["caption_id"][:])[known["own"]]
        if templates := _templates(images, captions):
            texts["template"] = [templates.get(int(number), "") for number in caption_ids]
    return IndexSource(
        name=_name(images),
        pictures=_Chosen(shown.data.pictures, chosen),
        caption_ids=caption_ids,
        places=known.get("places", np.zeros(len(chosen), dtype=np.int64)),
        texts=texts,
        fingerprint=f"{state}-{len(shown)}-{blake2b(repr(texts['template']).encode(), digest_size=8).hexdigest()}",
        is_toy=origin is not None and is_toy_set({"train": origin.rows}),
        cards=cards,
    )


class _Chosen(Sequence[Picture]):
    """Some of the pictures, read one by one."""

    def __init__(self, pictures: Sequence[Picture], chosen: np.ndarray) -> None:
        self._pictures, self._rows = pictures, chosen

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, place: int) -> Picture:
        return self._pictures[int(self._rows[place])]


def _chosen(shown: ShownPictures, most: int | None, seed: int) -> np.ndarray:
    """Return the places of the pictures to take, ascending."""
    count = len(shown)
    if most is None or most >= count:
        return np.arange(count)
    labels = shown.data.labels
    groups = np.arange(count) if shown.origin is None else shown.origin.own
    first = np.unique(groups, return_index=True)[1]
    sizes = np.bincount(np.unique(groups, return_inverse=True)[1])
    taken: list[int] = []
    left = most
    for group in in_turns(labels[first].tolist(), seed_for(seed, "index")):
        if sizes[group] > left:
            break
        left -= int(sizes[group])
        taken.append(group)
    if not taken:
        raise UserInputError(
            f"--max-pictures {most} is less than the pictures of one caption; type --max-pictures {int(sizes.max())}"
        )
    is_taken = np.zeros(len(first), dtype=bool)
    is_taken[taken] = True
    return np.flatnonzero(is_taken[np.unique(groups, return_inverse=True)[1]])


def _texts(shown: ShownPictures, chosen: np.ndarray) -> dict[str, Sequence[str]]:
    names, labels = shown.data.label_names, shown.data.labels
    concepts = [names[labels[row]] for row in chosen]
    nothing = [""] * len(chosen)
    texts: dict[str, Sequence[str]] = {"concept": concepts, "source": nothing, "template": nothing}
    if shown.origin is None:
        known = shown.captions if shown.captions is not None else shown.texts
        captions = [known[row] for row in chosen]
        texts["caption"] = ["" if text == concept else text for text, concept in zip(captions, concepts, strict=True)]
        return texts
    own = shown.origin.own[chosen]
    for column in ("caption", "source"):
        values = _column(shown.origin, column)
        texts[column] = [values[row] or "" for row in own]
    return texts


def _column(origin: Origin, name: str) -> Sequence[str]:
    if name not in origin.rows.column_names:
        return [""] * len(origin.rows)
    return origin.rows.with_format(None)[name][:]


def _templates(images: str, captions: str | None) -> dict[int, str]:
    """Return caption_id -> template, of the captions that the pictures were drawn from; empty where they are gone."""
    where = captions or _captions_of(images)
    if where is None:
        return {}
    try:
        rows: Dataset = read_captions(where)
    except UserInputError:
        if captions is not None:
            raise
        return {}
    told = rows.select_columns(["caption_id", "template"]).with_format(None)[:]
    return dict(zip(told["caption_id"], told["template"], strict=True))


def _captions_of(images: str) -> str | None:
    """Return the captions that a run of the images stage says it was made from, or those that lie beside it."""
    folder = Path(images).expanduser()
    if not (folder / RUN_FILE).is_file():
        return None
    named = read_record(folder).get("captions")
    beside = folder.parent / "captions"
    if named and Path(str(named)).is_dir():
        return str(named)
    if (beside / RUN_FILE).is_file():  # the run was moved: what it says is no name of the Hub
        return str(beside)
    return str(named) if named and _HUB_ID.fullmatch(str(named)) else None


def _cards(images: str, captions: str | None) -> dict[str, str]:
    """Return the cards of the sets, without paths of this machine."""
    found = {}
    for name, where in (("images", images), ("captions", captions or _captions_of(images))):
        folder = Path(where).expanduser() if where else None
        if folder is None:
            continue
        if (folder / RUN_FILE).is_file() and (folder / "README.md").is_file():
            found[name] = published_card(folder, folder.resolve().name).decode()
        elif not folder.exists() and (card := _card_on_the_hub(str(where))) is not None:
            found[name] = card
    return found


def _card_on_the_hub(where: str) -> str | None:
    from huggingface_hub import hf_hub_download

    name, _, revision = where.partition("@")
    try:
        file = hf_hub_download(name, "README.md", repo_type="dataset", revision=revision or None)
        return Path(file).read_text(encoding="utf-8")
    except Exception:  # a card is a courtesy: the pictures are what was asked for
        return None


def _name(images: str) -> str:
    folder = Path(images).expanduser()
    return folder.resolve().name if folder.exists() else images
