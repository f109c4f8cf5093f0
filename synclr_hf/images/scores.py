"""How well a picture shows its caption, by any CLIP-like model of transformers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TYPE_CHECKING, Any

from synclr_hf.data.back_ends import device_and_dtype
from synclr_hf.data.pictures import open_picture
from synclr_hf.errors import UserInputError

if TYPE_CHECKING:
    from torch import Tensor

SCORED_AT_ONCE = 64
"""Pictures, or captions, of one forward pass."""

PREPARING_THREADS = 4
_NEEDED = ("get_image_features", "get_text_features")


class ImageTextScorer:
    """Cosine similarity of pictures and captions (CLIP, arXiv 2103.00020; SigLIP and their like), in float32.

    It runs on the device of this process. Captions longer than the model reads are cut.

    Args:
        model_id: `ORG/NAME` on the Hub, or a folder with a saved model, its tokenizer and its image processor.

    Raises:
        UserInputError: it cannot be loaded, or has no features of pictures and texts that can be compared.
    """

    def __init__(self, model_id: str) -> None:
        from transformers import AutoImageProcessor, AutoModel, AutoTokenizer

        try:
            model = AutoModel.from_pretrained(model_id)
        except Exception as error:  # missing, damaged, gated: the library has a kind for each
            raise _cannot_be_used(model_id, _first_line(error)) from error
        if not all(hasattr(model, name) for name in _NEEDED):
            raise _cannot_be_used(model_id, f"{type(model).__name__} has no {' and '.join(_NEEDED)}")
        try:
            self._tokenizer = AutoTokenizer.from_pretrained(model_id)
            self._processor = AutoImageProcessor.from_pretrained(model_id, backend="pil")
        except Exception as error:
            raise _cannot_be_used(model_id, _first_line(error)) from error
        import torch

        try:
            self._model = model.eval().float().to(device_and_dtype()[0])
        except torch.OutOfMemoryError as error:
            raise _cannot_be_used(model_id, "the memory of the device does not hold it") from error
        self._length = min(model.config.text_config.max_position_embeddings, self._tokenizer.model_max_length)

    def scores(self, captions: Sequence[str], pictures: Sequence[Sequence[bytes]]) -> list[list[float]]:
        """Return one number a picture, -1 to 1.

        Args:
            captions: one a row.
            pictures: encoded pictures of each row, any number.
        """
        import torch

        with torch.inference_mode():
            batches = [captions[first : first + SCORED_AT_ONCE] for first in range(0, len(captions), SCORED_AT_ONCE)]
            texts = torch.cat([self._text_features(batch) for batch in batches]) if batches else None
            places = iter([place for place, row in enumerate(pictures) for _ in row])
            found: list[list[float]] = [[] for _ in captions]
            for features in self._image_features(picture for row in pictures for picture in row):
                rows = list(islice(places, len(features)))
                assert texts is not None
                for row, score in zip(rows, (features * texts[rows]).sum(dim=1).tolist(), strict=True):
                    found[row].append(score)
        return found

    def _text_features(self, captions: Sequence[str]) -> Tensor:
        """Return (B, D) of length 1; padded to the full length, as SigLIP was trained."""
        tokens = self._tokenizer(
            list(captions), padding="max_length", truncation=True, max_length=self._length, return_tensors="pt"
        )
        return _normalised(self._model.get_text_features(**tokens.to(self._model.device)))

    def _image_features(self, pictures: Iterator[bytes]) -> Iterator[Tensor]:
        """Yield (B, D) of length 1; decoding and resizing are spread over threads."""
        import torch

        with ThreadPoolExecutor(PREPARING_THREADS) as threads:
            while batch := list(islice(pictures, SCORED_AT_ONCE)):
                pixels = torch.cat(list(threads.map(self._pixel_values, batch)))
                yield _normalised(self._model.get_image_features(pixel_values=pixels.to(self._model.device)))

    def _pixel_values(self, picture: bytes) -> Tensor:
        pixels: Tensor = self._processor(images=open_picture(picture), return_tensors="pt")["pixel_values"]
        return pixels


def _normalised(features: Any) -> Tensor:
    """Return features of length 1; transformers gives them bare, or as the pooled ones of an output."""
    from torch.nn.functional import normalize

    return normalize(getattr(features, "pooler_output", features).float(), dim=-1)


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)[:200]


def _cannot_be_used(model_id: str, reason: str) -> UserInputError:
    return UserInputError(
        f"--score-model {model_id} cannot be used ({reason}); needed: a CLIP-like model with its tokenizer and image "
        "processor, by Hub id or folder; type --score-model openai/clip-vit-base-patch32"
    )
