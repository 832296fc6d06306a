"""One place that reads and writes files, atomically, on any file system that pyarrow knows."""

from __future__ import annotations

import errno
import os
import posixpath
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from typing import Any
from urllib.parse import quote, unquote
from uuid import uuid4

import pyarrow as pa
from pyarrow import fs

_TEMPORARY = ".tmp"  # together with a leading dot: never listed
_NO_HARD_LINKS = {errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EMLINK}


class StorageError(OSError):
    """A place that cannot be opened, or cannot be written, with the cause and the remedy in one line."""


@dataclass(frozen=True, repr=False)
class Storage:
    """A folder on a local disk or in an object store, under which all paths are relative.

    `root` is a local path (made absolute at once, so it means the same in every process), or a URI such as
    `s3://bucket/folder` or `gs://bucket/folder`, with pyarrow's options in the query
    (`?region=..`, `?endpoint_override=host:port&scheme=http`). Nothing is opened before the first use, and
    only the root is pickled. A path that is absolute or climbs out of the root raises ValueError.
    """

    root: str

    def __post_init__(self) -> None:
        if not self.root:
            raise ValueError("root '' names no place: give a folder ('.' for this one) or a URI")
        object.__setattr__(self, "root", _normal(self.root))

    def __str__(self) -> str:
        """The root without keys and options, fit for messages and logs."""
        if self.local:
            return self.root
        scheme, host, path, _ = _split(self.root)
        return f"{scheme}://{host.rpartition('@')[2]}/{path}".rstrip("/")

    def __repr__(self) -> str:
        return f"Storage({str(self)!r})"

    @property
    def local(self) -> bool:
        return "://" not in self.root

    def child(self, path: str) -> Storage:
        """The storage rooted at a folder below this one."""
        path = _relative(path)
        if self.local:
            return Storage(posixpath.join(self.root, path))
        scheme, host, base, options = _split(self.root)
        return Storage(f"{scheme}://{host}/{posixpath.join(base, quote(path))}{options}")

    def write(self, path: str, data: bytes, exclusive: bool = False) -> None:
        """Make `path` hold `data`: readers see all of it or what was there before, and folders are made.

        Locally a temporary file is synced and renamed; an object store gets one put. With `exclusive`, raises
        FileExistsError when the path is there already (exact between processes locally; in an object store a
        check before the put). Raises OSError when the data cannot be written.
        """
        place, target = self._at(path)
        if self.local:
            _write_local(target, data, exclusive)
        elif exclusive and _is_there(place, target):
            raise FileExistsError(errno.EEXIST, "already there", f"{self}/{path}")
        else:
            _put(place, target, data)

    def read(self, path: str) -> bytes:
        """The content of one file; raises FileNotFoundError when there is none."""
        place, target = self._at(path)
        with place.open_input_file(target) as stream:
            return stream.read()

    def exists(self, path: str = "") -> bool:
        """Whether a file or a folder is there."""
        return _is_there(*self._at(path))

    def names(self, folder: str = "") -> list[str]:
        """Sorted names of the files and folders directly in `folder`; [] when it is absent."""
        place, target = self._at(folder)
        try:
            found = place.get_file_info(fs.FileSelector(target, allow_not_found=True))
        except NotADirectoryError:
            return []
        names = (info.base_name for info in found)
        return sorted(name for name in names if not (name.startswith(".") and name.endswith(_TEMPORARY)))

    def delete(self, path: str) -> None:
        """Remove one file; nothing happens when it is absent."""
        place, target = self._at(path)
        with suppress(FileNotFoundError):
            place.delete_file(target)

    def delete_tree(self, path: str = "") -> None:
        """Remove a folder and all below it ('' empties the root); nothing happens when it is absent."""
        place, target = self._at(path)
        with suppress(FileNotFoundError):
            if _relative(path):
                place.delete_dir(target)
            else:  # the root may be a whole bucket, which is not ours to remove
                place.delete_dir_contents(target)

    def check_writable(self) -> None:
        """Write, read and remove a probe; raises StorageError naming the root, the cause and the remedy."""
        probe, data = _temporary(), b"probe"
        try:
            self.write(probe, data)
            if self.read(probe) != data:
                raise OSError("a probe came back changed")
            self.delete(probe)
        except StorageError:
            raise
        except OSError as error:
            raise StorageError(
                f"cannot write below {self}: {_one_line(error)}; "
                "grant access or free space there, or choose another place for the results"
            ) from error

    def _at(self, path: str) -> tuple[Any, str]:
        """The file system, and where `path` lies on it."""
        path = _relative(path)
        if self.local:
            return fs.LocalFileSystem(), posixpath.join(self.root, path) if path else self.root
        scheme, host, folder, options = _split(self.root)
        try:
            place, base = _connect(f"{scheme}://{host}{options}")
        except (pa.ArrowException, OSError, ValueError) as error:
            raise StorageError(
                f"cannot open {self}: {_one_line(error)}; give a local folder, or a URI that pyarrow "
                "can open (s3://bucket/folder, gs://bucket/folder)"
            ) from error
        return place, posixpath.join(base, unquote(folder), path).rstrip("/")


