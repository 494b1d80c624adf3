"""Lightning callbacks of hwr; all work with any LightningModule and Trainer."""

from hwr.callbacks.nan_guard import StopOnNaN as StopOnNaN
from hwr.callbacks.plots import Plots as Plots
from hwr.callbacks.seeding import SeedEachEpoch as SeedEachEpoch

__all__ = ["Plots", "SeedEachEpoch", "StopOnNaN"]
