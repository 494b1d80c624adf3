"""The LightningModules of hwr's networks."""

from collections.abc import Sequence
from typing import Any, ClassVar

from torch import Tensor

from hwr.training.module import CharacterClassifier


class MLP(CharacterClassifier):
    """The notebook's MLP (`hwr.models.MLP`), trained by Keras' Adam."""

    target = "hwr.models.MLP"
    default_optimizer: ClassVar = {"_target_": "hwr.training.optimizers.KerasAdam", "lr": 5e-4}


class CNN(CharacterClassifier):
    """The notebook's CNN (`hwr.models.CNN`), trained by Keras' RMSprop."""

    target = "hwr.models.CNN"
    default_optimizer: ClassVar = {"_target_": "hwr.training.optimizers.KerasRMSprop", "lr": 5e-4}


class GlyphNet(CharacterClassifier):
    """`hwr.models.GlyphNet`, trained on single images and with writer context at once.

    Batches with a third part, the writer of each image, teach the writer context.
    """

    target = "hwr.models.GlyphNet"
    default_optimizer: ClassVar[dict[str, Any]] = {
        "_target_": "torch.optim.AdamW",
        "lr": 3e-3,
        "betas": [0.9, 0.99],
        "weight_decay": 0.05,
    }

    def training_step(self, batch: Sequence[Tensor], batch_idx: int) -> Tensor:
        """Add the loss of single images and that of images with writer context."""
        if len(batch) == 2:
            return super().training_step(batch, batch_idx)
        image, label, writer = batch
        logits, logits_with_context = self.model.forward_with_context(image, writer)
        self._train_outputs.append((logits.detach(), label))
        return self.loss(logits, label) + self.loss(logits_with_context, label)
