"""A merge shares its node's first GPU with the members, and is done on the CPU where that has no room."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from sparsepop.population import merging
from sparsepop.population.job import Job
from sparsepop.population.rounds import Merge
from tests.test_population.worlds import experiment

MERGED: Any = object()
MERGE, JOB = Merge(0, 1, ()), Job(experiment(), "nowhere", None, torch.get_num_threads(), "cuda")


@pytest.fixture
def done(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was done with a GPU that is there to all appearances."""
    done: list[str] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: done.append("released"))
    return done


def merge_meets(error: Exception | None, done: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def merge(job: Job, *_: object) -> Any:
        done.append(job.device)
        if job.device != "cpu" and error is not None:
            raise error
        return MERGED

    monkeypatch.setattr(merging, "_merge", merge)


@pytest.mark.parametrize(
    "error",
    [
        torch.cuda.OutOfMemoryError("tried to allocate 2 GiB"),
        RuntimeError("CUDA error: out of memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("cuDNN error: CUDNN_STATUS_NOT_INITIALIZED"),
        RuntimeError("CUDA error: CUDA-capable device(s) is/are busy or unavailable"),
    ],
    ids=lambda error: str(error)[:30],
)
def test_without_room_on_the_gpu_it_is_done_on_the_cpu(
    error: Exception, done: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    merge_meets(error, done, monkeypatch)
    assert merging.merge_round(JOB, MERGE, ()) is MERGED
    assert done == ["cuda", "released", "cpu"]


def test_the_gpu_is_left_to_the_members_between_merges(
    done: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    merge_meets(None, done, monkeypatch)
    assert merging.merge_round(JOB, MERGE, ()) is MERGED
    assert done == ["cuda", "released"]


def test_what_goes_wrong_otherwise_is_told(done: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    merge_meets(RuntimeError("mat1 and mat2 shapes cannot be multiplied"), done, monkeypatch)
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        merging.merge_round(JOB, MERGE, ())
    assert done == ["cuda", "released"]


def test_a_gpu_that_cannot_even_release_is_no_obstacle(
    done: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken() -> None:
        raise RuntimeError("CUDA error: out of memory")

    monkeypatch.setattr(torch.cuda, "empty_cache", broken)
    merge_meets(RuntimeError("CUDA error: out of memory"), done, monkeypatch)
    assert merging.merge_round(JOB, MERGE, ()) is MERGED
    assert done == ["cuda", "cpu"]
