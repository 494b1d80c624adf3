"""Find run folders, read their records, and compare their settings."""

import json
import os
import traceback
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from hwr.errors import RunError, UserError
from hwr.files import atomic_write, expand_user

RESULTS = ("metrics.json", "evaluation.json")
"""Files written last: a folder that holds one of them is finished."""

NOT_COMPARED = {"ckpt_path", "output_dir", "data.root", "data.cache", "n_jobs", "plots"}
"""Settings that say where or how fast a run was made, not what was trained."""


@dataclass(frozen=True)
class RunRecord:
    """The content of a run folder.

    Attributes:
        path: The folder.
        config: The settings, nested. Those of an unfinished run are unresolved: its folder may be
            a stranger's, and a resolver such as `${oc.env:NAME}` is code.
        metrics: The content of `metrics.json`; None unless the run is finished.
        error: The reason why the run failed; None unless it did.
    """

    path: Path
    config: dict[str, Any]
    metrics: dict[str, Any] | None = None
    error: str | None = None

    @property
    def state(self) -> str:
        """`finished`, `partial` (the test was limited or skipped), `failed` or `unfinished`."""
        if self.metrics is not None:
            return "partial" if self.metrics.get("partial") else "finished"
        return "unfinished" if self.error is None else "failed"


def collect(folders: Iterable[Path]) -> list[Path]:
    """List all run folders at or below the given folders.

    Raises:
        RunError: A folder is missing.
    """
    runs: set[Path] = set()
    for folder in folders:
        if not folder.is_dir():
            raise RunError(f"no folder {folder}; give a run folder or one that holds run folders")
        for path, subfolders, files in os.walk(folder.resolve()):
            if ".hydra" in subfolders or not {*RESULTS, "failed.json"}.isdisjoint(files):
                runs.add(Path(path))
            subfolders[:] = [name for name in subfolders if not name.startswith(".")]
    return sorted(runs)


def read(folder: Path) -> RunRecord | None:
    """Read a run folder; return None if it holds no run.

    Raises:
        RunError: A file in it can't be read, or isn't the record of a run.
    """
    for name in (*RESULTS, "failed.json", ".hydra/config.yaml"):
        file = folder / name
        if not file.is_file() or not file.stat().st_size:  # empty: killed while Hydra wrote it
            continue
        record = _load(file)
        config = record if name == ".hydra/config.yaml" else record.get("config")
        if not isinstance(config, dict) or not all(
            isinstance(config.get(group, {}), dict) for group in ("model", "data", "split")
        ):
            raise RunError(f"{file} holds no settings of a run; restore or remove its folder")
        if name in RESULTS:
            return RunRecord(folder, config, metrics=record)
        if name == "failed.json":
            return RunRecord(folder, config, error=str(record.get("error")))
        return RunRecord(folder, config)
    return None


def _load(file: Path) -> dict[str, Any]:
    """Read a JSON or YAML file that holds a mapping."""
    try:
        text = file.read_text(encoding="utf-8")
        if file.suffix == ".json":
            content = json.loads(text)
        elif any(isinstance(token, yaml.AliasToken) for token in yaml.scan(text, yaml.SafeLoader)):
            raise ValueError("aliases are rejected: a few bytes of them expand to gigabytes")
        else:
            content = yaml.safe_load(text)
        if not isinstance(content, dict):
            raise ValueError("expected a mapping")
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise RunError(f"{file} can't be read ({reason}); restore or remove its folder") from error
    return content


def flatten(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield nested settings as dotted keys and values."""
    for key, value in config.items():
        if isinstance(value, dict):
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def compared_settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings by which runs are compared, by dotted key.

    Callbacks, loggers and places on disk are left out.
    """
    # An evaluation (no split) is another one with another checkpoint.
    ignored = NOT_COMPARED if "split" in config else NOT_COMPARED - {"ckpt_path"}
    return {
        key: value
        for key, value in flatten(config)
        if key not in ignored and key.partition(".")[0] not in ("callbacks", "logger")
    }


def difference(first: Mapping[str, Any], second: Mapping[str, Any]) -> str | None:
    """Name the first setting in which two runs differ, `KEY=FIRST, not SECOND`, or return None."""
    one, other = compared_settings(first), compared_settings(second)
    for key in one | other:
        values = one.get(key, "unset"), other.get(key, "unset")
        if values[0] != values[1]:
            return f"{key}={values[0]}, not {values[1]}"
    return None


def is_finished(folder: Path) -> bool:
    """Check whether a folder holds a finished run."""
    return any((folder / name).is_file() for name in RESULTS)


def check_free(folder: Path, config: Mapping[str, Any]) -> None:
    """Reject a folder that holds a run, unless the settings resume one of its checkpoints.

    Raises:
        RunError: The folder holds a run.
    """
    last = folder / "checkpoints/last.ckpt"
    if not (is_finished(folder) or last.exists()):
        return
    trains = "trainer" in config
    ckpt_path = config.get("ckpt_path") if trains else None
    if ckpt_path and expand_user(ckpt_path).resolve().is_relative_to(folder.resolve()):
        return
    hint = f", or resume it with ckpt_path={last}" if trains and last.exists() else ""
    raise RunError(f"{folder} holds a run already; choose another hydra.run.dir{hint}")


def output_subdir(folder: str, multirun: bool) -> str | None:
    """Name the subfolder for Hydra's own files: `.hydra`, or `.hydra/resume-1` and so on.

    Returns:
        None for a finished job of a multirun, which writes nothing.
    """
    path = Path(folder)
    if multirun and is_finished(path):
        return None
    resumes = len(list(path.glob(".hydra/resume-*")))
    return f".hydra/resume-{resumes + 1}" if (path / ".hydra/config.yaml").is_file() else ".hydra"


def mark_failed(folder: Path, config: Mapping[str, Any], error: Exception) -> None:
    """Write `failed.json`: the error, its traceback, the settings.

    Args:
        folder: The run folder.
        config: The settings, plain values.
        error: The error that ended the run.
    """
    kind = "" if isinstance(error, UserError) else f"{type(error).__name__}: "
    failure = {
        "error": kind + " ".join(str(error).split()),
        "traceback": "".join(traceback.format_exception(error)),
        "config": config,
    }
    with atomic_write(folder / "failed.json") as temporary:
        temporary.write_text(json.dumps(failure, indent=2) + "\n", encoding="utf-8")
