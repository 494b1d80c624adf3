"""Writer context: refine predictions by the other images of the same writer."""

import torch
from torch import Tensor, nn

MESSAGE, HIDDEN = 64, 256


class WriterContext(nn.Module):
    """Refine each image's logits by messages between images of one writer.

    A message depends on the class probabilities of sender and receiver and on the difference of
    their geometry: a c as tall as a certain a is no C. Messages are averaged, so the order of
    images doesn't matter; their number is an input too. Without other images the logits stay as
    they are.

    Args:
        num_classes: Number of classes, C.
        features: Size of an image's features, F.
        geometry: Size of its geometry, G.
    """

    def __init__(self, num_classes: int, features: int, geometry: int) -> None:
        super().__init__()
        self.receiver = nn.Linear(num_classes, MESSAGE, bias=False)
        self.sender = nn.Linear(num_classes, MESSAGE, bias=False)
        self.difference = nn.Linear(2 * geometry, MESSAGE)
        self.message = nn.Sequential(nn.GELU(), nn.Linear(MESSAGE, MESSAGE), nn.GELU())
        self.hidden = nn.Sequential(
            nn.Linear(MESSAGE + num_classes + features + 3 * geometry + 1, HIDDEN),
            nn.GELU(),
            nn.Dropout(0.1),
            nn.Linear(HIDDEN, HIDDEN),
            nn.GELU(),
        )
        self.correction = nn.Linear(HIDDEN, num_classes)
        nn.init.zeros_(self.correction.weight)  # at first the context changes nothing
        nn.init.zeros_(self.correction.bias)

    def forward(self, logits: Tensor, features: Tensor, geometry: Tensor, group: Tensor) -> Tensor:
        """Compute logits with context, shape (N, C).

        Args:
            logits: Of each image without context, shape (N, C).
            features: Shape (N, F).
            geometry: Shape (N, G).
            group: Writer of each image, shape (N,).
        """
        probability = logits.detach().softmax(1)
        same = group[:, None] == group
        count = same.sum(1, keepdim=True)
        others = ~torch.eye(len(same), dtype=torch.bool, device=same.device)
        receiver, sender = (same & others).nonzero(as_tuple=True)
        difference = geometry[receiver] - geometry[sender]
        messages = self.message(
            self.receiver(probability)[receiver]
            + self.sender(probability)[sender]
            + self.difference(torch.cat([difference, difference.abs()], 1))
        )
        message = messages.new_zeros(len(same), MESSAGE).index_add(0, receiver, messages)
        message = message / (count - 1).clamp(min=1)
        weight = same / count
        mean = weight @ geometry
        std = (weight @ geometry**2 - mean**2).clamp(min=1e-4).sqrt()
        deviation = geometry - mean
        inputs = [message, probability, features, geometry, deviation, deviation / (std + 0.1)]
        hidden = self.hidden(torch.cat([*inputs, count.log() / 4], 1))
        return logits + self.correction(hidden) * (count > 1)
