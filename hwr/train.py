"""hwr-train: settings -> fit -> test -> run folder."""

import json
import logging
import math
import os
import signal
import warnings
from dataclasses import fields
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import numpy as np
import torch
from lightning_fabric.utilities.exceptions import MisconfigurationException
from numpy.typing import NDArray
from pytorch_lightning import LightningModule, Trainer, seed_everything
from torch import Tensor, nn
from torch.nn import functional

from hwr import checkpoint, memory, metrics, pretrained, report, run, tensorboard, together
from hwr.alphabet import Alphabet
from hwr.augment import changes
from hwr.batches import Batches
from hwr.config import nearest
from hwr.datamodule import CharacterData
from hwr.errors import ConfigError, RunError, UserError
from hwr.files import expanded
from hwr.models.base import CharacterClassifier
from hwr.models.cnn import CNN
from hwr.models.glyphnet import GlyphNet
from hwr.models.mlp import MLP
from hwr.recorder import Recorder, WholeCheckpointIO, progress_bars
from hwr.report import Finished
from hwr.schema import (
    AugmentConfig,
    CNNConfig,
    DataConfig,
    GlyphNetConfig,
    MLPConfig,
    ModelConfig,
    TrainConfig,
    TrainerConfig,
)
from hwr.stopping import unstopped

KINDS: dict[Any, str] = {
    **{bool: "true or false", int: "a whole number", float: "a fraction"},
    **{str: "a text", dict: "a dictionary", NoneType: "null"},
}
"""What a setting of Lightning's can be on a command line, in words."""
BUNDLE = 2**20
"""Pixels that are trained on in one of Lightning's steps."""


def train(config: TrainConfig, folder: Path) -> dict[str, Any]:
    """Fit a network, test it, and write its run folder.

    Args:
        config: The settings.
        folder: The run folder; it may exist, but must not hold a run unless that is resumed.

    Returns:
        What stands in `metrics.json`; nothing in all but the first of several processes.

    Raises:
        DataError: The data set is missing, broken, or cannot be split as asked.
        RunError: The folder holds a run, the checkpoint does not fit, a number is none, or the
            weights to begin with are missing.
        ConfigError: Lightning's Trainer refuses a setting.
        KeyboardInterrupt: Stopped; the message says how to go on.
    """
    _quiet()
    memory.keep()
    seed_everything(config.seed, verbose=False)
    grouped = isinstance(config.model, GlyphNetConfig)
    bundle = bundle_size(config)
    data = CharacterData(config.data, config.split, config.seed, config.augment, grouped, bundle)
    data.setup()
    model = build(config.model, data.alphabet, config.data)
    if not config.ckpt:
        pretrained.begin(model)
    model.automatic_optimization = bundle == 1
    if config.monitor and config.monitor.removeprefix("val/") not in (
        "loss",
        *metrics.Accuracies(data.alphabet).names,
    ):
        raise ConfigError(f"monitor={config.monitor} means nothing with the classes of this set")
    card = run.card(config, data.characters, data.parts)
    recorder = Recorder(folder, _identity(config, data), config.monitor, card, config.report)
    trainer = _trainer(config, recorder, validate=len(data.parts.val) > 0)
    resumed = expanded(config.ckpt) if config.ckpt else None
    if resumed:
        check_checkpoint(resumed, model, recorder, config.trainer.max_epochs)
        if config.monitor:  # read again at the end
            best = resumed.with_name("best.ckpt")
            check_checkpoint(best, model, recorder, config.trainer.max_epochs)
    if not trainer.is_global_zero:
        _fit(trainer, model, data, resumed, recorder, config.trainer)
        return {}
    with run.started(folder, config, resumed):
        if resumed:
            recorder.take_best_from(resumed)
        _fit(trainer, model, data, resumed, recorder, config.trainer)
        return _finish(config, folder, data, model, trainer, recorder)


