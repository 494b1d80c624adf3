"""Lightning callbacks of hwr; all work with any LightningModule and Trainer."""

from hwr.callbacks.checkpoints import AtomicCheckpointIO as AtomicCheckpointIO
from hwr.callbacks.checkpoints import SaveCard as SaveCard
from hwr.callbacks.guards import NothingChosenByTest as NothingChosenByTest
from hwr.callbacks.guards import StopOnNaN as StopOnNaN
from hwr.callbacks.plots import Plots as Plots
from hwr.callbacks.seeding import SeedEachEpoch as SeedEachEpoch

__all__ = [
    "AtomicCheckpointIO",
    "NothingChosenByTest",
    "Plots",
    "SaveCard",
    "SeedEachEpoch",
    "StopOnNaN",
]
