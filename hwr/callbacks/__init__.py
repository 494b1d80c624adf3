"""Lightning callbacks of hwr; all work with any LightningModule and Trainer."""

from hwr.callbacks.checkpoints import AtomicCheckpointIO, SaveCard
from hwr.callbacks.guards import NothingChosenByTest, StopOnNaN
from hwr.callbacks.plots import Plots
from hwr.callbacks.seeding import SeedEachEpoch

__all__ = [
    "AtomicCheckpointIO",
    "NothingChosenByTest",
    "Plots",
    "SaveCard",
    "SeedEachEpoch",
    "StopOnNaN",
]
