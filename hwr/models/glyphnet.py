"""The network of our own and how it is trained: alone and in view of the writer at once."""

import math
from collections.abc import Sequence
from typing import Any

from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR

from hwr.batches import Batch
from hwr.models.base import CharacterClassifier
from hwr.networks.glyphnet import GlyphNetwork

RISE = 0.25
"""Share of the steps in which the learning rate goes up."""


class GlyphNet(CharacterClassifier):
    """`GlyphNetwork`, trained by AdamW over one cycle of the learning rate (L. Smith, 2018).

    The loss is that of the pictures read alone and that of the pictures read in groups of one hand.

    Args:
        alphabet: Class names in label order.
        size: Height and width of a picture, at least 16.
        preprocessing: How a picture becomes an array.
        lr: The highest learning rate of the cycle.
        weight_decay: Of kernels; biases and scales have none.
        label_smoothing: Share of the target that is spread over all classes.
        width: Times the usual channels.
        dropout: Share of values dropped before the features.
        temperature: Logits are divided by it when reading.
        views: Under so many other views a picture is looked at when reading.
        body: `own` convolutions, or those of `lcnet`.
        body_lr: Times `lr`, of the convolutions.
    """

    network: GlyphNetwork

    def __init__(
        self,
        alphabet: Sequence[str],
        size: Sequence[int] = (48, 64),
        preprocessing: str = "notebook",
        lr: float = 3e-3,
        weight_decay: float = 0.05,
        label_smoothing: float = 0.1,
        width: float = 1.0,
        dropout: float = 0.0,
        temperature: float = 1.0,
        views: int = 0,
        body: str = "own",
        body_lr: float = 1.0,
    ) -> None:
        super().__init__(
            alphabet, GlyphNetwork(len(alphabet), size, width, dropout, temperature, views, body)
        )
        self.save_hyperparameters(logger=False)
        self.lr, self.weight_decay, self.label_smoothing = lr, weight_decay, label_smoothing
        self.body_lr = body_lr

    def _loss(self, batch: Batch) -> Tensor:
        """The mean cross-entropy of a batch read alone, plus that of it read together."""
        image, label, group = batch
        alone, seen = self.network.together(image, group)
        self._seen.add(alone.detach(), label)
        wrong = nn.CrossEntropyLoss(label_smoothing=self.label_smoothing)
        loss: Tensor = wrong(alone, label) + wrong(seen, label)
        return loss

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """AdamW, its learning rate going up for a quarter of the steps and down to zero."""
        slow = self.body_lr * self.lr
        groups: list[dict[str, Any]] = []  # of one rate two, as in checkpoints of before
        for lr in dict.fromkeys((self.lr, slow)):
            weights = [
                weight
                for name, weight in self.named_parameters()
                if lr == (slow if name.startswith("network.body.") else self.lr)
            ]
            kernels = [weight for weight in weights if weight.ndim > 1]
            others = [weight for weight in weights if weight.ndim < 2]
            groups.append({"params": kernels, "lr": lr})
            groups.append({"params": others, "lr": lr, "weight_decay": 0.0})
        optimizer = AdamW(
            groups,
            lr=self.lr,
            betas=(0.9, 0.99),
            weight_decay=self.weight_decay,
            # Lightning refuses to clip what a fused optimiser might unscale, even in bfloat16.
            fused=not self.trainer.gradient_clip_val or None,
        )
        steps = int(self.trainer.estimated_stepping_batches)
        cycle = LambdaLR(optimizer, lambda step: height((step + 1) / (steps + 1)))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": cycle, "interval": "step"}}


def height(share: float) -> float:
    """Of the learning rate's one cycle, 0 to 1: straight up, then down by half a cosine.

    Args:
        share: Of the cycle that lies behind, 0 to 1.
    """
    if share < RISE:
        return share / RISE
    return 0.5 + 0.5 * math.cos(math.pi * min(1.0, (share - RISE) / (1 - RISE)))
