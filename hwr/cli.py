"""What the commands share: settings from the command line, and mistakes as one sentence."""

import argparse
import importlib
import os
import sys
import threading
import traceback
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

import hydra
from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from hwr import folders, sweep
from hwr.config import VERSION_BASE, config_dir, plain, resolve
from hwr.errors import RunError, UserError, printable
from hwr.files import alone


def train() -> None:
    """The command hwr-train."""
    _launch("train")


def forest() -> None:
    """The command hwr-forest."""
    _launch("forest")


def evaluate() -> None:
    """The command hwr-evaluate."""
    _launch("evaluate")


def _launch(name: str) -> None:
    """Run `hwr.NAME.NAME` under Hydra, once or as a multirun, with the command line's settings.

    Every setting of every job is checked before the first starts. Exit codes: 0; 1 where a job
    of a multirun failed; 2 for a mistake of the user; 130 after Ctrl-C, 143 after SIGTERM.
    """
    program = f"hwr-{name}"
    # Noted beside it, for the processes of trainer=ddp, which inherit what is set below.
    asked = os.environ.get("HYDRA_FULL_ERROR", "")
    full_error = bool(os.environ.setdefault("HWR_FULL_ERROR", asked))
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra hands errors on instead of printing them
    codes: list[int] = []
    made: set[Path] = set()

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "os.mkdir" and not os.path.exists(arguments[0]):
            made.add(Path(os.path.abspath(os.fsdecode(arguments[0]))))

    def job(composed: DictConfig) -> float | None:
        if HydraConfig.get().mode == RunMode.MULTIRUN:  # it may run in another process
            return _job_of_many(name, composed, full_error)
        folder = Path(HydraConfig.get().runtime.output_dir)
        try:
            _task(name)(resolve(composed), folder)
        except Exception as error:
            codes.append(_code(error))
            _report(program, error, full_error, folder)
        finally:
            _remove_empty(folder, made)
        return None

    parser = get_args_parser()
    parser.error = lambda message: _end(f"{program}: {message}", 2)  # type: ignore[method-assign]
    arguments = parser.parse_args()
    sys.addaudithook(watch)
    threading.excepthook = _report_of_thread
    warnings.filterwarnings("ignore", "Image size")  # Pillow's; such pictures are refused
    if arguments.experimental_rerun:
        _end(f"{program}: --experimental-rerun would load a pickle, which can run code", 2)
    planned = None
    try:
        if not (arguments.help or arguments.hydra_help or arguments.info):
            planned = _check(arguments, name)
        decorate = hydra.main(str(config_dir()), name, **VERSION_BASE)
        decorate(job)()
    except KeyboardInterrupt as stop:
        way = f"; the same line with hydra.sweep.dir={planned.folder} goes on" if planned else ""
        raise type(stop)(f"{str(stop) or 'stopped'}{way}") from stop
    except Exception as error:
        if planned is None or not any(folder.exists() for folder in planned.runs):
            if isinstance(error, HydraException | OmegaConfBaseException) and not full_error:
                lines = [line.strip() for line in str(error).splitlines() if line.strip()]
                _end(f"{program}: {'; '.join(lines)}", 2)
            _report(program, error, full_error)
            sys.exit(_code(error))
        codes.append(1)
        if full_error:
            _report(program, error, full_error)
        else:  # what the engine says of a job that was killed, for one
            print(
                f"{program}: {type(error).__name__}: {next(iter(str(error).splitlines()), '')}",
                file=sys.stderr,
            )
    if planned and (failed := sweep.outcome(planned)):
        _end(f"{program}: {failed}", 1)
    if codes:
        sys.exit(codes[0])


def _check(arguments: argparse.Namespace, name: str) -> sweep.Sweep | None:
    """Check all that is going to run; a multirun's command line gets what makes it resumable."""
    if arguments.shell_completion:
        return None
    overrides = list(arguments.overrides)
    if arguments.config_dir:
        folder = Path(arguments.config_dir).resolve()
        overrides.append(f"hydra.searchpath=[file://{folder}]")
    planned = sweep.check(arguments.config_name or name, overrides, not arguments.multirun)
    if planned is None or arguments.cfg:
        return None
    if arguments.overrides:  # beside the others: argparse takes only neighbours
        place = len(sys.argv) - sys.argv[::-1].index(arguments.overrides[-1])
    else:
        place = 1
    sys.argv[place:place] = planned.settings
    return planned


def _task(name: str) -> Any:
    # Imported only now: torch takes seconds, and help or a typo needs none of it.
    return getattr(importlib.import_module(f"hwr.{name}"), name)


def _job_of_many(name: str, composed: DictConfig, full_error: bool) -> float | None:
    """A job of a multirun, unless it is done already; if it fails, the others go on.

    Returns:
        The figure that a search is after; None if there is none, or the job failed.
    """
    folder = Path(HydraConfig.get().runtime.output_dir)
    number = HydraConfig.get().job.num
    ours = False
    try:
        config = resolve(composed)
        metrics = sweep.earlier(folder, config)
        ours = True
        if metrics is not None:
            print(f"{folder} is done already")
        else:
            metrics = _task(name)(config, folder)
        return sweep.objective(config, metrics)
    except Exception as error:
        _report(f"hwr-{name}: job {number}", error, full_error, folder)
        # On a full disk the job stays unfinished, and so it does where another process has it.
        with suppress(OSError, RunError):
            if ours:
                with alone(folder, RunError()):
                    folders.mark_failed(folder, plain(config), error)
        return None


def _remove_empty(folder: Path, made: set[Path]) -> None:
    """Remove a folder that stayed empty, and those above it, if this process made them."""
    with suppress(OSError):  # not empty
        while folder in made:
            folder.rmdir()
            folder = folder.parent


def _report(what: str, error: Exception, full: bool, folder: Path | None = None) -> None:
    """A user's mistake as one sentence; anything else, or if asked for, with its traceback.

    Args:
        what: The command, and the job.
        error: What went wrong.
        full: Whether the traceback is asked for.
        folder: What a full disk is told of that names no file.
    """
    if full or not isinstance(error, UserError | OSError):
        traceback.print_exception(error)
        return
    said = f"{what}: {error}"
    if isinstance(error, OSError) and (where := error.filename or folder):
        said = f"{what}: {error.strerror}: {os.fsdecode(where)}"
    print(f"{printable(said)}\n", end="", file=sys.stderr)  # whole: other processes write as well


def _report_of_thread(failure: threading.ExceptHookArgs) -> None:
    """Nothing where TensorBoard's thread can't write: it hands the error on to the main one."""
    if not isinstance(failure.exc_value, OSError):
        threading.__excepthook__(failure)


def _code(error: Exception) -> int:
    return 2 if isinstance(error, UserError | OSError) else 1


def _end(sentence: str, code: int) -> NoReturn:
    print(sentence, file=sys.stderr)
    sys.exit(code)
