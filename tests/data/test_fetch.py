"""Fetch and verify the real dataset: every source, and hostile or broken ones, in small."""

import gzip
import hashlib
import io
import os
import random
import stat
import sys
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType

import pytest
from PIL import Image

from hwr.data import fetch, synthetic
from hwr.errors import DataError

LABELS = {
    "img001-001.png": "0",
    "img001-002.png": "0",
    "img011-001.png": "A",
    "img062-055.png": "z",
}
TABLE = "image,label\n" + "".join(f"Img/{name},{label}\n" for name, label in LABELS.items())
MANIFEST = "d0487c91b10a8a092070c27e103235cf348d9b837c8ff7cfd3eff1a060fa3e2c"


def png(number: int) -> bytes:
    stream = io.BytesIO()
    Image.frombytes("L", (50, 40), random.Random(number).randbytes(2000)).save(stream, "PNG")
    return stream.getvalue()


IMAGES = {name: png(number) for number, name in enumerate(LABELS)}
CHARS74K = {f"English/Hnd/Img/Sample{n[3:6]}/{n}": image for n, image in IMAGES.items()}
CHARS74K |= {"English/Hnd/Trj/Sample001/img001_001.m": b"strokes", "English/list.txt": b""}
KAGGLE = {"english.csv": TABLE.encode()} | {f"Img/{name}": IMAGES[name] for name in IMAGES}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder to fetch to, with a manifest of four images in place of the real one."""
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in IMAGES.items()}
    monkeypatch.setattr(fetch, "manifest", lambda: digests)
    monkeypatch.setenv("no_proxy", "*")
    return tmp_path / "home/english"


def get(folder: Path, source: object = None, url: str = "http://127.0.0.1:9/unused") -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fetch, "ADDRESSES", {"kaggle": "someone/set", "chars74k": url})
        fetch.fetch(folder, None if source is None else str(source))


def assert_complete(folder: Path) -> None:
    files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert files == {"english.csv", *(f"Img/{name}" for name in IMAGES)}
    assert (folder / "english.csv").read_bytes() == TABLE.encode()
    for name, content in IMAGES.items():
        assert (folder / "Img" / name).read_bytes() == content
    assert list(folder.parent.iterdir()) == [folder]
    assert fetch.verify(folder) == []


def assert_rejected(folder: Path, words: str, source: object, **others: str) -> str:
    """Fetching fails in one sentence with these words, and leaves nothing behind."""
    with pytest.raises(DataError, match=words) as error:
        get(folder, source, **others)
    assert "\n" not in str(error.value)
    assert "--from kaggle" in str(error.value)
    assert "data=synthetic" in str(error.value)
    assert not list(folder.parent.glob("*"))
    return str(error.value)


def tgz(file: Path, members: dict[str, bytes], *more: tarfile.TarInfo, mode: str = "w:gz") -> Path:
    with tarfile.open(file, mode) as archive:  # type: ignore[call-overload]
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        for info in more:
            archive.addfile(info)
    return file


def zipped(file: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file


def unpacked(folder: Path, members: dict[str, bytes]) -> Path:
    for name, content in members.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


@pytest.mark.parametrize(
    "make",
    [
        lambda path: unpacked(path / "given", KAGGLE),
        lambda path: unpacked(path / "given", IMAGES),
        lambda path: unpacked(path / "given/deep/er", CHARS74K),
        lambda path: tgz(path / "given.tgz", CHARS74K),
        lambda path: tgz(path / "given.tar", CHARS74K, mode="w"),
        lambda path: zipped(path / "given.zip", KAGGLE),
        lambda path: zipped(path / "a.zip", KAGGLE | {"english.csv": b"image,label\nx.png,Q\n"}),
    ],
)
def test_local_sources(folder: Path, tmp_path: Path, make: Callable[[Path], Path]) -> None:
    get(folder, make(tmp_path))
    assert_complete(folder)


@pytest.mark.parametrize("pack", [tgz, zipped, unpacked])
def test_wrong_images(
    folder: Path, tmp_path: Path, pack: Callable[[Path, dict[str, bytes]], Path]
) -> None:
    source = pack(tmp_path / "bad", KAGGLE | {"Img/img011-001.png": png(99)})
    assert_rejected(folder, r"not the dataset: img011-001\.png differs .*: 1;", source)
    source = pack(tmp_path / "less", {"Img/img001-001.png": png(0)})
    assert_rejected(folder, r"not the dataset: img001-002\.png is missing.*: 3;", source)
    large = pack(tmp_path / "large", KAGGLE | {"Img/img011-001.png": bytes(2_000_000)})
    assert_rejected(folder, r"not the dataset: img011-001\.png is missing", large)


def test_no_such_source_and_broken_archives(folder: Path, tmp_path: Path) -> None:
    assert_rejected(folder, "cannot fetch nowhere: .*No such file", "nowhere")
    for archive in (
        tgz(tmp_path / "a.tgz", CHARS74K),
        tgz(tmp_path / "a.tar", CHARS74K, mode="w"),
        zipped(tmp_path / "a.zip", KAGGLE),
    ):
        content = archive.read_bytes()
        for broken in (b"", b"\x1f\x8bnonsense", b"PK\3\4nonsense", content[: len(content) // 2]):
            archive.write_bytes(broken)
            assert_rejected(folder, f"cannot fetch {archive}: ", archive)


def link(kind: bytes, target: str) -> tarfile.TarInfo:
    info = tarfile.TarInfo("English/Hnd/Img/Sample001/link.png")
    info.type, info.linkname = kind, target
    return info


@pytest.mark.parametrize(
    "info",
    [
        link(tarfile.SYMTYPE, "/etc/passwd"),
        link(tarfile.SYMTYPE, "../../../../../outside"),
        link(tarfile.LNKTYPE, "../outside"),
        link(tarfile.CHRTYPE, ""),
        link(tarfile.FIFOTYPE, ""),
        tarfile.TarInfo("../outside.png"),
        tarfile.TarInfo("English/../../outside.png"),
    ],
)
def test_hostile_tar(folder: Path, tmp_path: Path, info: tarfile.TarInfo) -> None:
    source = tgz(tmp_path / "bad.tgz", CHARS74K, info)
    assert_rejected(folder, r"cannot fetch .*bad\.tgz: .*(outside|link|special|device)", source)
    assert list(tmp_path.rglob("*")) == [source, folder.parent]


@pytest.mark.parametrize("name", ["../outside.png", "/outside.png", "a/../../outside.png"])
def test_hostile_zip(folder: Path, tmp_path: Path, name: str) -> None:
    source = zipped(tmp_path / "bad.zip", KAGGLE | {name: b"bad"})
    assert_rejected(folder, r"member '.*outside\.png' lies outside", source)


def test_a_link_in_a_zip_is_not_followed(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "image.png").write_bytes(IMAGES["img001-001.png"])
    source = zipped(tmp_path / "link.zip", {n: c for n, c in KAGGLE.items() if "1-001" not in n})
    with zipfile.ZipFile(source, "a") as archive:
        entry = zipfile.ZipInfo("Img/img001-001.png")
        entry.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(entry, str(tmp_path / "image.png"))
    assert_rejected(folder, r"img001-001\.png differs", source)


def test_bombs(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "MAX_BYTES", 1_000_000)
    words = "it unpacks to more than 1,000,000 bytes"
    bomb = {"zeros": bytes(2_000_000)}
    assert_rejected(folder, words, tgz(tmp_path / "a.tgz", bomb))
    assert_rejected(folder, words, zipped(tmp_path / "a.zip", bomb))
    # tarfile would read this header into memory.
    info = tarfile.TarInfo("long")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, 3_000_000
    (tmp_path / "b.tgz").write_bytes(gzip.compress(info.tobuf() + bytes(4_000_000)))
    assert_rejected(folder, words, tmp_path / "b.tgz")
    # The size that the archive states is false.
    with zipfile.ZipFile(tmp_path / "b.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        entry = zipfile.ZipInfo("Img/img001-001.png")
        entry.compress_type = zipfile.ZIP_DEFLATED
        archive.writestr(entry, bytes(2_000_000))
        entry.file_size = 100
    assert_rejected(folder, "cannot fetch", tmp_path / "b.zip")


class Handler(BaseHTTPRequestHandler):
    """A web server with a good archive and several bad addresses."""

    content = b""

    def log_message(self, *arguments: object) -> None:
        pass

    def do_GET(self) -> None:
        content, stated = self.content, len(self.content)
        if self.path == "/missing":
            self.send_error(404)
            return
        if self.path == "/page":
            content, stated = b"<title>Please log in</title>", 28
        if self.path == "/short":
            content = content[: stated // 2]
        self.send_response(302 if self.path == "/moved" else 200)
        if self.path == "/moved":
            self.send_header("Location", "/good")
        if self.path != "/unsized":
            self.send_header("Content-Length", "0" if self.path == "/moved" else str(stated))
        self.end_headers()
        self.wfile.write(b"" if self.path == "/moved" else content)


@pytest.fixture
def server(tmp_path: Path, folder: Path) -> Iterator[str]:
    Handler.content = tgz(tmp_path / "served.tgz", CHARS74K).read_bytes()
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("path", ["good", "moved", "unsized"])
def test_download(folder: Path, server: str, path: str) -> None:
    get(folder, "chars74k", f"{server}/{path}")
    assert_complete(folder)


def test_servers_that_do_not_help(
    folder: Path, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path, words in (
        ("missing", "the server answers 404"),
        ("page", "truncated|header"),
        ("short", ""),
    ):
        assert_rejected(folder, f"cannot fetch {server}/{path}: .*{words}", f"{server}/{path}")
    assert_rejected(folder, "Connection refused", "http://127.0.0.1:9/a.tgz")
    for url in ("file:///etc/passwd", "ftp://127.0.0.1/a.tgz"):
        assert_rejected(folder, f"cannot fetch {url}: only http and https", url)
    monkeypatch.setattr(fetch, "MAX_BYTES", 100)
    assert_rejected(folder, "it has more than 100 bytes", f"{server}/good")


@pytest.mark.parametrize("source", [None, "kaggle"])
def test_kaggle(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str | None
) -> None:
    def download(name: str) -> str:
        assert name == "someone/set"
        return str(unpacked(tmp_path / "versions/3", KAGGLE))

    def fail(name: str) -> str:
        raise RuntimeError("403 Client Error.\n\nYou don't have permission")

    module = ModuleType("kagglehub")
    module.__spec__ = sys.__spec__
    module.dataset_download = fail  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "kagglehub", module)
    assert_rejected(folder, r"cannot fetch someone/set: 403 Client Error\. You don't", source)
    module.dataset_download = download  # type: ignore[attr-defined]
    get(folder, source)
    assert_complete(folder)


def test_without_kagglehub(folder: Path, server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "kagglehub", None)
    assert_rejected(folder, "cannot fetch someone/set: .*kagglehub.*pip install", "kaggle")
    get(folder, None, f"{server}/good")
    assert_complete(folder)


def test_folders_that_exist(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = zipped(tmp_path / "a.zip", KAGGLE)
    folder.mkdir(parents=True)
    get(folder, source)
    assert_complete(folder)
    get(folder, "nowhere")
    assert "complete already, 4 images verified" in capsys.readouterr().out
    (folder / "Img/img001-001.png").write_bytes(b"mine")
    with pytest.raises(DataError, match=f"{folder} exists already; nothing was changed"):
        get(folder, source)
    assert (folder / "Img/img001-001.png").read_bytes() == b"mine"
    assert list(folder.parent.iterdir()) == [folder]


def test_break_while_writing(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def write(path: Path, content: bytes) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "write_bytes", write)
    with pytest.raises(KeyboardInterrupt):
        get(folder, tmp_path)
    assert list(folder.parent.iterdir()) == []


@pytest.mark.parametrize("place", ["Img/", "img/", ""])
def test_verify(folder: Path, place: str) -> None:
    unpacked(folder, {f"{place}{name}": IMAGES[name] for name in IMAGES})
    table = folder / "english.csv"
    table.write_text(TABLE, "utf-8-sig")
    assert fetch.verify(folder) == []
    rows = TABLE.splitlines()
    table.write_text("\n".join([*rows[:2], "img/img001-002.png,O", *rows[4:], rows[1]]))
    assert fetch.verify(folder) == [
        "english.csv has a row too many: img001-001.png,0",
        "english.csv has a row too many: img001-002.png,O",
        "english.csv lacks the row img001-002.png,0",
        "english.csv lacks the row img011-001.png,A",
    ]
    table.unlink()
    (folder / place / "img001-001.png").unlink()
    (folder / place / "img001-002.png").write_bytes(png(50))
    (folder / place / "img001-056.png").write_bytes(png(51))
    extra, missing, different, absent = fetch.verify(folder)
    assert extra == "img001-056.png is not in the manifest"
    assert missing == "img001-001.png is missing"
    assert different == "img001-002.png differs from the manifest"
    assert absent.startswith("english.csv cannot be read: ")
    with pytest.raises(DataError, match=r"no data folder .*absent"):
        fetch.verify(folder / "absent")


def test_manifest() -> None:
    content = Path(fetch.__file__).with_name("english.sha256").read_bytes()
    assert hashlib.sha256(content).hexdigest() == MANIFEST
    assert list(fetch.manifest()) == [
        f"img{label:03d}-{writer:03d}.png" for label in range(1, 63) for writer in range(1, 56)
    ]
    names = [f"img{number:03d}-001.png" for number in range(1, 63)]
    assert "".join(map(fetch._label, names)) == synthetic.CHARACTERS


def test_real_set(real: Path, tmp_path: Path) -> None:
    assert fetch.verify(real) == []
    get(tmp_path / "english", real)
    table = tmp_path / "english/english.csv"
    assert table.read_bytes() == (real / "english.csv").read_bytes()
    assert len(os.listdir(tmp_path / "english/Img")) == 3410
