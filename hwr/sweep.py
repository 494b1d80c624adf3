"""Sweeps: the jobs of a multirun, checked before the first starts, and what became of them."""

import itertools
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from hwr import folders, search
from hwr.config import composed, hydra_ready, plain, resolve
from hwr.errors import ConfigError, RunError


@dataclass(frozen=True)
class Sweep:
    """A multirun that is about to start.

    Attributes:
        folder: `hydra.sweep.dir`.
        runs: The run folder of every job.
        settings: What the command line gets in addition.
    """

    folder: Path
    runs: list[Path]
    settings: list[str] = field(default_factory=list)


def check(name: str, overrides: Sequence[str], single: bool) -> Sweep | None:
    """Compose and check all that is going to run.

    Args:
        name: Of the primary config.
        overrides: As on the command line.
        single: One run, not a multirun.

    Returns:
        The sweep; None for a single run.

    Raises:
        ConfigError: A setting of any job is wrong, or the jobs don't go with each other.
        RunError: A job's folder holds another run.
    """
    with hydra_ready():
        if single:
            config = composed(overrides, name, with_hydra=True)
            if sweep := config.hydra.runtime.choices.get("sweep"):
                raise ConfigError(f"sweep={sweep} makes several runs; add -m")
            settings_of(config)
            _named(config.hydra, "run")
            return None
        return _plan(name, list(overrides))


def _plan(name: str, overrides: list[str]) -> Sweep:
    loader = GlobalHydra.instance().config_loader()  # knows the choices behind glob(...)
    parser = OverridesParser.create(loader)
    given = parser.parse_overrides(overrides)
    if any(one.key_or_group == "sweep" and one.is_sweep_override() for one in given):
        raise ConfigError("sweep= takes one name; what is varied beside it is named by its key")
    fixed = [one.input_line or "" for one in given if not one.is_sweep_override()]
    hydra = composed(fixed, name, with_hydra=True).hydra
    _named(hydra, "sweep")
    plugins = {f"{one.__module__}.{one.__name__}" for one in Plugins.instance().discover()}
    for part in ("launcher", "sweeper"):
        if (target := hydra[part] and hydra[part].get("_target_")) not in plugins:
            raise ConfigError(f"hydra.{part}._target_={target} is no plugin of Hydra's")
    if str(hydra.launcher._target_).endswith(".SlurmLauncher") and not shutil.which("srun"):
        raise ConfigError("no Slurm here (srun); hydra/launcher=local does the same without one")
    if "submitit" in str(hydra.launcher._target_):
        _outlive_killed_jobs()
    folder = Path(str(hydra.sweep.dir))
    settings = [f"hydra.sweep.dir={_quoted(str(folder))}"]
    params = [f"{key}={value}" for key, value in (hydra.sweeper.get("params") or {}).items()]
    varied = parser.parse_overrides([*params, *overrides])
    if "optuna" in str(hydra.sweeper._target_):
        for config in map(settings_of, search.corners(name, varied, settings)):
            _alone(config)
            search.check(config, hydra.sweeper)
        search.claim(folder, config, varied)
        return Sweep(folder, *search.remaining(folder, hydra.sweeper, settings))
    runs: list[Path] = []
    jobs: list[Any] = []
    plains: list[Any] = []  # with the settings that were added
    for number, job in enumerate(_grid(varied)):
        config = composed([*job, *settings], name, with_hydra=True)
        run, asked = _run_folder(config, number), _alone(settings_of(config))
        if (told := plain(asked)) in plains:
            raise ConfigError(f"jobs {plains.index(told)} and {number} are one: {' '.join(job)}")
        if run in runs:
            raise ConfigError(
                f"jobs {runs.index(run)} and {number} would both write into {run}; "
                "hydra.sweep.subdir must tell them apart"
            )
        runs.append(run)
        jobs.append(asked)
        plains.append(told)
    for run, asked in zip(runs, jobs, strict=True):
        earlier(run, asked)
    return Sweep(folder, runs, settings)


def _named(hydra: DictConfig, kind: str) -> None:
    """Refuse an empty folder, which would be the one that the command runs in.

    Raises:
        ConfigError: It is empty.
    """
    if OmegaConf.to_container(hydra[kind])["dir"] == "":  # type: ignore[call-overload, index]
        raise ConfigError(f"hydra.{kind}.dir= is empty; it must name a folder, or be left out")


