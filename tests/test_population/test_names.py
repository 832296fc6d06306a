"""What members are called: experiments that lie on storage must be found again."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from sparsepop.population.names import member_name, member_of
from sparsepop.population.records import claim_attempt
from sparsepop.population.states import StateFiles
from sparsepop.population.suggestions import read_suggestions, write_suggestion
from sparsepop.storage import Storage


@given(st.integers(0, 10**6))
def test_a_name_leads_back_to_its_member(member: int) -> None:
    assert member_of(member_name(member)) == member


def test_files_have_the_names_that_they_always_had(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    assert StateFiles(storage).path(7, 3) == "states/m0007/g0003.pt"
    assert claim_attempt(storage, 7) == 0
    assert storage.names("attempts/m0007") == ["0000"]
    write_suggestion(storage, 12345, {"lr": 0.1}, [])
    assert storage.names("suggested") == ["m12345.json"]
    assert list(read_suggestions(storage)) == [12345]
