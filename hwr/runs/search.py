"""Searches with Optuna: check their direction and the ends of their ranges, and resume them."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from hydra.core.override_parser.types import IntervalSweep, Override
from omegaconf import DictConfig

from hwr.config.compose import composed, monitor_mode, plain
from hwr.errors import ConfigError, RunError
from hwr.files import atomic_write
from hwr.runs import records


def corners(name: str, overrides: Sequence[Override], pinned: list[str]) -> Iterator[DictConfig]:
    """Compose the settings at the lower and at the upper end of everything that is varied."""
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
        yield composed([*pinned, *(values[end] for values in space.values())], name, True)


def check(settings: DictConfig, sweeper: DictConfig) -> None:
    """Reject a search that optimizes nothing, or in the wrong direction.

    Raises:
        ConfigError: There is no metric to optimize, or it has another direction.
    """
    metric, direction = settings.get("optimized_metric"), str(sweeper.direction)
    if metric is None:
        raise ConfigError("a search needs a validation metric: optimized_metric=val/acc")
    wanted = f"{monitor_mode(metric)}imize"
    if wanted != direction.rpartition(".")[2]:
        raise ConfigError(
            f"optimized_metric={metric} goes with hydra.sweeper.direction={wanted}, not {direction}"
        )


def claim(folder: Path, settings: DictConfig, overrides: Sequence[Override]) -> None:
    """Write what a search varies into its folder, or compare it with what is written there.

    Raises:
        RunError: The folder holds another search.
    """
    space = {one.get_key_element(): one.input_line for one in overrides if one.is_sweep_override()}
    search, file = {"space": space, "config": plain(settings)}, folder / "search.json"
    if not file.is_file():
        with atomic_write(file) as temporary:
            temporary.write_text(json.dumps(search, indent=2) + "\n", encoding="utf-8")
        return
    there = json.loads(file.read_text(encoding="utf-8"))
    differs = records.difference({"space": there["space"]}, {"space": space})
    if differs := differs or records.difference(there["config"], search["config"]):
        raise RunError(f"{folder} holds a search with {differs}; choose another hydra.sweep.dir")


def remaining(folder: Path, hydra: DictConfig) -> list[Path]:
    """Fit a search's settings to the trials that are still to come, and return their run folders.

    Optuna's sweeper would count from 0 again, in the folders of the trials that are done.

    Raises:
        ConfigError: All trials are done.
    """
    sweeper = hydra.sweeper
    begun, done = _trials(sweeper)
    left = sweeper.n_trials - done
    if left < 1:
        raise ConfigError(
            f"{folder} has its {done} trials already; for more say hydra.sweeper.n_trials="
            f"{done + sweeper.n_trials}"
        )
    if begun:
        folder = folder / f"after_{begun}"
        sweeper.n_trials = left
        hydra.overrides.hydra.append(f"hydra.sweep.subdir=after_{begun}/${{hydra.job.num}}")
        if sweeper.sampler.get("seed") is not None:  # or it draws the same ones again
            sweeper.sampler.seed += begun
    return [folder / str(number) for number in range(left)]


def _trials(sweeper: DictConfig) -> tuple[int, int]:
    """Count the trials in the storage, and those of them that came to an end."""
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
