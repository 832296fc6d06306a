"""Roots and paths as text: what they mean, and what must not stand in them."""

from __future__ import annotations

import os
import posixpath
from urllib.parse import parse_qsl, unquote

from sparsepop.storage.errors import StorageError

_SECRET = {"access_key", "secret_key", "session_token", "access_token"}


def normal(root: str) -> str:
    """A root that means the same in every process; StorageError when it carries keys, or is a `file:` that
    is no folder of this machine.
    """
    if root.startswith("file:"):
        root = _folder(root)
    if "://" not in root:
        return os.path.abspath(os.path.expanduser(root))
    scheme, host, path, options = split(root)
    _check_keys(scheme, host, path, options)
    return f"{scheme}://{host}/{path}".rstrip("/") + options if host or path else f"{scheme}://{options}"


def split(uri: str) -> tuple[str, str, str, str]:
    """Scheme, host with any user, path without slashes around it, and the options with their '?'."""
    scheme, _, rest = uri.partition("://")
    rest, mark, options = rest.partition("?")
    host, _, path = rest.partition("/")
    return scheme, host, path.strip("/"), mark + options


def relative(path: str) -> str:
    """A path below a root, '' for the root itself; ValueError when it is absolute or climbs out."""
    path = posixpath.normpath(path) if path else ""
    if path.startswith(("/", "../")) or path == "..":
        raise ValueError(f"path {path!r} leaves its root: give one relative to the root")
    return "" if path == "." else path


def _folder(root: str) -> str:
    """The path that is meant by file:///path, or file://localhost/path."""
    host, slash, path = root.removeprefix("file://").partition("/")
    if not root.startswith("file://") or not slash:
        raise StorageError(f"{root} is no file URI of a folder: give file:///folder, or the path alone")
    if host not in ("", "localhost"):
        raise StorageError(
            f"{root} is a folder of the machine {host!r}: mount it and give its path here, or file:///folder"
        )
    return unquote(slash + path)


def _check_keys(scheme: str, host: str, path: str, options: str) -> None:
    # a root is pickled, sent to other machines and noted in files: what is no key there cannot leak.
    # A secret key with a slash in it ends the host, so the first folder counts as well
    user = f"{host}/{path}".rpartition("@")[0]
    if ":" in user or _SECRET & {name for name, _ in parse_qsl(options.removeprefix("?"))}:
        bucket = f"{host}/{path}".rpartition("@")[2]
        raise StorageError(
            f"{scheme}://{bucket} is given with keys in it: leave them out, and set AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY (or a profile, or a role) on every machine of the cluster"
        )
