"""The real data set: every way to it, and every way in which it goes wrong, on small stand-ins."""

import gzip
import hashlib
import io
import os
import random
import re
import socket
import stat
import sys
import tarfile
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType

import pytest
from PIL import Image

from hwr.data import download, drawing, fetch
from hwr.errors import DataError

LABELS = {
    "img001-001.png": "0",
    "img001-002.png": "0",
    "img011-001.png": "A",
    "img062-055.png": "z",
}
TABLE = "image,label\n" + "".join(f"Img/{name},{label}\n" for name, label in LABELS.items())
UNUSED = "http://127.0.0.1:9/never-asked"


def png(number: int) -> bytes:
    stream = io.BytesIO()
    Image.frombytes("L", (50, 40), random.Random(number).randbytes(2000)).save(stream, "PNG")
    return stream.getvalue()


PICTURES = {name: png(number) for number, name in enumerate(LABELS)}


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A manifest of four pictures in place of the real one."""
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in PICTURES.items()}
    monkeypatch.setattr(fetch, "manifest", lambda: digests)
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setitem(sys.modules, "kagglehub", None)


@pytest.fixture
def place(tmp_path: Path, small: None) -> Path:
    """Where the data set shall go; nothing else may ever lie beside it."""
    (tmp_path / "home").mkdir()
    return tmp_path / "home/english"


def get(place: Path, source: object = None, url: str = UNUSED, timeout: float = 5) -> None:
    source = None if source is None else str(source)
    fetch.fetch(place, source, url, "someone/set", place.parent.parent / "cache", timeout)


def refused(place: Path, words: str, source: object = None, **others: object) -> str:
    """Fetching fails in one sentence with these words, and leaves nothing behind."""
    with pytest.raises(DataError, match=words) as error:
        get(place, source, **others)  # type: ignore[arg-type]
    assert "\n" not in str(error.value)
    assert list(place.parent.iterdir()) == []
    return str(error.value)


def there(place: Path) -> None:
    """The whole data set lies there, and nothing else."""
    files = {str(path.relative_to(place)) for path in place.rglob("*") if path.is_file()}
    assert files == {"english.csv", *(f"Img/{name}" for name in PICTURES)}
    assert (place / "english.csv").read_bytes() == TABLE.encode()
    for name, content in PICTURES.items():
        assert (place / "Img" / name).read_bytes() == content
    assert list(place.parent.iterdir()) == [place]
    assert fetch.verify(place) == []


def chars74k(pictures: dict[str, bytes] = PICTURES) -> dict[str, bytes]:
    """The members of an archive as Chars74K has it."""
    files = {f"English/Hnd/Img/Sample{name[3:6]}/{name}": pictures[name] for name in pictures}
    return {**files, "English/Hnd/Trj/Sample001/img001_001.m": b"strokes", "English/list.txt": b""}


def kaggle(pictures: dict[str, bytes] = PICTURES, folder: str = "Img/") -> dict[str, bytes]:
    """The members of an archive as Kaggle has it."""
    return {"english.csv": TABLE.encode()} | {folder + name: pictures[name] for name in pictures}


def tgz(
    file: Path, members: dict[str, bytes], *others: tarfile.TarInfo, mode: str = "w:gz"
) -> Path:
    with tarfile.open(file, mode) as archive:  # type: ignore[call-overload]
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        for info in others:
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


class Server(ThreadingHTTPServer):
    """A web server that does what the script says, request by request; the last word stays."""

    daemon_threads = True

    def __init__(self, content: bytes) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content = content
        self.tag = '"one"'
        self.script = ["range"]
        self.asked: list[dict[str, str]] = []
        self.over = threading.Event()
        self.url = f"http://127.0.0.1:{self.server_port}/EnglishHnd.tgz"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def log_message(self, *arguments: object) -> None:
        pass

    def do_GET(self) -> None:
        server, asked = self.server, dict(self.headers)
        server.asked.append(asked)
        how = server.script.pop(0) if len(server.script) > 1 else server.script[0]
        start = 0
        match how:
            case "missing":
                self.send_error(404)
                return
            case "page":
                page = b"<!DOCTYPE html><title>Please log in</title>"
                self.head(200, {"Content-Type": "text/html; charset=utf-8"}, len(page))
                self.wfile.write(page)
                return
            case "silent":
                server.over.wait(10)
                return
            case _ if ":" in how:
                self.head(302, {"Location": how}, 0)
                return
        if how != "whole" and "Range" in asked and asked.get("If-Range", server.tag) == server.tag:
            start = int(asked["Range"].removeprefix("bytes=").removesuffix("-"))
        size = len(server.content)
        if start >= size:
            self.head(416, {"Content-Range": f"bytes */{size}"}, 0)
            return
        named = {"Content-Range": f"bytes {start}-{size - 1}/{size}"} if start else {}
        length = None if how == "unsized" else size - start
        self.head(206 if start else 200, named | {"ETag": server.tag}, length)
        rest = server.content[start:]
        if how == "slow":
            for piece in range(0, len(rest), len(server.content) // 20):
                self.wfile.write(rest[piece : piece + len(server.content) // 20])
                server.over.wait(0.02)
            return
        self.wfile.write(rest[: len(rest) // 2] if how in ("drop", "stall") else rest)
        if how == "stall":
            self.wfile.flush()
            server.over.wait(10)

    def head(self, status: int, headers: dict[str, str], length: int | None) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if length is not None:
            self.send_header("Content-Length", str(length))
        self.end_headers()


@pytest.fixture
def server(tmp_path: Path, small: None) -> Iterator[Server]:
    content = tgz(tmp_path / "served.tgz", chars74k()).read_bytes()
    with Server(content) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.over.set()
        server.shutdown()
        thread.join()


def cached(place: Path) -> list[str]:
    return sorted(path.suffix for path in (place.parent.parent / "cache").iterdir())


@pytest.mark.parametrize(
    "make",
    [
        lambda path: unpacked(path / "given", kaggle()),
        lambda path: unpacked(path / "given", kaggle(folder="img/")),
        lambda path: unpacked(path / "given", kaggle(folder="")),
        lambda path: unpacked(path / "given/deep/er", chars74k()),
        lambda path: tgz(path / "given.tgz", chars74k()),
        lambda path: tgz(path / "given.tar.gz", kaggle()),
        lambda path: tgz(path / "given.tar", chars74k(), mode="w"),
        lambda path: zipped(path / "given.zip", kaggle()),
        lambda path: zipped(path / "given", {f"./a/{k}": v for k, v in chars74k().items()}),
        lambda path: zipped(path / "given.zip", kaggle() | {"copy/img001-001.png": png(0)}),
    ],
)
def test_local_sources(
    place: Path,
    tmp_path: Path,
    make: Callable[[Path], Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    get(place, make(tmp_path))
    there(place)
    said = capsys.readouterr()
    assert f"{place}: 4 pictures, each verified" in said.out
    assert said.err == ""


def test_relative_folder_with_new_parents(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    fetch.fetch(Path("new/data/english"), str(zipped(tmp_path / "a.zip", kaggle())), "", "")
    there(tmp_path / "new/data/english")


def test_labels_come_from_the_names(place: Path, tmp_path: Path) -> None:
    members = kaggle() | {"english.csv": b"image,label\nImg/img001-001.png,Q\n"}
    get(place, zipped(tmp_path / "a.zip", members))
    there(place)
    names = [f"img{number:03d}-001.png" for number in range(1, 63)]
    assert "".join(map(fetch._label, names)) == drawing.CHARACTERS


def test_no_such_source(place: Path, tmp_path: Path) -> None:
    refused(place, r"no archive or folder kagle; .*--from kaggle .*--from FILE", "kagle")
    (tmp_path / "empty.tgz").touch()
    refused(place, r"empty\.tgz cannot be read as archive .*: empty file", tmp_path / "empty.tgz")


@pytest.mark.parametrize("pack", [tgz, zipped, unpacked])
def test_wrong_pictures(
    place: Path, tmp_path: Path, pack: Callable[[Path, dict[str, bytes]], Path]
) -> None:
    one_bad = PICTURES | {"img011-001.png": png(99)}
    source = pack(tmp_path / "bad", kaggle(one_bad))
    refused(place, r"is not the data set: of 4 pictures 1 different \(img011-001\.png\)$", source)
    one_less = {name: one_bad[name] for name in list(PICTURES)[1:]}
    source = pack(tmp_path / "less", kaggle(one_less))
    refused(place, r"4 pictures 1 missing \(img001-001\.png\); 1 different \(img011", source)
    others = {name: png(number) for number, name in enumerate(PICTURES, start=50)}
    words = r"4 different \(img001-001\.png, img001-002\.png, img011-001\.png, \.\.\.\); not one"
    refused(place, words, pack(tmp_path / "others", chars74k(others)))
    refused(place, "4 missing", pack(tmp_path / "nothing", {"Img/img001-00001.png": png(0)}))
    twice = kaggle() | {"copy/img001-001.png": png(77)}
    words = r"refused: it has two different pictures img001-001\.png"
    refused(place, words, pack(tmp_path / "twice", twice))


def test_truncated_archives(place: Path, tmp_path: Path) -> None:
    for name, whole in {
        "a.tgz": tgz(tmp_path / "a.tgz", chars74k()),
        "a.tar": tgz(tmp_path / "a.tar", chars74k(), mode="w"),
        "a.zip": zipped(tmp_path / "a.zip", kaggle()),
    }.items():
        whole.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
        refused(place, rf"{name} cannot be read as archive", whole)
    damaged = bytearray(zipped(tmp_path / "b.zip", kaggle()).read_bytes())
    damaged[len(damaged) // 2] ^= 255
    (tmp_path / "b.zip").write_bytes(damaged)
    refused(place, r"b\.zip cannot be read as archive", tmp_path / "b.zip")


def link(kind: bytes, target: str) -> tarfile.TarInfo:
    info = tarfile.TarInfo("English/Hnd/Img/Sample001/link.png")
    info.type, info.linkname = kind, target
    return info


@pytest.mark.parametrize(
    ("name", "info"),
    [
        ("../outside.png", None),
        ("English/../../outside.png", None),
        ("/tmp/outside.png", None),
        ("..\\outside.png", None),
        ("C:\\outside.png", None),
        (None, link(tarfile.SYMTYPE, "/etc/passwd")),
        (None, link(tarfile.LNKTYPE, "/etc/passwd")),
        (None, link(tarfile.CHRTYPE, "")),
        (None, link(tarfile.FIFOTYPE, "")),
    ],
)
def test_hostile_tar(
    place: Path, tmp_path: Path, name: str | None, info: tarfile.TarInfo | None
) -> None:
    members = chars74k() | ({name: b"bad"} if name else {})
    source = tgz(tmp_path / "bad.tgz", members, *([info] if info else []))
    before = sorted(tmp_path.rglob("*"))
    said = refused(place, r"bad\.tgz is refused: its member .* (leads outside|is no plain)", source)
    assert repr(name or "English/Hnd/Img/Sample001/link.png") in said
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("name", ["../outside.png", "/outside.png", "a\\..\\..\\outside.png"])
def test_hostile_zip(place: Path, tmp_path: Path, name: str) -> None:
    source = zipped(tmp_path / "bad.zip", kaggle() | {name: b"bad"})
    before = sorted(tmp_path.rglob("*"))
    refused(place, r"bad\.zip is refused: its member .*outside\.png' leads outside", source)
    assert sorted(tmp_path.rglob("*")) == before


def test_zip_with_a_link_or_unusual_packing(place: Path, tmp_path: Path) -> None:
    source = zipped(tmp_path / "link.zip", kaggle())
    with zipfile.ZipFile(source, "a") as archive:
        entry = zipfile.ZipInfo("Img/link.png")
        entry.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(entry, "/etc/passwd")
    refused(place, r"its member 'Img/link\.png' is no plain file", source)
    with zipfile.ZipFile(tmp_path / "odd.zip", "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("Img/img001-001.png", bytes(5_000_000))
    refused(place, "'Img/img001-001.png' is no plain file", tmp_path / "odd.zip")


def test_bombs(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bomb = PICTURES | {"img001-002.png": bytes(2_000_000)}
    for source in (
        tgz(tmp_path / "a.tgz", chars74k(bomb)),
        zipped(tmp_path / "a.zip", kaggle(bomb)),
        unpacked(tmp_path / "a", kaggle(bomb)),
    ):
        refused(place, r"img001-002\.png' has 2,000,000 bytes, a picture at most", source)
    # The size that the archive states is a lie.
    with zipfile.ZipFile(tmp_path / "lie.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        entry = zipfile.ZipInfo("Img/img001-001.png")
        entry.compress_type = zipfile.ZIP_DEFLATED
        archive.writestr(entry, bytes(2_000_000))
        entry.file_size = 100
    refused(place, r"lie\.zip cannot be read as archive", tmp_path / "lie.zip")
    # A file that nobody wants, of which there is but the header.
    info = tarfile.TarInfo("huge.bin")
    info.size = 2 * download.MOST_BYTES
    (tmp_path / "b.tgz").write_bytes(gzip.compress(info.tobuf()))
    refused(place, r"it unpacks to more than 20,000 files or 1,000,000,000 b", tmp_path / "b.tgz")
    # A header that would be read into memory.
    info = tarfile.TarInfo("long")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, 3_000_000
    (tmp_path / "c.tgz").write_bytes(gzip.compress(info.tobuf() + bytes(4_000_000)))
    refused(place, r"c\.tgz cannot be read as archive .*a header is too long", tmp_path / "c.tgz")
    for kind in (tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE):
        info.type = kind
        (tmp_path / "c.tar").write_bytes(info.tobuf() + bytes(4_000_000))
        refused(place, r"c\.tar cannot be read as archive .*header is too long", tmp_path / "c.tar")
    monkeypatch.setattr("hwr.data.archive.MOST_MEMBERS", 5)
    refused(place, "it unpacks to more than 5 files", tgz(tmp_path / "d.tgz", chars74k()))


def test_download(place: Path, server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    get(place, "chars74k", server.url)
    there(place)
    assert cached(place) == []
    assert len(server.asked) == 1
    assert "Range" not in server.asked[0]
    assert capsys.readouterr().err == ""


def test_bar_on_a_terminal(
    place: Path, server: Server, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    get(place, server.url)
    there(place)
    assert "100%" in capsys.readouterr().err


@pytest.mark.parametrize("how", ["drop", "stall"])
def test_broken_off_download_goes_on(place: Path, server: Server, how: str) -> None:
    server.script = [how, "range"]
    get(place, server.url, timeout=0.3)
    there(place)
    assert cached(place) == []
    half = len(server.content) // 2
    assert [asked.get("Range") for asked in server.asked] == [None, f"bytes={half}-"]
    assert server.asked[1]["If-Range"] == server.tag


def test_download_goes_on_in_the_next_run(place: Path, server: Server) -> None:
    server.script = ["drop"]
    size = len(server.content)
    said = refused(place, rf"it broke off after [\d,]+ of {size:,} bytes", server.url)
    assert "bytes are kept for the next try" in said
    assert len(server.asked) == 4
    assert cached(place) == [".part", ".version"]
    have = (size // 2) + (size - size // 2) // 2
    assert server.asked[2]["Range"] == f"bytes={have}-"
    server.script = ["range"]
    get(place, server.url)
    there(place)
    assert int(server.asked[4]["Range"].strip("bytes=-")) > have
    assert cached(place) == []


def test_archive_that_changed_between_two_runs(place: Path, tmp_path: Path, server: Server) -> None:
    server.script = ["drop"]
    refused(place, "broke off", server.url)
    other = chars74k() | {"English/more.txt": os.urandom(500)}
    server.content, server.tag = tgz(tmp_path / "other.tgz", other).read_bytes(), '"two"'
    server.script = ["range"]
    get(place, server.url)
    there(place)
    assert server.asked[-1]["If-Range"] == '"one"'


def test_without_a_version_the_length_decides(place: Path, tmp_path: Path, server: Server) -> None:
    server.script, server.tag = ["drop"], "W/one"
    refused(place, "broke off", server.url)
    other = chars74k() | {"English/more.txt": os.urandom(500)}
    server.content = tgz(tmp_path / "other.tgz", other).read_bytes()
    server.script = ["range"]
    get(place, server.url)
    there(place)
    assert [("Range" in asked) for asked in server.asked[-2:]] == [True, False]
    assert "If-Range" not in server.asked[-2]


@pytest.mark.parametrize("how", ["whole", "unsized"])
def test_server_that_ignores_range(place: Path, server: Server, how: str) -> None:
    server.script = ["drop", how]
    get(place, server.url)
    there(place)
    assert "Range" in server.asked[1]


def test_download_that_was_complete_already(
    place: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(fetch, "_pictures", interrupted)
        with pytest.raises(KeyboardInterrupt):
            get(place, server.url)
    assert cached(place) == [".part", ".version"]
    get(place, server.url)
    there(place)
    assert server.asked[1]["Range"] == f"bytes={len(server.content)}-"
    assert len(server.asked) == 2


def test_archive_that_shrank_on_the_server(place: Path, tmp_path: Path, server: Server) -> None:
    whole = server.content
    server.content, server.tag = os.urandom(3 * len(whole)), "W/"
    server.script = ["drop"]
    refused(place, "broke off", server.url)
    server.content, server.script = whole, ["range"]
    get(place, server.url)
    there(place)


def test_short_body(place: Path, server: Server) -> None:
    server.script = ["drop"]
    server.content = server.content[:4000]
    refused(place, r"it broke off after 3,750 of 4,000 bytes \(3,750 bytes are kept", server.url)
    assert len(server.asked) == 4


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("missing", "the server answers 404 Not Found"),
        ("page", "the server answers with a web page, not with an archive"),
        ("silent", r"no answer for 0\.2 s"),
        ("file:///etc/passwd", "the server answers 302 .* is not allowed"),
        ("ftp://127.0.0.1/EnglishHnd.tgz", "unknown url type: ftp"),
    ],
)
def test_servers_that_do_not_help(place: Path, server: Server, how: str, words: str) -> None:
    server.script = [how]
    said = refused(place, f"cannot download {server.url}: {words}", server.url, timeout=0.2)
    for way in ("--from kaggle", "pip install 'hwr[kaggle]'", "--from FILE", "data=synthetic"):
        assert way in said
    assert len(server.asked) == (4 if how == "silent" else 1)
    assert cached(place) == []


def test_redirect(place: Path, server: Server) -> None:
    server.script = [server.url, "range"]
    get(place, server.url)
    there(place)
    assert len(server.asked) == 2
    server.script = [server.url]
    place = place.with_name("loop")
    with pytest.raises(DataError, match=r"answers 302 .* infinite loop") as error:
        get(place, server.url)
    assert "\n" not in str(error.value)
    assert not place.exists()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"<!DOCTYPE html><title>Moved</title>", "cannot be read as archive"),
        (b"\x1f\x8bnonsense", "cannot be read as archive"),
        (b"PK\x03\x04nonsense", "cannot be read as archive"),
    ],
)
def test_wrong_archive_is_downloaded_afresh(
    place: Path, server: Server, content: bytes, words: str
) -> None:
    right, server.content = server.content, content
    said = refused(place, f"{re.escape(server.url)} {words}.*other ways: --from kaggle", server.url)
    assert ".part" not in said
    assert cached(place) == []
    server.content = right
    get(place, server.url)
    there(place)
    assert "Range" not in server.asked[1]


def test_too_long_for_an_archive(
    place: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "MOST_BYTES", 100)
    refused(place, r"it has [\d,]+ bytes, the limit is 100;", server.url)
    server.script = ["unsized"]
    refused(place, "it has more than 100 bytes;", server.url)
    assert cached(place) == []


def test_refused_connection(place: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    said = refused(place, "Connection refused", f"http://127.0.0.1:{port}/EnglishHnd.tgz")
    assert f"http://127.0.0.1:{port}/EnglishHnd.tgz" in said
    assert "--from kaggle" in said
    assert "data=synthetic" in said


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://127.0.0.1/a.tgz", "data://x"])
def test_other_schemes(place: Path, url: str) -> None:
    refused(place, f"cannot download {url}: only http and https", url)
    refused(place, f"cannot download {url}: only http and https", "chars74k", url=url)


def test_cache_that_cannot_be_written(place: Path, server: Server, tmp_path: Path) -> None:
    (tmp_path / "cache").touch()
    refused(place, f"cannot download {server.url}: (File exists|Not a directory)", server.url)
    assert server.asked == []


def test_no_home_for_the_cache(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless(path: Path) -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "expanduser", homeless)
    refused(place, "no folder .*cache: Could not determine .* HWR_CACHE", UNUSED)


def test_complete_folder_is_left_alone(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    get(place, zipped(tmp_path / "a.zip", kaggle()))
    before = place.stat().st_mtime_ns, place.stat().st_ino
    get(place, "nowhere")
    assert "complete already, 4 pictures verified" in capsys.readouterr().out
    assert (place.stat().st_mtime_ns, place.stat().st_ino) == before


def test_folder_with_placeholders_is_filled(place: Path, tmp_path: Path) -> None:
    source = zipped(tmp_path / "a.zip", kaggle())
    place.mkdir()
    get(place, source)
    there(place)
    other = place.with_name("other")
    unpacked(other, {".gitkeep": b"", "README.md": b"mine"})
    get(other, source)
    assert sorted(os.listdir(other)) == [".gitkeep", "Img", "README.md", "english.csv"]
    assert (other / "README.md").read_text() == "mine"
    assert fetch.verify(other) == []
    assert sorted(path.name for path in place.parent.iterdir()) == ["english", "other"]


def test_folder_with_files_is_left_untouched(place: Path, tmp_path: Path) -> None:
    source = zipped(tmp_path / "a.zip", kaggle())
    unpacked(place, {"notes.txt": b"mine", "Img/img001-001.png": b"mine too"})
    with pytest.raises(DataError, match=rf"{place} is not empty.*nothing was changed"):
        get(place, source)
    assert (place / "notes.txt").read_bytes() == b"mine"
    assert (place / "Img/img001-001.png").read_bytes() == b"mine too"
    assert len(list(place.rglob("*"))) == 3
    assert list(place.parent.iterdir()) == [place]
    with pytest.raises(DataError, match=r"notes\.txt is no folder; nothing was changed"):
        get(place / "notes.txt", source)
    assert (place / "notes.txt").read_bytes() == b"mine"


def test_files_that_appear_meanwhile_are_kept(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    true_pictures = fetch._pictures

    def slow(*arguments: object) -> object:
        unpacked(place, {"README.md": b"one", "notes.txt": b"mine"})
        return true_pictures(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(fetch, "_pictures", slow)
    with pytest.raises(DataError, match="is not empty"):
        get(place, zipped(tmp_path / "a.zip", kaggle()))
    assert sorted(os.listdir(place)) == ["README.md", "notes.txt"]
    assert list(place.parent.iterdir()) == [place]


@pytest.mark.parametrize(
    ("error", "raised", "words"),
    [
        (KeyboardInterrupt(), KeyboardInterrupt, ""),
        (
            OSError(28, "No space left on device", "here"),
            DataError,
            "here: No space left on device",
        ),
    ],
)
def test_break_while_writing(
    place: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException,
    raised: type[BaseException],
    words: str,
) -> None:
    source = zipped(tmp_path / "a.zip", kaggle())
    true_write, written = Path.write_bytes, []

    def write(path: Path, content: bytes) -> int:
        written.append(path)
        if len(written) == 3:
            raise error
        return true_write(path, content)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", write)
        with pytest.raises(raised) as caught:
            get(place, source)
    assert str(caught.value) == words
    assert len(written) == 3
    assert list(place.parent.iterdir()) == []


def test_break_while_downloading(
    place: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Bar(download.tqdm):  # type: ignore[misc, name-defined]
        def update(self, n: float | None = 1) -> None:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(download, "tqdm", Bar)
        with pytest.raises(KeyboardInterrupt):
            get(place, server.url)
    assert list(place.parent.iterdir()) == []
    get(place, server.url)
    there(place)


def hub(monkeypatch: pytest.MonkeyPatch, download: Callable[[str], str]) -> None:
    module = ModuleType("kagglehub")
    module.dataset_download = download  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "kagglehub", module)


@pytest.mark.parametrize("source", [None, "kaggle"])
def test_kaggle(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str | None
) -> None:
    asked = []
    folder = unpacked(tmp_path / "versions/3", kaggle())
    hub(monkeypatch, lambda name: asked.append(name) or str(folder))  # type: ignore[func-returns-value]
    get(place, source)
    there(place)
    assert asked == ["someone/set"]
    assert len(list((folder / "Img").iterdir())) == 4


def broken_hub(name: str) -> str:
    raise RuntimeError("403 Client Error.\n\nYou don't have permission")


def test_kaggle_fails(
    place: Path,
    server: Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    refused(place, "kagglehub is not installed; other ways: .*pip install", "kaggle")
    hub(monkeypatch, broken_hub)
    refused(place, "kagglehub cannot download someone/set .403 Client Error", "kaggle")
    empty = unpacked(tmp_path / "empty", {"readme.txt": b""})
    hub(monkeypatch, lambda name: str(empty))
    refused(place, "empty is not the data set: of 4 pictures 4 missing", "kaggle")
    hub(monkeypatch, lambda name: str(tmp_path / "absent"))
    refused(place, "absent cannot be read", "kaggle")
    assert server.asked == []
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("installed", [False, True])
def test_kaggle_fails_and_chars74k_helps(
    place: Path,
    server: Server,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    installed: bool,
) -> None:
    if installed:
        hub(monkeypatch, broken_hub)
    get(place, None, server.url)
    there(place)
    said = capsys.readouterr().err
    why = "cannot download someone/set (403 Client" if installed else "is not installed"
    assert why in said
    assert f"going on with {server.url}" in said
    assert said.count("\n") == 1


@pytest.mark.parametrize("folder", ["Img/", "img/", ""])
def test_verify(place: Path, folder: str) -> None:
    unpacked(place, kaggle(folder=folder) | {"notes.txt": b""})
    pictures = place / folder
    assert fetch.verify(place) == []
    content = bytearray(PICTURES["img001-002.png"])
    content[30] ^= 1
    (pictures / "img001-002.png").write_bytes(content)
    assert fetch.verify(place) == [f"{folder}img001-002.png differs from the manifest"]
    (pictures / "img001-002.png").write_bytes(PICTURES["img001-002.png"])
    (pictures / "img001-056.png").write_bytes(png(0))
    assert fetch.verify(place) == [f"{folder}img001-056.png is not in the manifest"]
    (pictures / "img001-056.png").unlink()
    (pictures / "img011-001.png").unlink()
    assert fetch.verify(place) == ["img011-001.png is missing"]
    (pictures / "img011-001.png").mkdir()
    (line,) = fetch.verify(place)
    assert line.startswith(f"{folder}img011-001.png cannot be read: ")


def test_verify_picture_that_lies_there_twice(place: Path) -> None:
    unpacked(place, kaggle() | {"img001-001.png": PICTURES["img001-001.png"]})
    assert fetch.verify(place) == ["img001-001.png is there twice"]


def test_verify_table(place: Path) -> None:
    unpacked(place, kaggle())
    table = place / "english.csv"
    rows = TABLE.splitlines()
    table.write_text("\n".join([*rows[:2], "img/img001-002.png,O", *rows[4:], "x.png,a", rows[1]]))
    assert fetch.verify(place) == [
        "english.csv row 2: img/img001-002.png has the label O, not 0",
        "english.csv row 4: x.png is not in the manifest",
        "english.csv row 5: Img/img001-001.png is there twice",
        "english.csv has no row for img011-001.png",
    ]
    table.write_text(
        "label,image\n" + "".join(f"{v},{k}\n" for k, v in LABELS.items()), "utf-8-sig"
    )
    assert fetch.verify(place) == []
    table.write_text("file,label\na,b\n")
    assert fetch.verify(place) == ["english.csv lacks the column 'image'"]
    table.write_bytes(b"image,label\n\xff,a\n")
    (line,) = fetch.verify(place)
    assert line.startswith("english.csv cannot be read: 'utf-8' codec")
    table.unlink()
    assert fetch.verify(place) == ["english.csv cannot be read: No such file or directory"]
    with pytest.raises(DataError, match=r"no data folder .*absent"):
        fetch.verify(place / "absent")


def test_manifest(monkeypatch: pytest.MonkeyPatch) -> None:
    assert list(fetch.manifest()) == [
        f"img{label:03d}-{writer:03d}.png" for label in range(1, 63) for writer in range(1, 56)
    ]
    assert all(re.fullmatch("[0-9a-f]{64}", digest) for digest in fetch.manifest().values())
    monkeypatch.setattr(fetch, "MANIFEST", "0" * 64)
    with pytest.raises(DataError, match=r"english\.sha256 was changed"):
        fetch.manifest.__wrapped__()


def test_real_set(real: Path, tmp_path: Path) -> None:
    assert fetch.verify(real) == []
    fetch.fetch(tmp_path / "home/english", str(real), UNUSED, "")
    table = tmp_path / "home/english/english.csv"
    assert table.read_bytes() == (real / "english.csv").read_bytes()
    assert len(os.listdir(tmp_path / "home/english/Img")) == 3410
    assert os.listdir(tmp_path / "home") == ["english"]


def test_two_downloads_at_once(place: Path, server: Server) -> None:
    """The second is told to wait, and loses nothing of the first."""
    server.script = ["slow"]
    first = threading.Thread(target=get, args=(place, server.url))
    first.start()
    while not server.asked:
        time.sleep(0.001)
    other = place.with_name("other")
    with pytest.raises(DataError, match=r"another process downloads into .*; wait for it"):
        get(other, server.url)
    first.join()
    there(place)
