"""Multiruns: plan and check all jobs before the first starts, skip, resume, and sum up."""

import itertools
import json
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.plugins import Plugins
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict, read_write
from omegaconf.errors import OmegaConfBaseException

from hwr.config.checks import check, check_paths
from hwr.config.compose import composed, plain
from hwr.errors import ConfigError, RunError
from hwr.runs import records, search

MANY = 20
"""Jobs that take more than a second to check."""


@dataclass(frozen=True)
class Sweep:
    """A multirun: `hydra.sweep.dir`, and the run folder of every job."""

    folder: Path
    runs: list[Path]


def checked(config: DictConfig) -> Path:
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
    key = "hydra.sweep.dir" if multirun else "hydra.run.dir"
    folder = str(hydra.sweep.dir if multirun else hydra.run.dir)
    if not folder:
        raise ConfigError(f"{key}= is empty; it must name a folder, or be left out")
    path = Path(folder, str(hydra.sweep.subdir) if multirun else "")
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
            search that is resumed the number of its trials.
        name: The primary config.

    Raises:
        ConfigError: A setting of any job is wrong, or two jobs don't go with each other.
        RunError: A job's folder holds another run.
    """
    hydra = config.hydra
    loader = GlobalHydra.instance().config_loader()  # knows the choices behind glob(...)
    parser = OverridesParser.create(loader)
    task = _unresolved(hydra.overrides.task)
    given = parser.parse_overrides(task)
    if any(one.key_or_group == "sweep" and one.is_sweep_override() for one in given):
        raise ConfigError("sweep= takes one name; what is varied beside it is named by its key")
    plugins = {f"{one.__module__}.{one.__name__}" for one in Plugins.instance().discover()}
    for part in ("launcher", "sweeper"):
        if (target := hydra[part] and hydra[part].get("_target_")) not in plugins:
            raise ConfigError(f"hydra.{part}._target_={target} is no plugin of Hydra's")
    if str(hydra.launcher._target_).endswith(".SlurmLauncher") and not shutil.which("srun"):
        raise ConfigError("no Slurm here (srun); hydra/launcher=local does the same without one")
    if "submitit" in str(hydra.launcher._target_):
        _outlive_killed_jobs()
    hydra.sweep.dir = str(hydra.sweep.dir)  # ${now:...} is the same for all jobs
    folder = Path(hydra.sweep.dir)
    escaped = hydra.sweep.dir.replace("\\", "\\\\").replace("'", "\\'")
    hydra.overrides.hydra.append(f"hydra.sweep.dir='{escaped}'")
    params = [f"{key}={value}" for key, value in (hydra.sweeper.get("params") or {}).items()]
    varied = parser.parse_overrides([*params, *task])
    if "optuna" in str(hydra.sweeper._target_):
        for corner in search.corners(name, varied, _unresolved(hydra.overrides.hydra)):
            corner.hydra.job.num = 0
            checked(corner)
            search.check(corner, hydra.sweeper)
        search.claim(folder, corner, varied)
        return Sweep(folder, search.remaining(folder, hydra))
    if "max_batch_size" in hydra.sweeper and "Basic" in str(hydra.launcher._target_):
        hydra.sweeper.max_batch_size = hydra.sweeper.max_batch_size or 1  # or it composes all again
    return Sweep(folder, _jobs(varied, config, name))


def _jobs(varied: Sequence[Override], config: DictConfig, name: str) -> list[Path]:
    """Check the jobs of a grid, and return their run folders."""
    grid = _grid(varied)
    if len(grid) >= MANY:
        print(f"hwr-{name}: checking {len(grid)} jobs", file=sys.stderr)
    runs: dict[Path, int] = {}
    numbers: dict[str, int] = {}
    for number, (job, settings) in enumerate(_composed(grid, config, name)):
        settings.hydra.job.num = number
        run = checked(settings)
        earlier(run, settings)
        settings.output_dir = ""
        told = json.dumps(plain(settings), sort_keys=True, default=str)
        if (same := numbers.setdefault(told, number)) < number:
            raise ConfigError(f"jobs {same} and {number} are one: {' '.join(job)}")
        if (same := runs.setdefault(run, number)) < number:
            raise ConfigError(
                f"jobs {same} and {number} would both write into {run}; "
                "hydra.sweep.subdir must tell them apart"
            )
    return list(runs)


def _grid(overrides: Sequence[Override]) -> list[tuple[str, ...]]:
    """List the overrides of every job in Hydra's order; of one key the last one counts."""
    choices: dict[str, list[str]] = {}
    for override in overrides:
        key = override.get_key_element()
        if override.is_discrete_sweep():
            choices[key] = [f"{key}={value}" for value in override.sweep_string_iterator()]
        elif override.is_sweep_override():
            raise ConfigError(f"{override.input_line} needs a search, such as sweep=tpe")
        else:
            choices[key] = [override.input_line or ""]
    return list(itertools.product(*choices.values()))


