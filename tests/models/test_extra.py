"""A machine without the workstation's libraries is told the extra; a bug of ours is not called one."""

from __future__ import annotations

import pytest

from edgefm.errors import MissingExtra
from edgefm.models.extra import LIBRARIES, compress_extra


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_library_that_is_missing_names_its_extra(library: str) -> None:
    with pytest.raises(MissingExtra, match=rf"needs {library}, which is not installed here\. .*'edgefm\[compress\]'"):
        with compress_extra():
            raise ModuleNotFoundError(f"No module named '{library}.inner'", name=f"{library}.inner")


@pytest.mark.parametrize("name", ["edgefm.models.nothing", "torchlike", "", None])
def test_another_module_that_is_missing_is_not_the_extras_fault(name: str | None) -> None:
    with pytest.raises(ModuleNotFoundError) as caught, compress_extra():
        raise ModuleNotFoundError("gone", name=name)
    assert not isinstance(caught.value, MissingExtra)


def test_a_library_that_is_there_and_fails_is_left_to_speak_for_itself() -> None:
    with pytest.raises(ImportError, match="libcudart"), compress_extra():
        raise ImportError("libcudart.so is missing", name="torch")
