"""Opening an index from a folder or from the Hub, with errors that say what to type."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from synclr_hf.data.reading import check_complete
from synclr_hf.data.runs import RUN_FILE
from synclr_hf.errors import UserInputError
from synclr_hf.evaluation.labelled.stored_sets import state_of
from synclr_hf.explorer.index.facts import CARDS_FOLDER, FACTS_FILE, FAISS_FILE, IndexFacts
from synclr_hf.explorer.index.opened import PictureIndex, check_finite

if TYPE_CHECKING:
    from datasets import Dataset

STAGE = "index"
"""Name of the stage that builds an index."""
_CARDS = ("captions", "images")


def open_index(path_or_hub_id: str | Path) -> PictureIndex:
    """Open an index; nothing but its facts and a sample of its features is read.

    Args:
        path_or_hub_id: a folder that `synclr index` wrote, or `org/name` on the Hub, also `org/name@revision`.

    Raises:
        UserInputError: nothing is there, no index, an unfinished or a damaged one, or the Hub cannot be reached.
    """
    name = str(path_or_hub_id)
    folder = Path(name).expanduser()
    if folder.is_dir():
        index = _of_folder(folder, name)
    elif folder.exists() or name.startswith((".", "/", "~")) or name.partition("@")[0].count("/") != 1:
        raise UserInputError(
            f"there is no index '{name}'; make one: type synclr index --model MODEL --images IMAGES --output-dir "
            f"{name}"
        )
    else:
        index = _of_hub(*name.partition("@")[::2])
    check_finite(index)
    return index


def _of_folder(folder: Path, name: str) -> PictureIndex:
    from datasets import config, load_dataset

    if (folder / RUN_FILE).is_file():
        check_complete(folder, STAGE)
    facts = IndexFacts.load(folder / FACTS_FILE, name)
    files = sorted(str(path) for path in folder.glob("data/train-*.parquet"))
    # A cache folder for this state of the files: datasets would take a folder that was made anew for the old one.
    cache = Path(config.HF_DATASETS_CACHE) / "synclr_hf" / state_of(folder)
    try:
        rows = load_dataset("parquet", data_files=files, split="train", cache_dir=str(cache)) if files else None
    except Exception as error:  # the libraries below raise dozens of kinds
        raise _unreadable(name, error) from error
    if rows is None:
        raise UserInputError(f"the index '{name}' has no pictures; run the command that made it again")
    cards = {
        card: (folder / CARDS_FOLDER / f"{card}.md").read_text(encoding="utf-8")
        for card in _CARDS
        if (folder / CARDS_FOLDER / f"{card}.md").is_file()
    }
    faiss_file = folder / FAISS_FILE
    shown = "/".join(folder.resolve().parts[-2:])  # visitors of the page need not know where it lies
    return PictureIndex(rows, facts, shown, cards, str(faiss_file) if faiss_file.is_file() else None)


def _of_hub(repo_id: str, revision: str) -> PictureIndex:
    from datasets import load_dataset
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError, RepositoryNotFoundError

    where = {"repo_id": repo_id, "repo_type": "dataset", "revision": revision or None}

    def fetched(file: str) -> str | None:
        try:
            return hf_hub_download(filename=file, **where)
        except LocalEntryNotFoundError:
            raise
        except EntryNotFoundError:
            return None

    try:
        facts_file = fetched(FACTS_FILE)
        facts = IndexFacts.load(facts_file or "", repo_id)
        rows: Dataset = load_dataset(repo_id, split="train", revision=revision or None)
        cards = {card: file for card in _CARDS if (file := fetched(f"{CARDS_FOLDER}/{card}.md"))}
        faiss_file = fetched(FAISS_FILE) if facts.faiss is not None else None
    except UserInputError:
        raise
    except RepositoryNotFoundError as error:
        raise UserInputError(
            f"there is no index '{repo_id}' on the Hub, or your token may not read it; type hf auth login, or make "
            "one: type synclr index --model MODEL --images IMAGES --output-dir FOLDER"
        ) from error
    except Exception as error:  # the libraries below raise dozens of kinds
        raise _unreadable(repo_id, error) from error
    told = {card: Path(file).read_text(encoding="utf-8") for card, file in cards.items()}
    return PictureIndex(rows, facts, repo_id, told, faiss_file)


def _unreadable(name: str, error: Exception) -> UserInputError:
    reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    return UserInputError(
        f"the index '{name}' cannot be read ({reason[:200]}); try again, or run the command that made it again"
    )
