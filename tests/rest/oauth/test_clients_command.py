"""`dmst-fhir clients`: machines that sign are registered with right keys only."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from fhir_server.__main__ import app
from tests.oauth import key_set, signer

SCOPE = ("--scope", "system/Patient.rs")


@pytest.fixture
def command(dsn: str, redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    for name, value in (("POSTGRES", dsn), ("REDIS", redis_url), ("DATA", str(tmp_path)), ("LOG_LEVEL", "error")):
        monkeypatch.setenv(f"DMST_FHIR_{name}", value)
    return lambda *arguments: CliRunner().invoke(app, ["clients", *arguments])


def test_a_client_that_signs_is_added_listed_and_gets_other_keys(
    command: Callable[..., Result], tmp_path: Path
) -> None:
    """It has no secret to show."""
    file = tmp_path / "keys.json"
    file.write_text(key_set(signer()))
    added = json.loads(command("add", "Software", *SCOPE, "--jwks", str(file), "--certificate-bound").stdout)
    assert added.keys() == {"client_id", "scope"}
    file.write_text(key_set(signer(kid="k2")))
    assert command("keys", added["client_id"], "--jwks", str(file)).exit_code == 0
    assert command("keys", added["client_id"], "--jwks-uri", "https://keys.example/jwks").exit_code == 0
    assert "keys at" in command("list").stdout
    assert command("keys", "nobody", "--jwks", str(file)).exit_code == 1


def test_wrong_keys_are_refused(command: Callable[..., Result], tmp_path: Path) -> None:
    """Private ones, an address without TLS, two proofs, none; and nobody makes a machine a doctor."""
    private = tmp_path / "private.json"
    private.write_text(json.dumps({"keys": [{**signer().key.as_dict(private=True), "kid": "a"}]}))
    for given in (
        ("add", "x", *SCOPE, "--jwks", str(private)),
        ("add", "x", *SCOPE, "--jwks", str(tmp_path / "nothing")),
        ("add", "x", *SCOPE, "--jwks-uri", "http://keys.example/jwks"),
        ("add", "x", *SCOPE, "--jwks", str(private), "--jwks-uri", "https://keys.example/jwks"),
        ("add", "x", *SCOPE, "--role", "medecin-travail"),
        ("add", "x", "--scope", "system/Patient.rs?_content=x"),
        ("keys", "x"),
    ):
        assert command(*given).exit_code == 2, given
