"""A folder of derived files, made once, valid as long as the files they came from stay as they are."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

Made = TypeVar("Made")
_VERSION = 1  # count up when what is cached changes its meaning


def key(kind: str, files: Sequence[Path]) -> str:
    """A name that changes with the kind and with the path, size or modification time of any file."""
    digest = hashlib.sha256(f"{kind} {_VERSION}".encode())
    for file in files:
        state = file.stat()
        digest.update(f"\n{file.resolve()} {state.st_size} {state.st_mtime_ns}".encode())
    return f"{kind}-{digest.hexdigest()[:20]}"


def cached(entry: Path, fill: Callable[[Path], None], load: Callable[[Path], Made]) -> Made:
    """load(entry), after fill() wrote the folder's content when it is missing or damaged.

    Safe with several processes: one fills a temporary folder and renames it, the others wait for it.
    OSError when the cache cannot be written; load must raise OSError or ValueError for damaged files.
    """
    with suppress(OSError, ValueError):
        return load(entry)
    with locked(entry.with_name(f"{entry.name}.lock")) as alone:
        with suppress(OSError, ValueError):
            return load(entry)
        if alone:
            _remove_leftovers(entry)
        shutil.rmtree(entry, ignore_errors=True)
        _fill(entry, fill)
        return load(entry)


@contextmanager
def locked(path: Path) -> Iterator[bool]:
    """Holds a lock file against other processes and threads, and says whether the system has such locks."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as handle:
        held = False
        with suppress(ImportError, OSError):
            import fcntl

            fcntl.flock(handle, fcntl.LOCK_EX)
            held = True
        yield held


def _remove_leftovers(entry: Path) -> None:
    """Who is killed while it fills an entry leaves up to a whole data set, under a name of its own."""
    for left in entry.parent.glob(f".{entry.name}-*"):
        shutil.rmtree(left, ignore_errors=True)


def _fill(entry: Path, fill: Callable[[Path], None]) -> None:
    making = Path(tempfile.mkdtemp(prefix=f".{entry.name}-", dir=entry.parent))
    try:
        fill(making)
        for file in making.iterdir():
            _sync(file)
        making.chmod(0o755)
        making.rename(entry)
    except BaseException:
        shutil.rmtree(making, ignore_errors=True)
        raise


def _sync(file: Path) -> None:
    with file.open("rb+") as handle:
        os.fsync(handle.fileno())
