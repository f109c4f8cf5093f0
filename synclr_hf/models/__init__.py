"""The encoder and its configuration, registered with the Auto classes of transformers."""

from transformers import AutoConfig, AutoModel
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from .configuration_synclr import SynCLRConfig
from .modeling_synclr import SynCLRModel, SynCLRPreTrainedModel

__all__ = ["SynCLRConfig", "SynCLRModel", "SynCLRPreTrainedModel"]


def register() -> None:
    """Register the classes, so that `AutoModel.from_pretrained` finds them after `import synclr_hf`."""
    if SynCLRConfig.model_type not in CONFIG_MAPPING:
        AutoConfig.register(SynCLRConfig.model_type, SynCLRConfig)
        AutoModel.register(SynCLRConfig, SynCLRModel)


register()
