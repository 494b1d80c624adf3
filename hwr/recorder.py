"""Lightning callbacks: the curves and checkpoints of a run, and a progress bar."""

import io
import json
import math
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import torch
from lightning_fabric.plugins import TorchCheckpointIO
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.callbacks import Checkpoint
from torch import Tensor
from torch.optim import Optimizer
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from hwr import sheets, tensorboard
from hwr.batches import Batch, Batches, Bundles, listed
from hwr.datamodule import CharacterData
from hwr.errors import RunError
from hwr.files import whole
from hwr.models.base import CharacterClassifier
from hwr.run import still_there
from hwr.schema import ReportConfig

LISTED = 100
"""Pictures that a message names."""


class WholeCheckpointIO(TorchCheckpointIO):
    """Writes checkpoints beside their place and renames them."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None
    ) -> None:
        """Write a checkpoint; the old one stays whole until the new one is."""
        content = io.BytesIO()  # torch's own writer doesn't say why a disk takes no more
        torch.save(checkpoint, content)
        with whole(Path(path)) as beside:
            beside.write_bytes(content.getbuffer())


class Recorder(Checkpoint):
    """After every epoch: a point of each curve, and `checkpoints/last.ckpt`.

    Curves beside loss and accuracies, where asked for: `lr` and `grad_norm` (L2 over all weights,
    mean over the batches), `epoch_seconds` (validation included), `pictures_per_second` (training).

    The curves travel in the checkpoint, so a resumed run has them whole, in any folder.

    Args:
        folder: The run folder.
        identity: What must be the same in a resumed run, plain values.
        card: What else a checkpoint says of the run, plain values.
        monitor: Validation figure whose best epoch is kept as `checkpoints/best.ckpt`.
        report: What TensorBoard shows beside the curves of loss and accuracies.
    """

    def __init__(
        self,
        folder: Path,
        identity: dict[str, Any],
        monitor: str | None,
        card: dict[str, Any],
        report: ReportConfig,
    ) -> None:
        self.last, self.best = folder / "checkpoints/last.ckpt", folder / "checkpoints/best.ckpt"
        self.folder, self.identity, self.monitor, self.card = folder, identity, monitor, card
        self.report = report
        self.history: list[dict[str, float]] = []
        self._lines: list[str] = []  # the same as JSON: a pickle takes time for every number
        self.seconds_before = 0.0
        self._writer: SummaryWriter | None = None
        self._started = self._epoch_started = self._trained = time.perf_counter()
        self.begun = self._validated = self._shown = False
        self._lr, self._pictures, self._batch = 0.0, 0, 0
        self._norms, self._steps = torch.empty(0, 0), 0

    @property
    def writer(self) -> SummaryWriter:
        """The event file of the run."""
        if self._writer is None:
            self._writer = tensorboard.open_events(self.folder)
        return self._writer

    @property
    def fit_seconds(self) -> float:
        """Wall time of the fit up to now, that before a resume included."""
        return self.seconds_before + time.perf_counter() - self._started

    @property
    def best_epoch(self) -> int:
        """The epoch, from 1, with the best monitored figure; the last without a monitor."""
        if self.monitor is None:
            return len(self.history)
        sign = 1 if self.monitor.endswith("loss") else -1
        figures = [sign * row.get(self.monitor, float("inf") * sign) for row in self.history]
        return figures.index(min(figures)) + 1

    def state_dict(self) -> dict[str, Any]:
        """Plain values for the checkpoint."""
        return {
            "history": self._lines,
            "fit_seconds": self.fit_seconds,
            "identity": self.identity,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over the curves of the run that is resumed."""
        rows = state_dict["history"]  # dictionaries in checkpoints from before there were lines
        self._lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
        self.history = [json.loads(line) for line in self._lines]
        self.seconds_before = state_dict["fit_seconds"]

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Let the checkpoint tell what a recogniser needs, and what came of the training."""
        last = self.history[-1] if self.history else {}
        figures = {name: value for name, value in last.items() if "/" in name}
        about = {**self.card["about"], "epochs": len(self.history), "figures": figures}
        checkpoint |= {**self.card, "about": about}
        # Whoever resumes may take batches singly.
        progress = checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]
        progress["current"] = dict.fromkeys(progress["current"], _epoch_batches(trainer))

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Let bundled steps and single ones go on with each other's count."""
        loop, steps = checkpoint["loops"]["fit_loop"], checkpoint["global_step"]
        single = loop["epoch_loop.automatic_optimization.optim_progress"]["optimizer"]["step"]
        for progress in (single, loop["epoch_loop.manual_optimization.optim_step_progress"]):
            progress["total"] = dict.fromkeys(("ready", "completed"), steps)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the curves up to now."""
        assert isinstance(pl_module, CharacterClassifier)
        self._started = time.perf_counter()
        if trainer.is_global_zero:
            tensorboard.write_layout(self.writer, pl_module.alphabet)
        for epoch, row in enumerate(self.history, start=1):
            self._write(trainer, row, epoch)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """What goes wrong from here on is no longer the settings' or a checkpoint's fault."""
        self.begun = True

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Dropout depends on seed and epoch alone, so a resumed run needs no state of it."""
        self._validated = False
        seed = self.identity["seed"] * 1_000_003 + trainer.current_epoch
        # torch's own keeps a stack trace for a GPU that may come yet.
        on_cpu = trainer.strategy.root_device.type == "cpu"
        generator: Any = torch.default_generator if on_cpu else torch
        generator.manual_seed((seed + trainer.global_rank * 2**52) % 2**63)
        self._lr, self._pictures, self._batch = _lr(trainer), 0, 0
        self._steps = 0
        self._epoch_started = time.perf_counter()

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Batch | list[Batch], _: int
    ) -> None:
        """Show the first batch, as it reaches the network."""
        if self.report.images and not self._shown and trainer.is_global_zero:
            assert isinstance(pl_module, CharacterClassifier)
            self._shown = True
            image, label = (part.detach().cpu() for part in listed(batch)[0][:2])
            grey = (image[:, 0].float().clamp(0, 1) * 255).round().byte().numpy()
            epoch = trainer.current_epoch + 1
            png = sheets.batch(grey, label.numpy(), pl_module.alphabet, epoch)
            tensorboard.write_image(self.writer, "train/batch", png, epoch)

    def on_before_backward(
        self, trainer: Trainer, pl_module: LightningModule, loss: Tensor
    ) -> None:
        """Stop before a loss that is no number spoils the weights.

        Raises:
            RunError: Tells step, learning rate and pictures, and where the last good weights are.
        """
        self._batch += 1
        finite = math.isfinite(loss.item())
        if trainer.strategy.reduce_boolean_decision(finite):  # of all processes
            return
        epoch = trainer.current_epoch + 1
        where = f"at step {trainer.global_step + 1} (epoch {epoch}, batch {self._batch})"
        if finite:
            raise RunError(f"the loss of another process is no number {where}; it tells more")
        data = trainer.datamodule  # type: ignore[attr-defined]
        assert isinstance(data, CharacterData)
        names = data.names(_batches(trainer).rows(self._batch - 1))
        more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
        raise RunError(
            f"the loss is {float(loss.detach())} {where}, where the learning rate is "
            f"{_lr(trainer):.3g}; {self._last_good()}; "
            f"the batch holds {', '.join(names[:LISTED])}{more}"
        )

    def _last_good(self) -> str:
        if not self.last.exists():
            return "no epoch has ended, so no checkpoint is left"
        return f"the last good checkpoint is {self.last}"

    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer
    ) -> None:
        """Keep the norm of the gradients, put together when the epoch is over.

        In one block: thousands of small tensors would lie between the large ones of each step, and
        keep their memory from being used again.
        """
        if self.report.diagnostics:
            weights = [weight for group in optimizer.param_groups for weight in group["params"]]
            found = [weight.grad for weight in weights if weight.grad is not None]
            if not self._steps:
                self._norms = found[0].new_zeros(_epoch_batches(trainer), len(weights))
            norms = torch._foreach_norm(found)
            torch.stack(norms, out=self._norms[self._steps, : len(norms)])
            self._steps += 1

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, _: int
    ) -> None:
        """Count the pictures; the last batch's gradients are gone when validation starts."""
        self._pictures += sum(len(one[1]) for one in listed(batch)) * trainer.world_size
        self._trained = time.perf_counter()
        if self.report.histograms and trainer.is_last_batch and trainer.is_global_zero:
            tensorboard.write_weights(self.writer, pl_module, trainer.current_epoch + 1)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The validation figures are fresh."""
        self._validated = True

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Record the epoch.

        Raises:
            RunError: Weights, or a loss, are no numbers after its last step.
        """
        figures = trainer.callback_metrics
        valid = figures.get("val/loss", torch.zeros(()))
        losses = {"train/loss": figures["train/loss"], "val/loss": valid}
        for name, value in [*pl_module.state_dict().items(), *losses.items()]:
            if not value.isfinite().all():
                raise RunError(
                    f"{name} is not finite after epoch {trainer.current_epoch + 1}, step "
                    f"{trainer.global_step}, where the learning rate is {_lr(trainer):.3g}; "
                    f"{self._last_good()}"
                )
        row = {
            name: float(value)
            for name, value in figures.items()
            if name.startswith("train/") or self._validated
        }
        self.history.append(row | self._diagnostics())
        self._lines.append(json.dumps(self.history[-1]))
        epoch = len(self.history)
        if trainer.is_global_zero:
            still_there(self.folder)
        self._write(trainer, self.history[-1], epoch)
        if self.monitor is not None and self.best_epoch == epoch:
            trainer.save_checkpoint(self.best)
        trainer.save_checkpoint(self.last)

    def _diagnostics(self) -> dict[str, float]:
        """How the epoch went, beside what was learnt."""
        if not self.report.diagnostics:
            return {}
        return {
            "lr": self._lr,
            "grad_norm": float(self._norms[: self._steps].norm(dim=1).mean()),
            "epoch_seconds": time.perf_counter() - self._epoch_started,
            "pictures_per_second": self._pictures / (self._trained - self._epoch_started),
        }

    def _write(self, trainer: Trainer, row: dict[str, float], epoch: int) -> None:
        if trainer.is_global_zero:  # the first of several processes keeps the run folder
            tensorboard.write_scalars(self.writer, row, epoch)
            self.writer.flush()  # somebody may be watching

    def take_best_from(self, resumed: Path) -> None:
        """Bring the best checkpoint of the resumed run into this folder."""
        other = resumed.with_name("best.ckpt")
        if self.monitor is not None and other.is_file() and not self.best.exists():
            with whole(self.best) as beside:
                shutil.copyfile(other, beside)


