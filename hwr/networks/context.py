"""Reading with the writer in view: what the other pictures of one hand say of each."""

import torch
from torch import Tensor, nn

PAIR, JOINED = 64, 256


class Relation(nn.Module):
    """Corrects the logits of each picture by what every other one of its group says of it.

    One picture says to another: this is what I probably am, that is how much larger, higher up and
    heavier you are. A c that is as high as what is surely an a is no C. What all say is averaged,
    so their order doesn't matter; how many they are is told beside it. One picture alone keeps its
    logits.

    Args:
        classes: C.
        features: Numbers that say what a picture shows, F.
        geometry: Numbers that say how its ink lies, G.
    """

    def __init__(self, classes: int, features: int, geometry: int) -> None:
        super().__init__()
        self.own = nn.Linear(classes, PAIR, bias=False)
        self.other = nn.Linear(classes, PAIR, bias=False)
        self.apart = nn.Linear(2 * geometry, PAIR)
        self.says = nn.Sequential(nn.GELU(), nn.Linear(PAIR, PAIR), nn.GELU())
        self.known = nn.Linear(PAIR + classes + features + 3 * geometry + 1, JOINED)
        self.think = nn.Sequential(
            *(nn.GELU(), nn.Dropout(0.1)), nn.Linear(JOINED, JOINED), nn.GELU()
        )
        self.correction = nn.Linear(JOINED, classes)
        nn.init.zeros_(self.correction.weight)  # at first all is read as if alone
        nn.init.zeros_(self.correction.bias)

    def forward(self, logits: Tensor, features: Tensor, geometry: Tensor, group: Tensor) -> Tensor:
        """Logits in view of the group, shape (N, C).

        Args:
            logits: Of each picture alone, shape (N, C).
            features: Shape (N, F).
            geometry: Shape (N, G).
            group: Shape (N,); only whether two are equal counts.
        """
        probability = logits.detach().softmax(1)
        same = group[:, None] == group
        count = same.sum(1, keepdim=True)
        share = same / count
        mean = share @ geometry
        spread = (share @ geometry**2 - mean**2).clamp(min=1e-4).sqrt()
        usual = geometry - mean
        heard = self._heard(probability, geometry, same) / (count - 1).clamp(min=1)
        known = [heard, probability, features, geometry, usual, usual / (spread + 0.1)]
        thought = self.think(self.known(torch.cat([*known, count.log() / 4], 1)))
        changed = self.correction(thought)
        corrected: Tensor = logits + changed * (count > 1)
        return corrected

    def _heard(self, probability: Tensor, geometry: Tensor, same: Tensor) -> Tensor:
        """The sum of what the others say to each picture, shape (N, PAIR)."""
        itself = torch.eye(len(same), dtype=torch.bool, device=same.device)
        one, other = (same & ~itself).nonzero(as_tuple=True)
        apart = geometry[one] - geometry[other]
        said: Tensor = self.says(
            self.own(probability)[one]
            + self.other(probability)[other]
            + self.apart(torch.cat([apart, apart.abs()], 1))
        )
        return said.new_zeros(len(same), PAIR).index_add(0, one, said)
