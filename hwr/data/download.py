"""Downloads that go on where they broke off."""

import hashlib
import http.client
import re
import sys
from contextlib import suppress
from pathlib import Path
from urllib import request
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit

from tqdm import tqdm

from hwr.errors import DataError
from hwr.files import file_lock

MOST_BYTES = 10**9
RETRIES = 3
BROKEN = (ConnectionError, TimeoutError, http.client.IncompleteRead)


def download(url: str, cache: Path, timeout: float) -> Path:
    """Download into the cache; what comes of a broken-off download is kept, and continued.

    Raises:
        DataError: It fails, after three retries where the connection stalls or drops.
    """
    try:
        cache = cache.expanduser()
    except RuntimeError as error:  # ~ where nobody has a home
        raise DataError(f"no folder {cache}: {error}; name another with HWR_CACHE") from error
    part = cache / f"{hashlib.sha256(url.encode()).hexdigest()[:16]}.part"
    try:
        if urlsplit(url).scheme not in ("http", "https"):
            raise ValueError("only http and https URLs are fetched")
        cache.mkdir(parents=True, exist_ok=True)
        taken = DataError(f"another process downloads into {cache}; wait for it")
        with file_lock(cache, taken):
            for _ in range(RETRIES):
                with suppress(*BROKEN):
                    return _continue(url, part, timeout)
            return _continue(url, part, timeout)
    except (OSError, http.client.HTTPException, ValueError) as error:
        if isinstance(error, HTTPError):
            error.close()
        why = f"no answer for {timeout:g} s" if isinstance(error, TimeoutError) else reason(error)
        kept = part.stat().st_size if part.exists() else 0
        more = f" ({kept:,} bytes are kept for the next try)" if kept else ""
        raise DataError(f"cannot download {url}: {why}{more}") from error


def _continue(url: str, part: Path, timeout: float) -> Path:
    """Ask for the bytes that `part` lacks and append them.

    The length and the version (ETag or Last-Modified) of what is there lie beside it.
    """
    note = part.with_suffix(".version")
    have = part.stat().st_size if part.exists() and note.exists() else 0
    length, _, version = note.read_text("utf-8").partition(" ") if have else ("", "", "")
    asked = request.Request(url, headers={"User-Agent": "hwr"})
    if have:
        asked.add_header("Range", f"bytes={have}-")
        if version:
            asked.add_header("If-Range", version)
    try:
        answer = _opener().open(asked, timeout=timeout)
    except HTTPError as error:
        if error.code != 416 or not have:
            raise
        error.close()
        if error.headers["Content-Range"] == f"bytes */{have}":
            return part  # it was complete
        forget(part)
        raise ConnectionError("the archive has changed on the server") from error
    with answer:
        if answer.headers.get_content_type() == "text/html":
            raise ValueError("the server answers with a web page, not with an archive")
        if answer.status == 206:
            if not re.fullmatch(
                rf"bytes {have}-\d+/{length}", answer.headers["Content-Range"] or ""
            ):
                forget(part)
                raise ConnectionError("the server sends another part than the one asked for")
        else:
            have, length = 0, answer.headers["Content-Length"] or "0"
            tag = answer.headers["ETag"] or "W/"
            # A weak tag doesn't promise the same bytes.
            version = tag if tag[:2] != "W/" else answer.headers["Last-Modified"] or ""
        if int(length) > MOST_BYTES:
            raise ValueError(f"it has {int(length):,} bytes, the limit is {MOST_BYTES:,}")
        quiet = not sys.stderr.isatty()
        bar = tqdm(
            total=int(length) or None, initial=have, unit="B", unit_scale=True, disable=quiet
        )
        with part.open("ab" if have else "wb") as file, bar:
            note.write_text(f"{length} {version}", "utf-8")  # once the old bytes are gone
            while have <= MOST_BYTES and (chunk := answer.read1(1 << 16)):
                have += file.write(chunk)
                bar.update(len(chunk))
    if have > MOST_BYTES:
        forget(part)
        raise ValueError(f"it has more than {MOST_BYTES:,} bytes")
    if have < int(length):
        raise ConnectionError(f"it broke off after {have:,} of {int(length):,} bytes")
    return part


def _opener() -> request.OpenerDirector:
    """Opens http and https only: what it has no handler for, a redirect can't reach either."""
    opener = request.OpenerDirector()
    for handler in (
        request.ProxyHandler,
        request.UnknownHandler,
        request.HTTPHandler,
        request.HTTPSHandler,
        request.HTTPRedirectHandler,
        request.HTTPDefaultErrorHandler,
        request.HTTPErrorProcessor,
    ):
        opener.add_handler(handler())
    return opener


def forget(part: Path) -> None:
    """Remove a download, whole or broken off."""
    part.unlink(missing_ok=True)
    part.with_suffix(".version").unlink(missing_ok=True)


def reason(error: BaseException) -> str:
    """The reason in a few words and on one line."""
    words: object = getattr(error, "strerror", None) or str(error) or type(error).__name__
    if isinstance(error, HTTPError):
        words = f"the server answers {error.code} {error.reason}"
    elif isinstance(error, URLError):
        words = reason(error.reason) if isinstance(error.reason, BaseException) else error.reason
    return " ".join(str(words).split())
