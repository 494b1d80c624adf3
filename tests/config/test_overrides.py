"""Text settings are taken as typed; all others, and sweeps, have Hydra's grammar."""

import threading
from pathlib import Path

import hydra
import pytest

import hwr
from hwr.config.overrides import quote_text


@pytest.mark.parametrize(
    "text",
    [
        *("~/letters", "漢字", "/home/müller/x", "letters (1)", "a, b", "it's", "x;y", "'it's'"),
        *("epoch=3-step=100.ckpt", "2024_10_01", "1.10", "1e3", "007", "true", "null", "nan"),
        *("C:\\a b\\", "\\\\server\\x", "a\\'b", " a ", "a\nb", "[a]", "{a: b}", "#x", "x=", "="),
        *("choice(a,b)", "range(3)", "3,7", ",", "'", '"', "a'b\"c", "\N{GRINNING FACE}", "a$b"),
    ],
)
def test_text_is_taken_as_typed(text: str) -> None:
    words = [f"data.root={text}", f"++data.csv={text}", f"ckpt_path={text}"]
    config = hwr.compose(["data=folder", *words])
    expected = None if text == "null" else text
    assert (config.data.root, config.data.csv, config.ckpt_path) == (text, expected, expected)
    assert quote_text(quote_text(words)) == quote_text(words)


@pytest.mark.parametrize(
    ("typed", "given"),
    [
        ("data.root=a/b-1.png", "data.root=a/b-1.png"),
        ("data.root='a, b'", "data.root='a, b'"),
        ("ckpt_path=epoch\\=3.ckpt", "ckpt_path=epoch\\=3.ckpt"),
        ("hydra.run.dir=runs/${seed}", "hydra.run.dir=runs/${seed}"),
        ("hydra.run.dir=é/${seed}", "hydra.run.dir='é/${seed}'"),
        ("data.batch_size=1_0", "data.batch_size=1_0"),
        ("seed=0,1", "seed=0,1"),
        ("--config-dir=~/conf", f"--config-dir={Path.home()}/conf"),
        ("-m data.root=~/a,'b, c',\"d\"", "-m data.root='~/a','b, c',\"d\""),
        ("-m ckpt_path=null,é", "-m ckpt_path=null,'é'"),
        ("--multirun split.writers=1-3,4", "--multirun split.writers=1-3,'4'"),
        ("-m data.root=choice('a, b')", "-m data.root=choice('a, b')"),
        ("hydra.mode=MULTIRUN data.root=a (1)", "hydra.mode=MULTIRUN data.root='a (1)'"),
        ("-m hydra.sweep.dir=a, b", "-m hydra.sweep.dir='a, b'"),
    ],
)
def test_only_what_needs_it_is_quoted(typed: str, given: str) -> None:
    words = typed.split(" ", 1) if typed.startswith(("-", "hydra.mode")) else [typed]
    assert " ".join(quote_text(words)) == given


def test_a_program_keeps_its_own_hydra(tmp_path: Path) -> None:
    tmp_path.joinpath("own.yaml").write_text("own: 1\n")
    seeds: list[int] = []
    threads = [
        threading.Thread(target=lambda s=seed: seeds.append(hwr.compose([f"seed={s}"]).seed))
        for seed in range(4)
    ]
    with hydra.initialize_config_dir(str(tmp_path), version_base=None):
        before = hydra.version.getbase()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(seeds) == [0, 1, 2, 3]
        assert hydra.compose("own").own == 1
        assert hydra.version.getbase() == before