@cache
def _connect(uri: str) -> tuple[Any, str]:
    """The file system of a URI without its path (one connection per bucket and process), and its base."""
    return fs.FileSystem.from_uri(uri)


def _normal(root: str) -> str:
    if root.startswith("file://"):
        root = unquote(root.removeprefix("file://"))
    if "://" not in root:
        return os.path.abspath(os.path.expanduser(root))
    scheme, host, path, options = _split(root)
    return f"{scheme}://{host}/{path}".rstrip("/") + options if host or path else f"{scheme}://{options}"


def _split(uri: str) -> tuple[str, str, str, str]:
    """Scheme, host with any user, path without slashes around it, and the options with their '?'."""
    scheme, _, rest = uri.partition("://")
    rest, mark, options = rest.partition("?")
    host, _, path = rest.partition("/")
    return scheme, host, path.strip("/"), mark + options


def _relative(path: str) -> str:
    path = posixpath.normpath(path) if path else ""
    if path.startswith(("/", "../")) or path == "..":
        raise ValueError(f"path {path!r} leaves its root: give one relative to the root")
    return "" if path == "." else path


def _is_there(place: Any, target: str) -> bool:
    return place.get_file_info(target).type != fs.FileType.NotFound


def _temporary() -> str:
    return f".{uuid4().hex}{_TEMPORARY}"


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def _write_local(target: str, data: bytes, exclusive: bool) -> None:
    folder = os.path.dirname(target)
    os.makedirs(folder, exist_ok=True)
    temporary = os.path.join(folder, _temporary())  # same folder, so the same file system: a rename is atomic
    try:
        with open(temporary, "xb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        if exclusive:
            _link(temporary, target)
        else:
            os.replace(temporary, target)
    finally:
        with suppress(OSError):  # renamed away, or the error being raised says more
            os.unlink(temporary)


def _link(temporary: str, target: str) -> None:
    """Give a finished file its name, unless the name is taken (then FileExistsError)."""
    try:
        os.link(temporary, target)
    except OSError as error:
        if error.errno not in _NO_HARD_LINKS:
            raise
        # Mounted object stores have no hard links: claim the name first, then rename over the claim.
        os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        try:
            os.replace(temporary, target)
        except BaseException:
            os.unlink(target)
            raise


def _put(place: Any, target: str, data: bytes) -> None:
    # compression=None: pyarrow would otherwise compress by the name's ending.
    try:
        stream = place.open_output_stream(target, compression=None)
    except FileNotFoundError:  # buckets need no folders, other file systems do
        place.create_dir(posixpath.dirname(target), recursive=True)
        stream = place.open_output_stream(target, compression=None)
    with stream:
        stream.write(data)
