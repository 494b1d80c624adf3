"""Multiruns: check all jobs before the first starts; skip, resume and count them."""

import itertools
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from hwr.config.checks import check, check_paths
from hwr.config.compose import compose_unchecked, monitor_mode, plain
from hwr.config.overrides import quote_text
from hwr.errors import ConfigError, RunError
from hwr.files import expand_user
from hwr.runs import records


@dataclass(frozen=True)
class Sweep:
    """A multirun: `hydra.sweep.dir`, and the run folder of every job."""

    folder: Path
    runs: list[Path]

    def failures(self) -> str | None:
        """Name the jobs that failed or didn't finish in one sentence; None if all finished."""
        left = [str(n) for n, run in enumerate(self.runs) if not records.is_finished(run)]
        if not left:
            return None
        return (
            f"jobs {', '.join(left)} failed or did not finish; "
            f"the same line with hydra.sweep.dir={self.folder} tries them again"
        )


def check_run(config: DictConfig) -> Path:
    """Check a composed run, a single one or a job of a multirun, before it starts.

    Args:
        config: The settings; Hydra's own beneath `hydra` are removed.

    Returns:
        The run folder.

    Raises:
        UserError: A setting is wrong, or a file is missing.
    """
    HydraConfig.instance().set_config(config)  # for ${hydra:...}
    hydra: Any = HydraConfig.get()
    multirun = hydra.mode == RunMode.MULTIRUN
    path = Path(hydra.sweep.dir, str(hydra.sweep.subdir)) if multirun else Path(hydra.run.dir)
    path = expand_user(path)
    if "${" in str(path):  # OmegaConf would resolve it again wherever the path is stored
        raise ConfigError(f"{path}: the name of a run folder must not hold ${{; choose another")
    with read_write(hydra.runtime):
        hydra.runtime.output_dir = str(path.absolute())
    with open_dict(config):
        del config["hydra"]
    check(config)
    check_paths(config)
    trainer = config.get("trainer") or {}
    devices, nodes = trainer.get("devices", 1), trainer.get("num_nodes", 1)
    if multirun and devices * nodes > 1:
        raise ConfigError(
            f"trainer.devices={devices} trainer.num_nodes={nodes} trains one run in several "
            "processes, each of which would start the whole sweep (-m) again; leave out -m"
        )
    return path


def plan(config: DictConfig, name: str) -> Sweep:
    """Check all jobs of a multirun, and fix what Hydra must not decide anew for each job.

    Args:
        config: As Hydra composed it, changed in place: `hydra.sweep.dir` gets its value, and a
            search its direction and the number of trials that are left.
        name: The primary config.

    Raises:
        ConfigError: A setting of any job is wrong, or two jobs would share a folder.
        RunError: A job's folder holds another run.
    """
    hydra = config.hydra
    launcher = str(hydra.launcher._target_)
    if "Slurm" in launcher and not shutil.which("srun"):
        raise ConfigError("no Slurm here (srun); hydra/launcher=local does the same without one")
    if "submitit" in launcher:
        _survive_killed_jobs()
    hydra.sweep.dir = str(expand_user(hydra.sweep.dir))  # ${now:...} is the same for all jobs
    hydra.overrides.hydra += quote_text([f"hydra.sweep.dir={hydra.sweep.dir}"])
    params = [f"{key}={value}" for key, value in (hydra.sweeper.get("params") or {}).items()]
    parser = OverridesParser.create(GlobalHydra.instance().config_loader())
    varied = parser.parse_overrides([*params, *_unresolved(hydra.overrides.task)])
    plan_jobs = _plan_search if "optuna" in str(hydra.sweeper._target_) else _plan_grid
    return Sweep(Path(hydra.sweep.dir), plan_jobs(config, name, varied))


def _choices(varied: Sequence[Override], search: bool) -> list[list[str]]:
    """List the overrides that each key is given; of an interval both ends, for a search.

    Of several overrides of one key the last one counts, as in Hydra.
    """
    choices: dict[str, list[str]] = {}
    for override in varied:
        key, value = override.get_key_element(), override.value()
        if key == "sweep" and override.is_sweep_override():
            raise ConfigError("sweep= takes one name; name what is varied beside it by its key")
        if search and isinstance(value, IntervalSweep):
            choices[key] = [f"{key}={value.start}", f"{key}={value.end}"]
        elif override.is_discrete_sweep():
            choices[key] = [f"{key}={one}" for one in override.sweep_string_iterator()]
        elif override.is_sweep_override():
            raise ConfigError(f"{override.input_line} needs a search, such as sweep=tpe")
        else:
            choices[key] = [override.input_line or ""]
        if len(set(choices[key])) < len(choices[key]):
            raise ConfigError(f"{override.input_line} has a value twice; remove one of them")
    return list(choices.values())


