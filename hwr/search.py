"""A search with Optuna: what it may go by, its ends, and how a stopped one goes on."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from hydra.core.override_parser.types import IntervalSweep, Override
from omegaconf import DictConfig

from hwr import folders
from hwr.config import composed, plain
from hwr.errors import ConfigError, RunError
from hwr.files import whole


def corners(name: str, overrides: Sequence[Override], settings: list[str]) -> Iterator[DictConfig]:
    """The settings at the lower and at the upper end of everything that is varied."""
    space: dict[str, list[str]] = {}
    for override in overrides:
        key, value = override.get_key_element(), override.value()
        if isinstance(value, IntervalSweep):
            space[key] = [f"{key}={value.start}", f"{key}={value.end}"]
        elif override.is_discrete_sweep():
            space[key] = [f"{key}={one}" for one in override.sweep_string_iterator()]
        else:
            space[key] = [override.input_line or ""]
    for end in (0, -1):
        yield composed([*(values[end] for values in space.values()), *settings], name, True)


def check(config: Any, sweeper: DictConfig) -> None:
    """Refuse a search that goes by nothing, or the wrong way.

    Raises:
        ConfigError: There is no objective, or it has another direction.
    """
    objective, direction = getattr(config, "objective", None), str(sweeper.direction)
    if objective is None:
        raise ConfigError("a search needs a validation figure to go by: objective=val/acc")
    wanted = "minimize" if objective == "val/loss" else "maximize"
    if wanted != direction.rpartition(".")[2]:
        raise ConfigError(
            f"objective={objective} goes with hydra.sweeper.direction={wanted}, not {direction}"
        )


def claim(folder: Path, config: Any, overrides: Sequence[Override]) -> None:
    """Write what a search is about into its folder, or compare it with what stands there.

    Raises:
        RunError: The folder holds another search.
    """
    space = {one.get_key_element(): one.input_line for one in overrides if one.is_sweep_override()}
    search, file = {"space": space, "config": plain(config)}, folder / "search.json"
    if not file.is_file():
        with whole(file) as beside:
            beside.write_text(json.dumps(search, indent=2) + "\n", encoding="utf-8")
    elif differs := folders.difference(json.loads(file.read_text(encoding="utf-8")), search):
        raise RunError(f"{folder} holds a search with {differs}; choose another hydra.sweep.dir")


def remaining(
    folder: Path, sweeper: DictConfig, settings: list[str]
) -> tuple[list[Path], list[str]]:
    """The run folders of the trials that are still to come, and the settings that say so.

    Optuna's sweeper would begin to count anew, in the folders of the trials that are done.

    Raises:
        ConfigError: All trials are done.
    """
    begun, done = _trials(sweeper)
    left = sweeper.n_trials - done
    if left < 1:
        raise ConfigError(
            f"{folder} has its {done} trials already; for more say hydra.sweeper.n_trials="
            f"{done + sweeper.n_trials}"
        )
    if begun:
        folder = folder / f"after_{begun}"
        settings = [
            *settings,
            f"hydra.sweeper.n_trials={left}",
            f"hydra.sweep.subdir=after_{begun}/${{hydra.job.num}}",
        ]
        if (seed := sweeper.sampler.get("seed")) is not None:  # else it draws the same ones again
            settings.append(f"hydra.sweeper.sampler.seed={seed + begun}")
    return [folder / str(number) for number in range(left)], settings


def _trials(sweeper: DictConfig) -> tuple[int, int]:
    """How many trials the storage has, and how many of them came to an end."""
    if sweeper.storage is None:
        return 0, 0
    import optuna

    optuna.logging.disable_default_handler()
    try:
        study = optuna.load_study(study_name=sweeper.study_name, storage=sweeper.storage)
    except KeyError:  # there is none yet
        return 0, 0
    trials = study.get_trials(deepcopy=False)
    return len(trials), sum(trial.state.is_finished() for trial in trials)
