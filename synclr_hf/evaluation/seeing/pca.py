"""Patch features as colours: one principal component analysis over several pictures (the SynCLR paper's Figure 5)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from synclr_hf.errors import UserInputError
from synclr_hf.evaluation.seeing.foreground_split import ForegroundSplit, foreground_split
from synclr_hf.evaluation.seeing.principal_components import PrincipalComponents, principal_components

_KIND = "synclr_hf PCA basis"


@dataclass(frozen=True)
class PcaBasis:
    """What turns patch features into colours: the same feature has the same colour in every picture.

    Attributes:
        components: the first three principal components: red, green and blue.
        low: (3,) float64, the scores that become 0.
        high: (3,) float64, the scores that become 1.
        foreground: what the components were found on, if not on all patches.
        model: name of the encoder whose features these are.
    """

    components: PrincipalComponents
    low: Tensor
    high: Tensor
    foreground: ForegroundSplit | None = None
    model: str = ""

    @property
    def width(self) -> int:
        """Length of a feature that it takes."""
        return self.components.directions.shape[1]

    @torch.inference_mode()
    def colours(self, patches: Tensor) -> Tensor:
        """Return features (..., D) as colours, (..., 3) float32 in [0, 1]; background is coloured like any patch."""
        scores = self.components.scores(patches)
        return ((scores - self.low) / (self.high - self.low).clamp_min(1e-12)).clamp(0, 1).float()

    def save(self, file: str | Path) -> None:
        """Write the basis as a safetensors file."""
        tensors = {"mean": self.components.mean, "directions": self.components.directions}
        tensors |= {"low": self.low, "high": self.high}
        facts = {"kind": _KIND, "model": self.model, "explained": self.components.explained}
        if self.foreground is not None:
            tensors |= {"foreground_mean": self.foreground.mean, "foreground_direction": self.foreground.direction}
            facts["threshold"] = self.foreground.threshold
        held = {name: tensor.contiguous() for name, tensor in tensors.items()}
        Path(file).write_bytes(save(held, {"facts": json.dumps(facts)}))  # `save_file` lets nobody else read the file

    @classmethod
    def load(cls, file: str | Path) -> PcaBasis:
        """Read what `save` wrote.

        Raises:
            UserInputError: there is no such file, or it is something else.
        """
        try:
            with safe_open(Path(file).expanduser(), framework="pt") as stored:
                tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118  (no mapping)
                facts = json.loads(stored.metadata()["facts"])
            if facts["kind"] != _KIND:
                raise KeyError(_KIND)
            components = PrincipalComponents(tensors["mean"], tensors["directions"], tuple(facts["explained"]))
            foreground = None
            if "threshold" in facts:
                foreground = ForegroundSplit(
                    tensors["foreground_mean"], tensors["foreground_direction"], facts["threshold"]
                )
            return cls(components, tensors["low"], tensors["high"], foreground, facts["model"])
        except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
            raise UserInputError(
                f"--basis '{file}' is no basis of PCA colours; type the pca_basis.safetensors that synclr "
                "visualize wrote"
            ) from error


@torch.inference_mode()
def fit_pca_basis(
    maps: Sequence[Tensor] | Tensor, *, threshold: float | str | None = None, clipped: float = 0.02, model: str = ""
) -> PcaBasis:
    """Find the colours that the patches of several pictures have in common.

    Signs are fixed so that the largest entry of each direction is positive, and scales come from the quantiles
    `clipped` and 1 - `clipped` over all patches, so that a few odd patches do not grey out the rest. The paper does
    not say how it scales the components.

    Args:
        maps: (h, w, D) features of each picture; h and w may differ, D >= 3.
        threshold: splits off the background first, and the colours are those of the foreground alone (DINOv2's
            figure): see `foreground_split`. `None`: all patches, as in the SynCLR paper.
        clipped: share of the patches that may be clipped at either end of each colour.
        model: name of the encoder, kept with the basis.

    Raises:
        UserInputError: fewer than three patches are foreground.
    """
    split = None if threshold is None else foreground_split(maps, threshold)
    flat = torch.cat([patches.flatten(0, 1) for patches in maps])
    if split is not None:
        flat = flat[split.is_foreground(flat)]
    if len(flat) < 3:
        raise UserInputError(
            f"--threshold {threshold} leaves {len(flat)} foreground patches, colours need 3; "
            "type a lower number, e.g. --threshold 0"
        )
    components = principal_components(flat, 3)
    ordered = components.scores(flat).sort(dim=0).values
    last = len(ordered) - 1
    low, high = ordered[round(clipped * last)], ordered[round((1 - clipped) * last)]
    return PcaBasis(components, low, high, split, model)
