"""The encoder and its configuration, registered with the Auto classes of transformers."""

from transformers import AutoConfig, AutoModel  # first: `synclr_hf.registration` waits for these two

from .configuration_synclr import SynCLRConfig
from .modeling_synclr import SynCLRModel, SynCLRPreTrainedModel

__all__ = ["SynCLRConfig", "SynCLRModel", "SynCLRPreTrainedModel"]

AutoConfig.register(SynCLRConfig.model_type, SynCLRConfig, exist_ok=True)
AutoModel.register(SynCLRConfig, SynCLRModel, exist_ok=True)