def build(config: ModelConfig, alphabet: Alphabet, data: DataConfig) -> CharacterClassifier:
    """The network that the settings name, freshly initialised."""
    names, size, preprocessing = list(alphabet.names), [data.height, data.width], data.preprocessing
    match config:
        case MLPConfig():
            return MLP(names, size, preprocessing, config.lr, config.hidden)
        case CNNConfig():
            return CNN(
                *(names, size, preprocessing),
                *(config.lr, config.conv_dropout, config.dense_dropout, config.width),
            )
        case GlyphNetConfig():
            own = {name: value for name, value in vars(config).items() if name != "name"}
            return GlyphNet(names, size, preprocessing, **own)
    raise TypeError(f"no network for {type(config).__name__}")


def bundle_size(config: TrainConfig) -> int:
    """Batches for each of Lightning's steps, whose own work takes as long as a step of the MLP.

    One, where Lightning, or what is drawn at random, must come between the batches.
    """
    trainer, data = config.trainer, config.data
    alone = trainer.devices * trainer.num_nodes == 1 and trainer.strategy == "auto"
    told = _added(trainer) or any(name.startswith("PL_TRAINER_") for name in os.environ)
    as_usual = alone and trainer.precision == "32-true" and not told
    if isinstance(config.model, GlyphNetConfig) or changes(config.augment) or not as_usual:
        return 1
    return max(1, BUNDLE // (data.batch_size * data.height * data.width))


def _identity(config: TrainConfig, data: CharacterData) -> dict[str, Any]:
    """What a resumed run must share with its checkpoint."""
    return {
        "seed": config.seed,
        "monitor": config.monitor,
        "data.batch_size": config.data.batch_size,
        "augment": _augmented(config.augment),
        **_planned(config),
        "data.fingerprint": data.characters.fingerprint,
        **{f"split.{name}": value for name, value in run.plain(config.split).items()},
    }


def _augmented(config: AugmentConfig) -> dict[str, float] | None:
    """What the augmentation changes; None: nothing, as before there was one."""
    if not (changes(config) or config.drawn):
        return None
    return {name: far for name, far in vars(config).items() if name != "name" and far}


def _planned(config: TrainConfig) -> dict[str, int]:
    """One cycle of the learning rate is made for so many epochs and no more."""
    cycle = isinstance(config.model, GlyphNetConfig)
    return {"trainer.max_epochs": config.trainer.max_epochs} if cycle else {}


def check_checkpoint(path: Path, model: LightningModule, recorder: Recorder, epochs: int) -> None:
    """Refuse a checkpoint that would not continue this very run.

    Raises:
        RunError: It is missing, no checkpoint, of another model, alphabet, split or setting, or
            has more epochs behind it than are asked for.
    """
    found = checkpoint.read(path)
    checkpoint.network(path, found)
    try:
        # Checkpoints from before there were these say nothing of them.
        plain = {"width": 1.0, "body": "own", "body_lr": 1.0}
        saved = {"model": found["model"], **plain, **found["hyper_parameters"]}
        state = found["callbacks"][recorder.state_key]
        done, saved = len(state["history"]), json.loads(json.dumps({**saved, **state["identity"]}))
    except Exception as error:  # whatever a hostile file holds
        raise RunError(f"{path} is no checkpoint of hwr-train") from error
    wanted = {"model": type(model).__name__.lower(), **model.hparams}
    for name, value in {**wanted, **recorder.identity}.items():
        other = saved.get(name)
        if other == value:
            continue
        if name == "alphabet":
            count = len(other) if isinstance(other, list) else 0
            raise RunError(
                f"ckpt={path} reads another alphabet: {count} classes, "
                f"not the {len(value)} of this data set"
            )
        key = f"model.{name}" if name in wanted and name != "model" else name
        raise RunError(f"ckpt={path} was made with {key}={other}, but this run has {key}={value}")
    if done > epochs:
        raise RunError(f"ckpt={path} has {done} epochs, more than trainer.max_epochs={epochs}")


def _trainer(config: TrainConfig, recorder: Recorder, validate: bool) -> Trainer:
    """Lightning's Trainer with the settings, and any other that was added with a plus.

    Raises:
        ConfigError: The Trainer does not know a setting, or refuses its value.
    """
    ours: dict[str, Any] = {
        "callbacks": [recorder, *progress_bars()],
        "plugins": [WholeCheckpointIO()],
        "default_root_dir": recorder.folder,
        "logger": False,  # the recorder writes the events
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "num_sanity_val_steps": 0,
    }
    given = ({} if validate else {"limit_val_batches": 0}) | vars(config.trainer)
    known = get_type_hints(Trainer.__init__)
    added = _added(config.trainer)
    for name in given:
        if name not in known or name == "return":
            hint = nearest(name, known, "trainer.")
            raise ConfigError(f"Lightning's Trainer has no setting {name}{hint}")
        if name in ours:
            raise ConfigError(f"trainer.{name} is set by hwr-train itself; leave it out")
        if name in added:
            _check_kind(name, given[name], known[name])
    flags = {"true": True, "false": False}
    asked = config.trainer.deterministic.lower()  # Hydra makes True of true
    deterministic = flags.get(asked, asked)
    try:
        return Trainer(**{**ours, **given, "deterministic": deterministic})
    except Exception as error:  # of many kinds; all of them come from the settings
        raise _says(error, config.trainer) from error


def _added(trainer: TrainerConfig) -> dict[str, Any]:
    """The settings that only Lightning knows."""
    ours = {field.name for field in fields(trainer)}
    return {name: value for name, value in vars(trainer).items() if name not in ours}


def _check_kind(name: str, value: Any, annotation: Any) -> None:
    """Refuse what Lightning would take without a word, or stumble over in the midst of training.

    Raises:
        ConfigError: The value is of none of the annotated kinds; true is no number.
    """
    union = get_origin(annotation) in (Union, UnionType)
    kinds = [get_origin(one) or one for one in (get_args(annotation) if union else [annotation])]
    if not all(isinstance(kind, type) for kind in kinds):  # nothing that could be judged
        return
    wanted = (*kinds, *([int] if float in kinds else []))
    if not (bool in kinds if isinstance(value, bool) else isinstance(value, wanted)):
        words = [said for kind, said in KINDS.items() if kind in kinds]
        said = " or ".join([", ".join(words[:-1]), words[-1]] if words[1:] else words)
        raise ConfigError(f"trainer.{name}={value} must be {said}")


def _says(error: Exception, trainer: TrainerConfig) -> ConfigError:
    """Lightning's sentence, which may not name the setting, and what was added."""
    added = ", ".join(f"trainer.{name}={value}" for name, value in _added(trainer).items())
    told = f" (with {added})" if added else ""
    return ConfigError(f"Lightning's Trainer says: {' '.join(str(error).split())}{told}")


def _quiet() -> None:
    """Leave out what Lightning says of itself and a user can do nothing about."""
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", r"`isinstance\(treespec, LeafSpec\)` is deprecated")


def _fit(
    trainer: Trainer,
    model: CharacterClassifier,
    data: CharacterData,
    resumed: Path | None,
    recorder: Recorder,
    settings: TrainerConfig,
) -> None:
    try:
        trainer.fit(model, data, ckpt_path=resumed, weights_only=True)
    except SystemExit as end:  # what Lightning makes of a stop, Ctrl-C switched off
        signal.signal(signal.SIGINT, signal.default_int_handler)
        stop = end.__context__
        assert isinstance(stop, KeyboardInterrupt)
        way = f"; go on with ckpt={recorder.last}" if recorder.last.exists() else ""
        done = len(recorder.history)
        said = f"stopped after {done} epoch{'s' * (done != 1)}{way}"
        raise type(stop)(said) from stop
    except MisconfigurationException as error:
        raise _says(error, settings) from error
    except Exception as error:
        if recorder.begun or isinstance(error, UserError | OSError):
            raise
        if resumed:
            raise RunError(f"ckpt={resumed} is damaged: {type(error).__name__}") from error
        raise _says(error, settings) from error


def _finish(
    config: TrainConfig,
    folder: Path,
    data: CharacterData,
    model: CharacterClassifier,
    trainer: Trainer,
    recorder: Recorder,
) -> dict[str, Any]:
    """Test the network of the reported epoch and write what came out, in one process."""
    fit_seconds = recorder.fit_seconds
    model.zero_grad()
    memory.trim()  # what the steps have kept
    if config.monitor is not None:
        model.load_state_dict(checkpoint.read(recorder.best)["state_dict"])
    characters, parts = data.characters, data.parts
    figures: dict[str, Any] = {"model": config.model.name}
    scores: dict[str, Tensor] = {}
    for part in ("train", "val", "test"):
        rows = getattr(parts, part)
        if len(rows):
            logits = _logits(trainer, model, data.evaluation(rows))
            scores[part] = functional.log_softmax(logits, dim=1)
            label = data.label[rows]
            found = metrics.evaluate(scores[part], label, data.alphabet)
            figures |= {f"{part}/{name}": value for name, value in found.items()}
            if not math.isfinite(found["loss"]):
                raise RunError(
                    f"{part}/loss is {found['loss']}: the weights have grown too large; "
                    f"a lower learning rate than model.lr={config.model.lr:.3g} may help"
                )
    if isinstance(model, GlyphNet) and characters.writer is not None:
        image = torch.cat([image for image, *_ in data.test_dataloader()])
        rows, network = parts.test, model.network.cpu().float().eval()
        known = characters.label[rows], characters.writer[rows], characters.alphabet
        found = together.figures(network, together.look(network, image), *known)
        figures |= {f"test/{name}": value for name, value in found.items()}
    figures |= {
        "parameters": sum(weights.numel() for weights in model.parameters()),
        "epochs": len(recorder.history),
        "reported_epoch": recorder.best_epoch,
        "fit_seconds": fit_seconds,
    }
    test = scores["test"]
    looked = _looked_into(model, data)
    done = Finished(config, folder, characters, parts, figures, test, recorder.history, *looked)
    with memory.given_back():
        report.write(recorder.writer, done)
    if config.report.graph:
        image, _ = next(iter(data.test_dataloader()))
        with unstopped():  # torch's tracer makes its own error of whatever is raised in it
            tensorboard.write_graph(recorder.writer, model.network, image[:1])
    recorder.writer.close()
    predictions = run.rows_of(characters, parts.test, test)
    return run.finish(folder, config, characters, parts, figures, predictions)


@torch.no_grad()
def _looked_into(
    model: CharacterClassifier, data: CharacterData
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """What the last layer sees of the test pictures (N, D), and the first layer's weights."""
    model = model.cpu().float().eval()  # NumPy has no bfloat16
    features = torch.cat([model.network.features(image) for image, _ in data.test_dataloader()])
    first = next(layer for layer in model.modules() if isinstance(layer, nn.Linear | nn.Conv2d))
    shape = first.kernel_size if isinstance(first, nn.Conv2d) else model.hparams["size"]
    return features.numpy(), first.weight.reshape(-1, *shape).numpy()


@torch.inference_mode()
def _logits(trainer: Trainer, model: CharacterClassifier, batches: Batches) -> Tensor:
    """Logits (N, C), dropout off.

    Lightning's own predict would wait for the other processes, and count pictures twice.
    """
    device, precision = trainer.strategy.root_device, trainer.precision_plugin
    model.to(device).eval()
    with precision.forward_context():
        found = [model(precision.convert_input(image.to(device))) for image, _ in batches]
    return torch.cat(found).float().cpu()
