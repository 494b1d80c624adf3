"""The commands that Hydra runs: train, forest and evaluate; once, or as a multirun."""

import importlib
import os
import shutil
import sys
import threading
import traceback
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from hwr.cli import stopping
from hwr.config.compose import VERSION_BASE, config_dir, hydra_ready, plain, sentence
from hwr.errors import ConfigError, RunError, UserError, printable
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

    planned: ClassVar[sweep.Sweep | None] = None  # the multirun of this process
    composing: ClassVar[bool] = True  # whatever is raised by then comes from the settings
    made: ClassVar[list[Path]] = []  # folders that Hydra makes for a single run, innermost first

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Check a single run."""
        Checks.composing = False
        with _passed_on():
            if name := config.hydra.runtime.choices.get("sweep"):
                raise ConfigError(f"sweep={name} makes several runs; add -m")
            settings = config.copy()
            config.hydra.run.dir = str(sweep.check_run(settings))  # ${now:...} no longer changes
            folder = Path(config.hydra.run.dir).absolute()
            records.check_free(folder, settings)
            Checks.made = [path for path in (folder, *folder.parents) if not path.exists()]

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Check all jobs of a multirun."""
        Checks.composing = False
        with _passed_on():
            Checks.planned = sweep.plan(config, kwargs["config_name"])


def launch(name: str) -> None:
    """Run a task under Hydra with the settings of the command line.

    Exit codes: 0; 1 for an unexpected error, and where a job of a multirun failed; 2 for a user's
    mistake.

    Args:
        name: `train`, `forest` or `evaluate`, which is the primary config as well.
    """
    program, code = f"hwr-{name}", 0
    if any(word.startswith("--e") for word in sys.argv[1:]):
        sys.exit(_report(program, ConfigError("--experimental-rerun would load a pickle")))
    # Kept beside it for the processes of trainer=ddp, which inherit what is set below.
    os.environ.setdefault("HWR_FULL_ERROR", os.environ.get("HYDRA_FULL_ERROR", ""))
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra passes exceptions on instead of printing them
    threading.excepthook = _report_of_thread
    warnings.filterwarnings("ignore", "Image size")  # Pillow's; such images are rejected
    try:
        hydra.main(str(config_dir()), name, **VERSION_BASE)(partial(_job, name))()
    except BaseException as end:
        stopped = isinstance(end, KeyboardInterrupt)
        if Checks.planned and (stopped or stopping.received):  # Lightning may make an exit of it
            way = f"the same line with hydra.sweep.dir={Checks.planned.folder} goes on"
            raise KeyboardInterrupt(f"{(stopped and str(end)) or 'stopped'}; {way}") from end
        error = end.__cause__ if isinstance(end, SystemExit) else end
        if not isinstance(error, Exception):
            raise
        folder = Checks.planned.folder if Checks.planned else next(iter(Checks.made), None)
        code = _report(program, error, folder, name)
    finally:
        _remove_unused(Checks.made)
    if Checks.planned and (failed := Checks.planned.failures()):
        print(f"{program}: {failed}", file=sys.stderr)
        code = 1
    sys.exit(code)


def _remove_unused(made: Sequence[Path]) -> None:
    """Remove a run folder in which nothing but Hydra's files was written, and its new parents."""
    if not made:
        return
    # OSError: a folder that isn't empty, or was never made. RunError: another process has it.
    with suppress(OSError, RunError), file_lock(made[0], RunError()):
        if os.listdir(made[0]) == [".hydra"]:
            shutil.rmtree(made[0] / ".hydra")
        for path in made:
            path.rmdir()


@contextmanager
def _passed_on() -> Iterator[None]:
    """Pass errors on as an exit: Hydra makes warnings of other exceptions of a callback."""
    try:
        yield
    except Exception as error:
        raise SystemExit(2) from error


def _job(name: str, config: DictConfig) -> float | None:
    """Run a single run or a job of a multirun; the latter may be in another process."""
    Checks.composing = False  # in a job's own process
    run: Any = HydraConfig.get()
    folder = Path(run.runtime.output_dir)
    if run.mode == RunMode.MULTIRUN:
        return _job_of_many(name, config, folder)
    with _passed_on():
        _task(name)(config, folder)
    return None


def _job_of_many(name: str, config: DictConfig, folder: Path) -> float | None:
    """Run a job unless it is done already; if it fails, the others go on.

    Returns:
        The metric that a search optimizes; None if there is none, or the job failed.
    """
    ours = False
    try:
        metrics = sweep.find_finished(folder, config)
        ours = True
        if metrics is not None:
            print(f"{folder} is done already")
        else:
            metrics = _task(name)(config, folder)
        return sweep.optimized_metric(config, metrics)
    except Exception as error:
        _report(f"hwr-{name}: job {HydraConfig.get().job.num}", error, folder)
        # On a full disk the job stays unfinished, and so it does where another process has it.
        with suppress(OSError, RunError):
            if ours:
                with file_lock(folder, RunError()):
                    records.mark_failed(folder, plain(config), error)
        return None


def _task(name: str) -> Any:
    # Imported only now: torch takes seconds, and help or a misspelt setting needs none of it.
    return getattr(importlib.import_module(TASKS[name]), name)


def _report(what: str, error: Exception, folder: Path | None = None, name: str = "train") -> int:
    """Print a user's mistake as one sentence, any other error with its traceback.

    Args:
        what: The command, and the job.
        error: What went wrong.
        folder: Named where a full disk names no file.
        name: The primary config; a misspelt key is compared with its keys.

    Returns:
        The exit code.
    """
    if stopping.received:  # a library has made an error of the stop
        raise KeyboardInterrupt from error
    hydras = Checks.composing or isinstance(error, HydraException | OmegaConfBaseException)
    expected = hydras or isinstance(error, UserError | OSError)
    if os.environ.get("HWR_FULL_ERROR") or not expected:
        traceback.print_exception(error)
        return 2 if expected else 1
    text = str(error)
    if isinstance(error, OSError) and (where := error.filename or folder):
        text = f"{error.strerror}: {os.fsdecode(where)}"
    elif hydras and not isinstance(error, UserError):
        with nullcontext() if GlobalHydra().is_initialized() else hydra_ready():
            text = sentence(error, name, sys.argv[1:])
    print(f"{printable(f'{what}: {text}')}\n", end="", file=sys.stderr)  # in one write, for jobs
    return 2


def _report_of_thread(failure: threading.ExceptHookArgs) -> None:
    """Print nothing where TensorBoard's thread can't write: it passes the error on."""
    if not isinstance(failure.exc_value, OSError):
        threading.__excepthook__(failure)
