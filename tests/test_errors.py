"""One line for a tired person, whatever the names in it."""

from __future__ import annotations

import pytest

from edgefm import errors
from edgefm.errors import EdgeFMError, GateRefused, InputError, MissingExtra, ParityError


def test_an_error_is_one_line_of_what_was_found_what_was_expected_and_what_to_do() -> None:
    assert str(InputError("a.csv has no rows")) == "a.csv has no rows."
    whole = InputError("a.csv has 2 columns", expected="3", do="add one")
    assert str(whole) == "a.csv has 2 columns; expected 3. Add one."


@pytest.mark.parametrize("name", ["a\nb", "a\r\nb", "\x1b[31mred", "a\x00b", "a\u202eb", "a\ud800b", "\u2028"])
def test_a_strangers_file_name_cannot_break_the_line_or_reach_the_terminal(name: str) -> None:
    shown = str(InputError(f"{name} is broken", do="copy it again"))
    assert shown.isprintable()
    assert len(shown.splitlines()) == 1
    shown.encode()


def test_exit_codes_are_those_of_the_design() -> None:
    every = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, EdgeFMError)]
    codes = {kind: kind.exit_code for kind in every}
    assert codes.pop(GateRefused) == 3
    assert codes.pop(ParityError) == 4
    assert set(codes.values()) <= {2, 5}


def test_a_missing_library_names_the_line_that_installs_it() -> None:
    error = MissingExtra("pydicom", "dicom", "reading a.dcm")
    assert (
        str(error) == "reading a.dcm needs pydicom, which is not installed here. Install it with: pip install 'edgefm[dicom]'."
    )