def _check_job(
    config: DictConfig, name: str, number: int, overrides: Sequence[str]
) -> tuple[Path, DictConfig]:
    pinned = _unresolved(config.hydra.overrides.hydra)
    settings = compose_unchecked([*pinned, *overrides], name, with_hydra=True)
    settings.hydra.job.num = number
    return check_run(settings), settings


def _unresolved(node: Any) -> Any:
    return OmegaConf.to_container(node)


def _plan_grid(config: DictConfig, name: str, varied: Sequence[Override]) -> list[Path]:
    """Check the jobs of a grid, and return their run folders."""
    jobs = list(itertools.product(*_choices(varied, search=False)))
    if len(jobs) > 20:
        print(f"hwr-{name}: checking {len(jobs)} jobs", file=sys.stderr)
    runs = []
    for number, job in enumerate(jobs):
        run, settings = _check_job(config, name, number, job)
        find_finished(run, settings)
        runs.append(run)
    if len(set(runs)) < len(runs):
        subdir = _unresolved(config.hydra.sweep)["subdir"]
        raise ConfigError(f"hydra.sweep.subdir={subdir} must give each job a folder of its own")
    return runs


def _plan_search(config: DictConfig, name: str, varied: Sequence[Override]) -> list[Path]:
    """Check the ends of all ranges of a search, and return the folders of the trials left."""
    hydra, sweeper, folder = config.hydra, config.hydra.sweeper, Path(config.hydra.sweep.dir)
    if config.get("optimized_metric") is None:
        raise ConfigError("a search needs a validation metric: optimized_metric=val/acc")
    sweeper.direction = f"{monitor_mode(config.optimized_metric)}imize"
    choices = _choices(varied, search=True)
    for end in (0, -1):
        _, settings = _check_job(config, name, 0, [values[end] for values in choices])
    folder.mkdir(parents=True, exist_ok=True)
    import optuna  # slow, and an optional dependency

    optuna.logging.disable_default_handler()
    options = {key: sweeper[key] for key in ("storage", "study_name", "direction")}
    study = optuna.create_study(**options, load_if_exists=True)
    space = {one.get_key_element(): one.input_line for one in varied if one.is_sweep_override()}
    search = {"space": space, **plain(settings)}
    if differs := records.difference(study.user_attrs.get("search", search), search):
        raise RunError(f"{folder} holds a search with {differs}; choose another hydra.sweep.dir")
    study.set_user_attr("search", search)
    started, finished = len(study.trials), sum(one.state.is_finished() for one in study.trials)
    left = sweeper.n_trials - finished
    if left < 1:
        raise ConfigError(
            f"{folder} has its {finished} trials already; for more set hydra.sweeper.n_trials="
            f"{finished + sweeper.n_trials}"
        )
    if started:  # Optuna's sweeper would count from 0 again, in the folders of earlier trials
        hydra.overrides.hydra.append(f"hydra.sweep.subdir=after_{started}/${{hydra.job.num}}")
        folder /= f"after_{started}"
        sweeper.n_trials = left
        if sweeper.sampler.get("seed") is not None:  # or it draws the same ones again
            sweeper.sampler.seed += started
    return [folder / str(number) for number in range(left)]


def find_finished(folder: Path, settings: DictConfig) -> dict[str, Any] | None:
    """Return the metrics of a job that is finished already.

    If it was cut off, `settings.ckpt_path` becomes its last checkpoint.

    Raises:
        RunError: The folder holds another run, or is damaged.
    """
    record = records.read(folder)
    if record is None:
        return None
    config = _unresolved(settings) if record.state == "unfinished" else plain(settings)
    if differs := records.difference(record.config, config):
        raise RunError(
            f"{folder} holds a run with {differs}; choose another hydra.sweep.dir, or remove it"
        )
    last = folder / "checkpoints/last.ckpt"
    if record.metrics is None and "ckpt_path" in settings and last.is_file():
        settings.ckpt_path = str(last)
    return record.metrics


def optimized_metric(settings: DictConfig, metrics: dict[str, Any]) -> float | None:
    """Return the metric of a finished job that a search optimizes, or None without a search.

    Raises:
        ConfigError: The run has no such metric.
    """
    name = settings.get("optimized_metric")
    if name is not None and name not in metrics:
        raise ConfigError(
            f"optimized_metric={name} is none of this run's metrics: {', '.join(metrics)}"
        )
    return None if name is None else float(metrics[name])


def _survive_killed_jobs() -> None:
    """Let Hydra's launcher wait for all jobs of submitit; it would end at a killed one."""
    from hydra.core.utils import JobReturn, JobStatus
    from submitit.core.core import Job

    results = Job.results

    def results_or_none(job: Any) -> list[Any]:
        try:
            return list(results(job))
        except Exception as error:  # what it has printed is in the folder .submitit
            print(str(error).partition("\n")[0], file=sys.stderr)
            return [JobReturn(status=JobStatus.COMPLETED)]

    setattr(Job, "results", results_or_none)  # noqa: B010