def _composed(
    grid: Sequence[tuple[str, ...]], config: DictConfig, name: str
) -> Iterator[tuple[tuple[str, ...], DictConfig]]:
    """Compose every job; those that differ in plain values only are copies of one composition."""
    loader = GlobalHydra.instance().config_loader()
    parser = OverridesParser.create(loader)
    pinned = _unresolved(config.hydra.overrides.hydra)
    values: dict[str, Override] = {}
    if not any("override_dirname" in text for text in pinned):
        for texts in map(set, zip(*grid, strict=True)):
            first = parser.parse_override(min(texts))
            added = first.get_key_element() != first.key_or_group
            if len(texts) > 1 and not added and not loader.get_group_options(first.key_or_group):
                values |= {text: parser.parse_override(text) for text in texts}
    bases: dict[tuple[str, ...], DictConfig] = {}
    for job in grid:
        rest = tuple(text for text in job if text not in values)
        if rest not in bases:
            bases[rest] = composed([*pinned, *rest], name, with_hydra=True)
        composition = bases[rest].copy()
        try:
            for one in (values[text] for text in job if text in values):
                OmegaConf.update(composition, one.key_or_group, one.value(), merge=True)
        except OmegaConfBaseException:  # Hydra says it better
            composition = composed([*pinned, *job], name, with_hydra=True)
        yield job, composition


def _unresolved(node: Any) -> Any:
    return OmegaConf.to_container(node, resolve=False)


def earlier(folder: Path, settings: DictConfig) -> dict[str, Any] | None:
    """Return the metrics of a job that is done already.

    Where it was cut off, `settings.ckpt_path` becomes its last checkpoint.

    Raises:
        RunError: The folder holds another run, or is damaged.
    """
    try:
        record = records.read(folder)
    except (ValueError, OSError) as error:
        raise RunError(f"{folder} is damaged ({error}); remove it, and start again") from error
    if record is None:
        return None
    ours = plain(settings)
    if record.state == "unfinished":
        ours = records.substituted(_unresolved(settings))
    if differs := records.difference(record.config, ours):
        raise RunError(
            f"{folder} holds a run with {differs}; choose another hydra.sweep.dir, or remove it"
        )
    last = folder / "checkpoints/last.ckpt"
    if record.metrics is None and "ckpt_path" in settings and last.is_file():
        settings.ckpt_path = str(last)
    return record.metrics


def optimized_metric(settings: DictConfig, metrics: dict[str, Any]) -> float | None:
    """Return the metric of a finished job that a search optimizes.

    Raises:
        ConfigError: The run has no such metric.
    """
    name = settings.get("optimized_metric")
    if name is None:
        return None
    if name not in metrics:
        raise ConfigError(f"optimized_metric={name} is none of the metrics of this run")
    return float(metrics[name])


def outcome(sweep: Sweep) -> str | None:
    """Name the jobs that failed or didn't finish in one sentence; None where all are done."""
    states: dict[str, list[str]] = {"failed": [], "did not finish": []}
    for number, folder in enumerate(sweep.runs):
        if not any((folder / name).is_file() for name in records.RESULTS):
            state = "failed" if (folder / "failed.json").is_file() else "did not finish"
            states[state].append(str(number))
    parts = [
        f"{len(jobs)} job{'s' * (len(jobs) > 1)} {state}: {', '.join(jobs)}"
        for state, jobs in states.items()
        if jobs
    ]
    way = f"the same line with hydra.sweep.dir={sweep.folder} tries them again"
    return "; ".join([*parts, way]) if parts else None


def _outlive_killed_jobs() -> None:
    """Let Hydra's launcher wait for all jobs of submitit, where it would end at a killed one."""
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
