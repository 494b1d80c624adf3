"""Learning-rate schedules."""

from torch.optim import Optimizer
from torch.optim.lr_scheduler import OneCycleLR


def one_cycle(optimizer: Optimizer, total_steps: int, pct_start: float = 0.25) -> OneCycleLR:
    """Build the one-cycle schedule of the learning rate alone (L. Smith, 2018).

    The learning rate of every parameter group is the highest of its cycle.

    Args:
        optimizer: With a learning rate for every parameter group.
        total_steps: Optimizer steps of the training.
        pct_start: Share of the steps in which the learning rate goes up.
    """
    if pct_start * total_steps == 1:
        pct_start = 0.0  # OneCycleLR divides by zero if the warm-up is a single step
    return OneCycleLR(
        optimizer,
        max_lr=[group["lr"] for group in optimizer.param_groups],
        total_steps=total_steps,
        pct_start=pct_start,
        cycle_momentum=False,
    )
