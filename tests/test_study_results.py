"""What a study is saved as: all of it comes back, to the digit."""

from __future__ import annotations

import msgspec
import pytest

from frugal_meter.study.results import Study, decoded, encoded
from tests.study_samples import study


@pytest.mark.parametrize("kind", [{}, {"judged": False}, {"supplied": False}, {"failing": 30}])
def test_a_study_comes_back_from_its_file_as_it_was(kind: dict[str, object]) -> None:
    made = study(**kind)  # type: ignore[arg-type]
    assert decoded(encoded(made)) == made
    assert encoded(decoded(encoded(made))) == encoded(made)


def test_a_file_that_is_no_study_is_refused() -> None:
    with pytest.raises(msgspec.ValidationError, match="title"):
        decoded(b'{"schema": "frugal-meter-study/1"}')


def test_every_field_of_a_study_is_in_its_file() -> None:
    saved = msgspec.json.decode(encoded(study()))
    assert saved.keys() == set(Study.__struct_fields__)
