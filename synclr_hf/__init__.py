"""Learning to see from generated data (SynCLR), on the Hugging Face stack.

After `import synclr_hf`, `AutoConfig` and `AutoModel` of transformers know the encoder.
"""

from synclr_hf.registration import register_with_transformers

__version__ = "0.1.0"

register_with_transformers()