def _batches(trainer: Trainer) -> Batches:
    loader = trainer.train_dataloader
    single = loader.batches if isinstance(loader, Bundles) else loader
    assert isinstance(single, Batches)
    return single


def _epoch_batches(trainer: Trainer) -> int:
    """Batches of an epoch, bundled or not."""
    bundled = isinstance(trainer.train_dataloader, Bundles)
    return len(_batches(trainer)) if bundled else int(trainer.num_training_batches)


def _lr(trainer: Trainer) -> float:
    """The learning rate of the next step."""
    return float(trainer.optimizers[0].param_groups[0]["lr"])


class ProgressBar(Callback):
    """One bar over all batches of the fit, where standard error is a terminal."""

    def __init__(self) -> None:
        self._bar: Any = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Open the bar."""
        batches = _epoch_batches(trainer)
        done, total = (
            epochs * batches for epochs in (trainer.current_epoch, trainer.max_epochs or 0)
        )
        hidden = not trainer.is_global_zero
        self._bar = tqdm(total=total, initial=done, unit="batch", disable=hidden)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Name the epoch."""
        self._bar.set_description(f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}")

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, _: int
    ) -> None:
        """Move the bar."""
        self._bar.update(len(listed(batch)))

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Show the validation accuracy."""
        if "val/acc" in trainer.callback_metrics:
            self._bar.set_postfix({"val/acc": f"{trainer.callback_metrics['val/acc']:.3f}"})

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Close the bar, also after an error."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None


def progress_bars() -> list[Callback]:
    """A bar where somebody looks."""
    return [ProgressBar()] if sys.stderr.isatty() else []
