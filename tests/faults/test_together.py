"""Eight processes at once on a cold cache: all end, with equal results."""

from pathlib import Path

from campaign import Campaign
from test_kill import TRAIN, cache_is_whole, same_run
from victim import run, start

PROCESSES = 8


def test_eight_at_once(campaign: Campaign, drawn: Path, tmp_path: Path) -> None:
    """Beside what killed processes have left half written."""
    for number in campaign.trials(6, 1):
        place = tmp_path / str(number)
        cache = place / "cache"
        cache.mkdir(parents=True)
        folders = [place / str(process) for process in range(PROCESSES)]
        for folder in folders:
            folder.mkdir()
        words = [*TRAIN, f"data.root={drawn}", f"data.cache={cache}", "report=light"]
        alone = place / "alone"
        alone.mkdir()
        ended = run(alone, "hwr-train", [*words, f"data.cache={alone}", f"hydra.run.dir={alone}/r"])
        assert ended.code == 0, ended.said
        (made,) = alone.glob("*.npz")
        (cache / f".{made.name}.00000000.part").write_bytes(made.read_bytes()[:1000])
        (cache / made.name).write_bytes(made.read_bytes()[: campaign.random.integers(5000)])
        all_at_once = [start(one, "hwr-train", [*words, f"hydra.run.dir={one}"]) for one in folders]
        for folder, victim in zip(folders, all_at_once, strict=True):
            ended = victim.wait()
            with campaign.trial("eight processes at once on a broken cache"):
                assert ended.code == 0, ended.said
                same_run(folder, alone / "r")
        cache_is_whole(cache)
        assert [file.name for file in cache.glob("*.npz")] == [made.name]
