"""The protocols: name -> where it lives and what it needs. None of them is imported before it is used."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from synclr_hf.data.back_ends import load_object
from synclr_hf.errors import unknown_name

_HERE = "synclr_hf.evaluation.protocols"


@dataclass(frozen=True)
class Protocol:
    """Where a protocol lives, and what it needs.

    Attributes:
        module: its module; it has a frozen dataclass `Config`, plain settings with defaults, documented under
            `Attributes:`, and `evaluate(context: EvaluationContext, config: Config) -> Outcome`.
        needs: `labels` (a class a picture), `masks` (a class a pixel).
        uses: `features` (works on raw pixels, too), `patches` (patch tokens are needed), `model` (runs or trains it).
        told: what it does, for the help.
    """

    module: str
    needs: Literal["labels", "masks"]
    uses: Literal["features", "patches", "model"]
    told: str

    def config_class(self) -> type:
        """Return the dataclass of its settings."""
        return load_object(f"{self.module}:Config")

    def evaluate(self, context: Any, config: Any) -> Any:
        """Evaluate an encoder on a data set; see `EvaluationContext` and `Outcome`."""
        return load_object(f"{self.module}:evaluate")(context, config)


PROTOCOLS = {
    "knn": Protocol(f"{_HERE}.knn", "labels", "features", "votes of the nearest train pictures"),
    "linear": Protocol(f"{_HERE}.linear_probe", "labels", "features", "linear probe by SGD (paper B.2)"),
    "logistic": Protocol(
        f"{_HERE}.logistic", "labels", "features", "logistic regression, L2 chosen of 45 (paper B.5)"
    ),
    "few_shot": Protocol(f"{_HERE}.few_shot", "labels", "features", "1, 5 and 10 pictures a class"),
    "retrieval": Protocol(f"{_HERE}.retrieval", "labels", "features", "nearest pictures: mAP and recall@k"),
    "robustness": Protocol(f"{_HERE}.robustness", "labels", "features", "kNN accuracy on corrupted test pictures"),
    "finetune": Protocol(f"{_HERE}.fine_tuning", "labels", "model", "all weights trained (paper B.3)"),
    "lora": Protocol(f"{_HERE}.lora", "labels", "model", "adapters of peft trained, weights frozen"),
    "upernet": Protocol(f"{_HERE}.upernet", "masks", "model", "UperNet on all weights (paper B.4)"),
    "segment_linear": Protocol(f"{_HERE}.segment_linear", "masks", "patches", "a linear layer on frozen patch tokens"),
    "segment_knn": Protocol(f"{_HERE}.segment_knn", "masks", "patches", "votes of the nearest labelled patches"),
    "foreground": Protocol(
        f"{_HERE}.foreground", "masks", "patches", "does the first principal component find the things"
    ),
}


def protocol(name: str) -> Protocol:
    """Return a protocol by its name.

    Raises:
        UserInputError: there is none of that name.
    """
    if name not in PROTOCOLS:
        raise unknown_name("protocol", name, PROTOCOLS, "--protocols knn,linear")
    return PROTOCOLS[name]
