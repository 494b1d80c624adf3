"""Run train, forest or evaluate under Hydra, once or as a multirun."""

import importlib
import os
import shutil
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from hwr import __version__
from hwr.cli.commands import deferred_stop, report_error, signals
from hwr.config.compose import VERSION_BASE, config_dir, initialize_hydra, plain, shorten_error
from hwr.config.overrides import quote_text
from hwr.errors import ConfigError, RunError
from hwr.files import file_lock
from hwr.runs import records, sweep

TASKS = {
    "train": "hwr.training.train",
    "forest": "hwr.baselines.forest",
    "evaluate": "hwr.training.evaluate",
}

OmegaConf.register_new_resolver(
    "hwr_output_subdir",
    lambda folder, mode: records.output_subdir(folder, mode == RunMode.MULTIRUN),
    replace=True,
)


class Checks(Callback):
    """Check all settings before anything is written, and before torch is imported."""

    folder: ClassVar[Path | None] = None  # of a single run
    planned: ClassVar[sweep.Sweep | None] = None  # a multirun

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Check a single run."""
        with _raised_through_hydra():
            if name := config.hydra.runtime.choices.get("sweep"):
                raise ConfigError(f"sweep={name} makes several runs; add -m")
            settings = config.copy()
            folder = sweep.check_run(settings)
            config.hydra.run.dir = str(folder)  # ${now:...} no longer changes
            records.check_free(folder.absolute(), settings)
            Checks.folder = folder.absolute()

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Check all jobs of a multirun."""
        with _raised_through_hydra():
            Checks.planned = sweep.plan(config, kwargs["config_name"])


@contextmanager
def _raised_through_hydra() -> Iterator[None]:
    """Raise errors as an exit; Hydra prints others of a job, and makes warnings of a callback's."""
    try:
        yield
    except Exception as error:
        raise SystemExit(2) from error


def launch(name: str) -> int:
    """Run a task under Hydra with the settings of the command line.

    Args:
        name: `train`, `forest` or `evaluate`, which is the primary config as well.

    Returns:
        0, or 1 if a job of a multirun failed.

    Raises:
        UserError: A setting is wrong, or the task raised it.
    """
    if "--version" in sys.argv[1:]:  # Hydra's own option prints Hydra's version
        print(f"hwr-{name} {__version__}")
        return 0
    if any(word.startswith("--e") for word in sys.argv[1:]):
        raise ConfigError("--experimental-rerun would load a pickle; repeat the command line")
    sys.argv[1:] = quote_text(sys.argv[1:])
    # Kept beside it for the processes of trainer=ddp, which inherit what is set below.
    os.environ.setdefault("HWR_FULL_ERROR", os.environ.get("HYDRA_FULL_ERROR", ""))
    if "SLURM_STEP_ID" not in os.environ:  # not started by srun, so there is no other process
        os.environ.pop("SLURM_NTASKS", None)
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra raises exceptions instead of printing them
    threading.excepthook = _report_thread_error
    warnings.filterwarnings("ignore", "Image size")  # Pillow's; such images are rejected
    try:
        hydra.main(str(config_dir()), name, **VERSION_BASE)(partial(_run_job, name))()
    except BaseException as end:
        error = end.__cause__ if isinstance(end, SystemExit) and end.__cause__ else end
        if Checks.planned and (signals or isinstance(error, KeyboardInterrupt)):
            message = (isinstance(error, KeyboardInterrupt) and str(error)) or "stopped"
            way = f"the same line with hydra.sweep.dir={Checks.planned.folder} goes on"
            raise KeyboardInterrupt(f"{message}; {way}") from end
        if isinstance(error, HydraException | OmegaConfBaseException | YAMLError):
            with initialize_hydra():
                raise ConfigError(shorten_error(error, name, sys.argv[1:])) from error
        if isinstance(error, OSError) and not error.filename:  # of a full disk
            folder = (Checks.planned or Checks).folder
            error.filename = folder and str(folder)
        # Optuna raises a ValueError where no trial succeeded; the sentence below names them.
        if not (isinstance(error, ValueError) and Checks.planned and Checks.planned.failures()):
            raise error from error.__cause__
    finally:
        if Checks.folder:
            _remove_unused(Checks.folder)
    failed = Checks.planned.failures() if Checks.planned else None
    if failed:
        print(f"hwr-{name}: {failed}", file=sys.stderr)
    return 1 if failed else 0


def _remove_unused(folder: Path) -> None:
    """Remove a run folder to which nothing but Hydra's files was written."""
    with suppress(OSError):  # there is no such folder
        if os.listdir(folder) == [".hydra"]:
            shutil.rmtree(folder / ".hydra")
        folder.rmdir()


def _run_job(name: str, config: DictConfig) -> float | None:
    """Run a single run or a job of a multirun; the latter may be in another process.

    A job of a multirun is skipped if it is finished already; if it fails, the others go on.

    Returns:
        The metric that a search optimizes; None if there is none, or the job failed.
    """
    run: Any = HydraConfig.get()
    folder = Path(run.runtime.output_dir)
    # Imported only now: torch takes seconds, and help or a misspelt setting needs none of it.
    with deferred_stop():
        task = getattr(importlib.import_module(TASKS[name]), name)
    if run.mode != RunMode.MULTIRUN:
        with _raised_through_hydra():
            task(config, folder)
        return None
    try:
        metrics = sweep.find_finished(folder, config)
        if metrics is not None:
            print(f"{folder} is done already")
        else:
            metrics = task(config, folder)
        return sweep.optimized_metric(config, metrics)
    except Exception as error:
        if signals:  # a library has made an error of the stop
            raise KeyboardInterrupt from error
        if isinstance(error, OSError):
            error.filename = error.filename or str(folder)
        report_error(f"hwr-{name}: job {run.job.num}", error)
        # On a full disk the job stays unfinished, and so it does where another process has it.
        with suppress(OSError, RunError), file_lock(folder, RunError()):
            records.mark_failed(folder, plain(config), error)
        return None


def _report_thread_error(failure: threading.ExceptHookArgs) -> None:
    """Print nothing where TensorBoard's thread can't write; the main thread raises it again."""
    if not isinstance(failure.exc_value, OSError):
        threading.__excepthook__(failure)
