"""Files from the web: resumed where they broke off, shown as they come, verified, then renamed."""

import fcntl
import time
from collections.abc import Sequence
from pathlib import Path

import requests
from tqdm import tqdm

from data_prep import DataError
from data_prep.files import file_digest, rename_synced

TIMEOUT = (10, 30)  # seconds to connect, and without a byte
ATTEMPTS = 4  # connections to one server
BLOCK = 1 << 16
BROKEN = (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError)


def download(urls: Sequence[str], path: Path, checksum: str | None) -> None:
    """Fetch path from the first of the urls (mirrors of one file) that serves it.

    checksum: ``md5:``, ``sha1:`` or ``sha256:`` and hex, or None where none was published. The file
    gets its name once it is whole and verified; until then it is ``<name>.part``, which a later
    call goes on with where the server's validator shows it to be the same file.
    Raises DataError with each server's reason, and where to put the file by hand.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    with open(part, "ab") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DataError(f"{part}: another process is fetching it; wait for it") from None
        reasons = []
        for url in urls:
            try:
                _fetch(url, part)
                _verify(part, checksum)
            except (requests.RequestException, _Refused) as error:
                reasons.append(f"{url}: {_reason(error)}")
                continue
            rename_synced(part, path)
            _validator(part).unlink(missing_ok=True)
            return
    if part.stat().st_size == 0:
        part.unlink()
    raise DataError(
        f"{path.name} could not be fetched ({'; '.join(reasons)}); "
        f"try again later, or put the file at {path} by hand"
    )


class _Refused(Exception):
    """What the server sent is not the file that was asked for."""


def _fetch(url: str, part: Path) -> None:
    """Bring part to its full length, over several connections where they break."""
    for attempt in range(ATTEMPTS):
        try:
            _fetch_once(url, part)
            return
        except BROKEN as error:
            unreachable = part.stat().st_size == 0
            if unreachable or attempt == ATTEMPTS - 1:
                raise
            print(f"{url}: {_reason(error)}; trying again", flush=True)
            time.sleep(2**attempt / 4)


def _fetch_once(url: str, part: Path) -> None:
    """Append to part what is missing, or write it anew where the server's file is another one."""
    validator = _validator(part)
    have = part.stat().st_size if validator.exists() else 0
    headers = {"Accept-Encoding": "identity"}
    if have:
        headers |= {"Range": f"bytes={have}-", "If-Range": validator.read_text()}
    with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT) as response:
        if (
            response.status_code == 416
            and response.headers.get("Content-Range") == f"bytes */{have}"
        ):
            return  # whole already: interrupted between the last byte and the new name
        response.raise_for_status()
        if response.headers.get("Content-Type", "").startswith("text/html"):
            raise _Refused("a web page came in place of the file")
        resumed = response.headers.get("Content-Range", "").startswith(f"bytes {have}-")
        start = have if resumed else 0
        length = response.headers.get("Content-Length")
        total = start + int(length) if length else None
        _remember_validator(validator, response.headers)
        with (
            open(part, "ab" if resumed else "wb") as file,
            tqdm(
                initial=start,
                total=total,
                desc=part.stem,
                unit="B",
                unit_scale=True,
                disable=None,
            ) as progress,
        ):
            for block in response.iter_content(BLOCK):
                file.write(block)
                progress.update(len(block))


def _validator(part: Path) -> Path:
    """Return the file that keeps the server's name of this version of part (ETag or date)."""
    return part.with_name(f"{part.name}.validator")


def _remember_validator(validator: Path, headers: dict[str, str]) -> None:
    etag = headers.get("ETag", "")
    version = etag if etag and not etag.startswith("W/") else headers.get("Last-Modified")
    if version:
        validator.write_text(version)
    else:
        validator.unlink(missing_ok=True)  # nothing to resume by


def _verify(part: Path, checksum: str | None) -> None:
    """Raise _Refused, and remove part, where it is empty, a web page or not what was published."""
    reason = None
    with open(part, "rb") as file:
        head = file.read(512).lstrip().lower()
    if not head:
        reason = "the file came empty"
    elif head.startswith((b"<!doctype html", b"<html")):
        reason = "a web page came in place of the file"
    elif checksum:
        algorithm, expected = checksum.split(":")
        found = file_digest(part, algorithm)
        if found != expected:
            reason = f"{algorithm} of what came is {found}, not {expected}"
    if reason:
        part.write_bytes(b"")
        _validator(part).unlink(missing_ok=True)
        raise _Refused(reason)


def _reason(error: Exception) -> str:
    if isinstance(error, requests.HTTPError):
        return f"{error.response.status_code} {error.response.reason}"
    if isinstance(error, requests.Timeout):
        return "no answer in time"
    if isinstance(error, BROKEN):
        return "no connection, or it broke"
    return str(error)
