"""Training an encoder on labelled pictures: what fine-tuning (paper B.3) and LoRA share.

settings -> data (crops, RandAugment) -> trainer (erasing, mixup and cutmix on the device) -> EMA -> scores
"""
