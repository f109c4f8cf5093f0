"""Pre-training: model, arguments, Trainer."""

from .arguments import SynCLRTrainingArguments
from .configuration_pretraining import SynCLRPreTrainingConfig
from .modeling_pretraining import SynCLRForPreTraining, SynCLRForPreTrainingOutput
from .trainer import SynCLRTrainer, last_complete_checkpoint

__all__ = [
    "SynCLRForPreTraining",
    "SynCLRForPreTrainingOutput",
    "SynCLRPreTrainingConfig",
    "SynCLRTrainer",
    "SynCLRTrainingArguments",
    "last_complete_checkpoint",
]