def _grid(overrides: Sequence[Any]) -> Iterator[list[str]]:
    """The overrides of every job in Hydra's order; of one key the last word counts."""
    choices: dict[str, list[str]] = {}
    for override in overrides:
        key = override.get_key_element()
        if override.is_discrete_sweep():
            choices[key] = [f"{key}={value}" for value in override.sweep_string_iterator()]
        elif not override.is_sweep_override():
            choices[key] = [override.input_line]
        else:
            raise ConfigError(f"{override.input_line} needs a search, such as sweep=tpe")
    yield from map(list, itertools.product(*choices.values()))


def settings_of(config: DictConfig) -> Any:
    """The typed settings in a config that has Hydra's beside them."""
    alone = config.copy()
    with read_write(alone), open_dict(alone):
        del alone["hydra"]
    return resolve(alone)


def _alone(config: Any) -> Any:
    """Settings of a job of a multirun.

    Raises:
        ConfigError: They ask for several processes, each of which would start the sweep again.
    """
    if hasattr(config, "trainer") and config.trainer.devices * config.trainer.num_nodes > 1:
        raise ConfigError(
            f"trainer.devices={config.trainer.devices} "
            f"trainer.num_nodes={config.trainer.num_nodes} trains one run in several processes, "
            "each of which would start the whole sweep (-m) again; start such runs one by one"
        )
    return config


def _run_folder(config: DictConfig, number: int) -> Path:
    """Where Hydra puts the run of job `number`."""
    with read_write(config), open_dict(config):
        config.hydra.job.num = number
    HydraConfig.instance().set_config(config)  # for ${hydra:...}
    return Path(str(config.hydra.sweep.dir), str(config.hydra.sweep.subdir))


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def earlier(folder: Path, config: Any) -> dict[str, Any] | None:
    """What stands in `metrics.json` where this very job is done already.

    Where it was cut off, `config.ckpt` is set to its last checkpoint, to go on from there.

    Raises:
        RunError: The folder holds another run, or is damaged.
    """
    try:
        found = folders.read(folder)
    except (ValueError, OSError) as error:
        raise RunError(f"{folder} is damaged ({error}); remove it, and start again") from error
    if found is None:
        return None
    if found.config and (differs := folders.difference(found.config, plain(config))):
        raise RunError(
            f"{folder} holds a run with {differs}; choose another hydra.sweep.dir, or remove it"
        )
    last = folder / "checkpoints/last.ckpt"
    if found.metrics is None and hasattr(config, "ckpt") and last.is_file():
        config.ckpt = str(last)
    return found.metrics


def objective(config: Any, metrics: dict[str, Any]) -> float | None:
    """What a search is told of a finished job.

    Raises:
        ConfigError: The figure means nothing with the classes of the set.
    """
    name = getattr(config, "objective", None)
    if name is None:
        return None
    if name not in metrics:
        raise ConfigError(f"objective={name} means nothing with the classes of this set")
    return float(metrics[name])


def outcome(sweep: Sweep) -> str | None:
    """Which jobs failed and which were cut off, as one sentence; None where all are done."""
    states: dict[str, list[str]] = {"failed": [], "unfinished": []}
    for number, folder in enumerate(sweep.runs):
        if not (folder / "metrics.json").is_file():
            state = "failed" if (folder / "failed.json").is_file() else "unfinished"
            states[state].append(str(number))
    if not any(states.values()):
        return None
    words = {"failed": "failed", "unfinished": "did not finish"}
    parts = [
        f"{len(jobs)} job{'s' * (len(jobs) > 1)} {words[state]}: {', '.join(jobs)}"
        for state, jobs in states.items()
        if jobs
    ]
    return f"{'; '.join(parts)}; the same line with hydra.sweep.dir={sweep.folder} tries them again"


def _outlive_killed_jobs() -> None:
    """Let submitit report a killed job as failed, instead of no longer waiting for the others.

    Hydra's launcher asks every job for its results in turn and passes on the first exception.
    """
    from hydra.core.utils import JobReturn, JobStatus
    from submitit.core.core import Job

    results = Job.results

    def results_or_error(job: Any) -> list[Any]:
        try:
            return list(results(job))
        except Exception as error:
            return [
                JobReturn([f"(job {job.job_id})"], status=JobStatus.FAILED, _return_value=error)
            ]

    setattr(Job, "results", results_or_error)  # noqa: B010
