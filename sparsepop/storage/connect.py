"""Opening object stores, with waits that end: pyarrow's own take minutes to give up."""

from __future__ import annotations

import os
from functools import cache
from typing import Any
from urllib.parse import parse_qsl

from pyarrow import fs

FIRST_ATTEMPTS = 2  # for a request to a place that has never answered: it may be a wrong one
ATTEMPTS = 8  # for a place that has answered: about half a minute, as the pauses between them double
SILENCE = 3.0  # seconds without a byte that end an attempt
CONNECT = 2.0  # seconds that a connection may take

_TEXTS = {"region", "scheme", "endpoint_override", "tls_ca_file_path"}
_FLAGS = {"allow_delayed_open", "allow_bucket_creation", "allow_bucket_deletion", "force_virtual_addressing"}
_ENDPOINTS = ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3")


def connect(scheme: str, host: str, options: str, attempts: int) -> tuple[Any, str]:
    """The file system of a URI without its path, and the base of all paths on it.

    Raises ValueError for an option that is unknown, OSError and pyarrow's errors where nothing can be opened.
    """
    if scheme == "s3":
        return _open_s3(host, options, attempts), host
    return _open(f"{scheme}://{host}{'?' if options else ''}{options}")


@cache
def _open(uri: str) -> tuple[Any, str]:
    return fs.FileSystem.from_uri(uri)


@cache
def _open_s3(bucket: str, query: str, attempts: int) -> Any:
    options = dict(parse_qsl(query))
    if unknown := sorted(set(options) - _TEXTS - _FLAGS):
        raise ValueError(f"unknown option {', '.join(unknown)}: use {', '.join(sorted(_TEXTS | _FLAGS))}")
    given: dict[str, Any] = {name: _value(name, text) for name, text in options.items()}
    if "endpoint_override" not in given and not any(map(os.environ.get, _ENDPOINTS)):
        given["region"] = given.get("region") or fs.resolve_s3_region(bucket)
    given |= {"connect_timeout": CONNECT, "request_timeout": SILENCE}
    given["retry_strategy"] = fs.AwsStandardS3RetryStrategy(max_attempts=attempts)
    try:
        # a small object in one request instead of three, which some stores other than AWS get wrong
        return fs.S3FileSystem(**{"allow_delayed_open": True, **given})
    except TypeError:  # pyarrow below 18
        return fs.S3FileSystem(**given)


def _value(name: str, text: str) -> str | bool:
    if name in _TEXTS:
        return text
    if text not in ("true", "false"):
        raise ValueError(f"{name}={text}: use true or false")
    return text == "true"
