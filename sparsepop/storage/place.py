"""One place that reads and writes files, atomically, on any file system that pyarrow knows."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import pyarrow as pa
from pyarrow import fs

from sparsepop.storage import objects
from sparsepop.storage.connect import ATTEMPTS, FIRST_ATTEMPTS, connect
from sparsepop.storage.errors import StorageError, explained
from sparsepop.storage.local import is_temporary, temporary, write_local
from sparsepop.storage.uri import normal, relative, split

_ANSWERS = (FileNotFoundError, FileExistsError, NotADirectoryError)
_answered: set[tuple[str, str, str]] = set()  # scheme, host and options of the stores that have


@dataclass(frozen=True, repr=False)
class Storage:
    """A folder on a local disk or in an object store, under which all paths are relative.

    `root` is a local path (made absolute at once, so it means the same in every process), or a URI such as
    `s3://bucket/folder` or `gs://bucket/folder`, with options in the query. Those of S3: `region`, `scheme`,
    `endpoint_override=host:port`, `tls_ca_file_path`, `force_virtual_addressing`, `allow_bucket_creation`,
    `allow_bucket_deletion` and `allow_delayed_open`, which is true here unless given: small files are then
    written in one request, and stores other than AWS (moto among them) fail at pyarrow's three. Nothing is
    opened before the first use, and only the root is pickled; StorageError for no root, and for one with
    keys in it, which come from the environment. A path that is absolute or climbs out of the root raises
    ValueError.

    An object store that cannot be reached, read or written raises StorageError: within seconds when it has
    never answered this process, after about half a minute when it has.
    """

    root: str

    def __post_init__(self) -> None:
        if not self.root:
            raise StorageError("root '' names no place: give a folder ('.' for this one) or a URI")
        object.__setattr__(self, "root", normal(self.root))

    def __str__(self) -> str:
        """The root without user and options, fit for messages and logs."""
        if self.local:
            return self.root
        scheme, host, path, _ = split(self.root)
        return f"{scheme}://{host.rpartition('@')[2]}/{path}".rstrip("/")

    def __repr__(self) -> str:
        return f"Storage({str(self)!r})"

    @property
    def local(self) -> bool:
        return "://" not in self.root

    def child(self, path: str) -> Storage:
        """The storage rooted at a folder below this one."""
        path = relative(path)
        if self.local:
            return Storage(posixpath.join(self.root, path))
        scheme, host, base, options = split(self.root)
        return Storage(f"{scheme}://{host}/{posixpath.join(base, quote(path))}{options}")

    def write(self, path: str, data: bytes, exclusive: bool = False) -> None:
        """Make `path` hold `data`: readers see all of it or what was there before, and folders are made.

        Locally a temporary file is synced and renamed; an object store gets one put. With `exclusive`, raises
        FileExistsError when the path is there already: of any number of writers at most one succeeds, and one
        that is alone does (`objects.put_once` says what is different in an object store). Raises OSError when
        the data cannot be written.
        """
        with self._at(path, "write below") as (place, target):
            if self.local:
                write_local(target, data, exclusive)
            elif exclusive:
                objects.put_once(place, target, data)
            else:
                objects.put(place, target, data)

    def read(self, path: str) -> bytes:
        """The content of one file; raises FileNotFoundError when there is none."""
        with self._at(path, "read below") as (place, target):
            return objects.get(place, target)

    def exists(self, path: str = "") -> bool:
        """Whether a file or a folder is there."""
        with self._at(path, "read below") as (place, target):
            return objects.is_there(place, target)

    def names(self, folder: str = "") -> list[str]:
        """Sorted names of the files and folders directly in `folder`; [] when it is absent."""
        try:
            with self._at(folder, "list") as (place, target):
                found = place.get_file_info(fs.FileSelector(target, allow_not_found=True))
        except NotADirectoryError:
            return []
        return sorted(info.base_name for info in found if not is_temporary(info.base_name))

    def delete(self, path: str) -> None:
        """Remove one file; nothing happens when it is absent."""
        with suppress(FileNotFoundError), self._at(path, "delete below") as (place, target):
            place.delete_file(target)

    def delete_tree(self, path: str = "") -> None:
        """Remove a folder and all below it ('' empties the root); nothing happens when it is absent."""
        with suppress(FileNotFoundError), self._at(path, "delete below") as (place, target):
            if relative(path):
                place.delete_dir(target)
            else:  # the root may be a whole bucket, which is not ours to remove
                place.delete_dir_contents(target)

    def clear(self, keep: str) -> None:
        """Remove all that is in the root but the file called `keep`."""
        with self._at("", "delete below") as (place, target):
            for info in place.get_file_info(fs.FileSelector(target, allow_not_found=True)):
                if info.type == fs.FileType.Directory:
                    place.delete_dir(info.path)
                elif info.base_name != keep:
                    place.delete_file(info.path)

    def check_writable(self) -> None:
        """Write, read and remove a probe; raises StorageError naming the root, the cause and the remedy."""
        probe, data = temporary(), b"probe"
        try:
            self.names(probe)  # a small question: where nobody answers, that is known sooner than by a write
            with self.no_new_folders():
                self.write(probe, data)
                if self.read(probe) != data:
                    raise OSError("a probe came back changed")
                self.delete(probe)
        except StorageError:
            raise
        except OSError as error:
            raise explained("write below", self, error) from error

    @contextmanager
    def no_new_folders(self) -> Iterator[None]:
        """Writes that leave no trace once what they wrote is deleted: on a local disk the folders that were
        made to hold the root are removed at the end, unless something lies in them."""
        root = Path(self.root)
        made = [folder for folder in (root, *root.parents) if not folder.exists()] if self.local else []
        try:
            yield
        finally:
            for folder in made:
                with suppress(OSError):
                    folder.rmdir()

    @contextmanager
    def _at(self, path: str, what: str) -> Iterator[tuple[Any, str]]:
        """The file system and where `path` lies on it, to do `what` there."""
        path = relative(path)
        if self.local:
            yield fs.LocalFileSystem(), posixpath.join(self.root, path) if path else self.root
            return
        scheme, host, folder, options = split(self.root)
        store = (scheme, host, options.removeprefix("?"))
        place, base = self._open(store)
        try:
            yield place, posixpath.join(base, unquote(folder), path).rstrip("/")
        except _ANSWERS:
            _answered.add(store)
            raise
        except OSError as error:
            raise explained(what, self, error) from error
        _answered.add(store)

    def _open(self, store: tuple[str, str, str]) -> tuple[Any, str]:
        try:
            return connect(*store, ATTEMPTS if store in _answered else FIRST_ATTEMPTS)
        except (pa.ArrowException, OSError, ValueError) as error:
            raise explained("open", self, error) from error
