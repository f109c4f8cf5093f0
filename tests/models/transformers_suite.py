"""The model tests of transformers, on our classes; `test_transformers_suite.py` fetches them and runs this file."""

import unittest

import torch
from tests.test_backbone_common import BackboneTesterMixin
from tests.test_modeling_common import ModelTesterMixin

from synclr_hf.models import SynCLRBackbone, SynCLRConfig, SynCLRForImageClassification, SynCLRModel


class SynCLRModelTester:
    """Makes small configurations and inputs, as the mixins ask for them."""

    batch_size, image_size, patch_size, num_channels = 3, 32, 8, 3
    hidden_size, num_hidden_layers, num_attention_heads, num_labels = 32, 2, 4, 3
    is_training, num_masks, mask_length = True, 4, 16
    seq_length = 1 + (image_size // patch_size) ** 2

    def __init__(self, parent):
        self.parent = parent

    def get_config(self):
        return SynCLRConfig(
            hidden_size=self.hidden_size,
            num_hidden_layers=self.num_hidden_layers,
            num_attention_heads=self.num_attention_heads,
            image_size=self.image_size,
            patch_size=self.patch_size,
            num_channels=self.num_channels,
            initializer_range=0.02,
        )

    def prepare_config_and_inputs(self):
        size = (self.batch_size, self.num_channels, self.image_size, self.image_size)
        return self.get_config(), torch.rand(size), torch.randint(0, self.num_labels, (self.batch_size,))

    def prepare_config_and_inputs_for_common(self):
        config, pixel_values, _ = self.prepare_config_and_inputs()
        return config, {"pixel_values": pixel_values}


class VisionModelTests(ModelTesterMixin):
    test_resize_embeddings = False

    def setUp(self):
        self.model_tester = SynCLRModelTester(self)

    def test_model_get_set_embeddings(self):
        config, _ = self.model_tester.prepare_config_and_inputs_for_common()
        for model_class in self.all_model_classes:
            assert isinstance(model_class(config).get_input_embeddings(), torch.nn.Conv2d)


class SynCLRModelTest(VisionModelTests, unittest.TestCase):
    all_model_classes = (SynCLRModel, SynCLRBackbone)

    def setUp(self):
        super().setUp()
        self.model_tester.is_training = False  # no loss of their own


class SynCLRForImageClassificationTest(VisionModelTests, unittest.TestCase):
    all_model_classes = (SynCLRForImageClassification,)

    def _prepare_for_class(self, inputs_dict, model_class, return_labels=False):
        inputs = super()._prepare_for_class(inputs_dict, model_class, return_labels)
        labels = torch.zeros(self.model_tester.batch_size, dtype=torch.long)
        return {**inputs, "labels": labels} if return_labels else inputs


class SynCLRBackboneTest(BackboneTesterMixin, unittest.TestCase):
    all_model_classes = (SynCLRBackbone,)
    config_class = SynCLRConfig
    has_attentions = True

    def setUp(self):
        self.model_tester = SynCLRModelTester(self)
