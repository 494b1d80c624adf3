"""What the commands share: settings from the command line, and mistakes as one sentence."""

import importlib
import itertools
import os
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

import hydra
from hydra import initialize_config_dir
from hydra._internal.utils import get_args_parser
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from hwr.config import VERSION_BASE, compose, config_dir, resolve
from hwr.errors import UserError, printable


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
    of a multirun failed; 2 for a mistake of the user; 130 after Ctrl-C.
    """
    program = f"hwr-{name}"
    full_error = "HYDRA_FULL_ERROR" in os.environ
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra hands errors on instead of printing them
    failed: list[str] = []
    codes: list[int] = []
    made: set[Path] = set()

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "os.mkdir" and not os.path.exists(arguments[0]):
            made.add(Path(os.path.abspath(os.fsdecode(arguments[0]))))

    def job(composed: DictConfig) -> None:
        folder = Path(HydraConfig.get().runtime.output_dir)
        sweeping = HydraConfig.get().mode == RunMode.MULTIRUN
        number = HydraConfig.get().job.num if sweeping else 0
        who = f"{program}: job {number}" if sweeping else program
        try:
            # Imported only now: torch takes seconds, and help or a typo needs none of it.
            task = getattr(importlib.import_module(f"hwr.{name}"), name)
            task(resolve(composed), folder)
        except Exception as error:  # the other jobs of a multirun go on
            failed.append(str(number))
            codes.append(1 if sweeping else _code(error))
            _report(who, error, full_error)
        finally:
            _remove_empty(folder, made)

    parser = get_args_parser()
    parser.error = lambda message: _end(f"{program}: {message}", 2)  # type: ignore[method-assign]
    arguments = parser.parse_args()
    sys.addaudithook(watch)
    if arguments.experimental_rerun:
        _end(f"{program}: --experimental-rerun would load a pickle, which can run code", 2)
    informing = arguments.help or arguments.hydra_help or arguments.info
    try:
        if not (informing or arguments.shell_completion):
            for overrides in _jobs(arguments.overrides, arguments.multirun):
                if arguments.config_dir:
                    folder = Path(arguments.config_dir).resolve()
                    overrides = [*overrides, f"hydra.searchpath=[file://{folder}]"]
                compose(overrides, arguments.config_name or name)
        decorate = hydra.main(str(config_dir()), name, **VERSION_BASE)
        decorate(job)()
    except KeyboardInterrupt as stop:
        _end(f"{program}: {stop or 'stopped'}", 130)
    except Exception as error:
        if isinstance(error, HydraException | OmegaConfBaseException) and not full_error:
            lines = [line.strip() for line in str(error).splitlines() if line.strip()]
            _end(f"{program}: {'; '.join(lines)}", 2)
        _report(program, error, full_error)
        sys.exit(_code(error))
    if failed and codes:
        if arguments.multirun:
            print(f"{program}: {len(failed)} jobs failed: {', '.join(failed)}", file=sys.stderr)
        sys.exit(codes[0])


def _jobs(overrides: Sequence[str], multirun: bool) -> Iterator[list[str]]:
    """The overrides of every job: those of the one run, or all combinations of a multirun."""
    if not multirun:
        yield list(overrides)
        return
    with initialize_config_dir(str(config_dir()), **VERSION_BASE):
        loader = GlobalHydra.instance().config_loader()  # knows the choices behind glob(...)
    choices = []
    for override in OverridesParser.create(loader).parse_overrides(list(overrides)):
        if override.is_discrete_sweep():
            key = override.get_key_element()
            choices.append([f"{key}={value}" for value in override.sweep_string_iterator()])
        elif not override.is_sweep_override():
            choices.append([override.input_line or ""])
    yield from map(list, itertools.product(*choices))


def _remove_empty(folder: Path, made: set[Path]) -> None:
    """Remove a folder that stayed empty, and those above it, if this process made them."""
    with suppress(OSError):  # not empty
        while folder in made:
            folder.rmdir()
            folder = folder.parent


def _report(what: str, error: Exception, full: bool) -> None:
    """A user's mistake as one sentence; anything else, or if asked for, with its traceback."""
    if full or not isinstance(error, UserError | OSError):
        traceback.print_exception(error)
    elif isinstance(error, OSError) and error.filename is not None:
        print(f"{what}: {error.strerror}: {error.filename}", file=sys.stderr)
    else:
        print(printable(f"{what}: {error}"), file=sys.stderr)


def _code(error: Exception) -> int:
    return 2 if isinstance(error, UserError | OSError) else 1


def _end(sentence: str, code: int) -> NoReturn:
    print(sentence, file=sys.stderr)
    sys.exit(code)
