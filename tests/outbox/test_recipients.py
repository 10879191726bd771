"""The file of recipients: what it says is taken, what is wrong in it is told at start."""

from pathlib import Path

import pytest

from fhir_server.outbox.recipients import Recipient, load
from fhir_server.outcomes import BadSyntax

GOOD = """
[[recipient]]
name = "logiciel"
kind = "logiciel-metier"
adapter = "sante_travail"
[recipient.options]
base_url = "http://test/fhir"

[[recipient]]
name = "dmp-demo"
kind = "dmp"
adapter = "loopback"
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "recipients.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_recipients_are_read_in_their_order(tmp_path: Path) -> None:
    """With the options of their adapter."""
    assert load(written(tmp_path, GOOD)) == (
        Recipient("logiciel", "logiciel-metier", "sante_travail", {"base_url": "http://test/fhir"}),
        Recipient("dmp-demo", "dmp", "loopback", {}),
    )


def test_no_file_is_no_recipient(tmp_path: Path) -> None:
    """Nor is an empty one."""
    assert load(None) == ()
    assert load(written(tmp_path, "")) == ()


@pytest.mark.parametrize(
    ("before", "now", "expected"),
    [
        ('name = "logiciel"', 'name = "Logiciel"', "needs a name"),
        ('name = "logiciel"', 'name = ""', "needs a name"),
        ('name = "logiciel"', "", "needs a name"),
        ('name = "logiciel"', 'name = "a b"', "needs a name"),
        ('name = "logiciel"', f'name = "{"a" * 50}"', "needs a name"),
        ('name = "logiciel"', 'name = "dmp-demo"', "same name"),
        ('kind = "dmp"', 'kind = "employeur"', "kind must be one of autre-spst, dmp, logiciel-metier"),
        ('kind = "dmp"', "", "kind must be one of"),
        ('adapter = "loopback"', "", "adapter is missing"),
        ("[[recipient]]", "[[recipient", "cannot be read"),
    ],
)
def test_what_is_wrong_is_told(tmp_path: Path, before: str, now: str, expected: str) -> None:
    """One clear sentence, and nothing is started."""
    with pytest.raises(BadSyntax, match=expected):
        load(written(tmp_path, GOOD.replace(before, now)))


@pytest.mark.parametrize(
    "text",
    [
        "recipient = 3",
        'recipient = ["x"]',
        '[recipient]\nname = "x"',
        '[[recipient]]\nname = "x"\nkind = "dmp"\nadapter = "loopback"\noptions = 3',
    ],
)
def test_a_file_of_another_shape_is_refused(tmp_path: Path, text: str) -> None:
    """Not with a traceback."""
    with pytest.raises(BadSyntax):
        load(written(tmp_path, text))


def test_a_file_that_is_not_there_or_not_text_is_refused(tmp_path: Path) -> None:
    """Named in the settings, so it has to be there."""
    with pytest.raises(BadSyntax):
        load(tmp_path / "absent.toml")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(BadSyntax):
        load(tmp_path / "binary")
