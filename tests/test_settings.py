"""Settings: read once, frozen, documented, and discreet."""

import ast
from pathlib import Path

import pytest
from pydantic import SecretStr, ValidationError

from fhir_server.settings import Settings, secret

ROOT = Path(__file__).parents[1]
DOCUMENTATION = ROOT / "docs" / "settings.md"


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the machine has set."""
    import os

    for name in list(os.environ):
        if name.startswith("DMST_FHIR_"):
            monkeypatch.delenv(name)


def test_without_any_setting_everything_has_a_default() -> None:
    """`dmst-fhir serve` starts on a bare machine."""
    settings = Settings()
    assert settings.postgres is None
    assert settings.blob_folder == settings.data / "blobs"
    assert settings.incoming_folder == settings.data / "incoming"
    assert settings.public_base == "http://127.0.0.1:8080/fhir"
    assert settings.seal == "required"


def test_the_environment_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """DMST_FHIR_* in capitals; an empty value is none."""
    monkeypatch.setenv("DMST_FHIR_PORT", "9090")
    monkeypatch.setenv("DMST_FHIR_BASE_URL", "https://fhir.example/r4/")
    monkeypatch.setenv("DMST_FHIR_BLOBS", "/srv/blobs")
    monkeypatch.setenv("DMST_FHIR_RECIPIENTS", "")
    settings = Settings()
    assert (settings.port, settings.public_base) == (9090, "https://fhir.example/r4")
    assert (settings.blob_folder, settings.recipients) == (Path("/srv/blobs"), None)


def test_settings_do_not_change() -> None:
    """What was read at start is what holds."""
    with pytest.raises(ValidationError):
        Settings().port = 1  # pyright: ignore[reportAttributeAccessIssue]


def test_a_setting_that_does_not_exist_is_refused() -> None:
    """A mistyped name is an error, not a default."""
    with pytest.raises(ValidationError):
        Settings(prot=8080)  # pyright: ignore[reportCallIssue]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PORT", "70000"),
        ("CONNECTIONS", "1"),
        ("SEAL", "maybe"),
        ("TOKEN_MINUTES", "0"),
        ("LOG_LEVEL", "loud"),
        ("WATCH_SECONDS", "0"),
    ],
)
def test_a_value_out_of_bounds_is_refused(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    """At start, not at the first request."""
    monkeypatch.setenv(f"DMST_FHIR_{name}", value)
    with pytest.raises(ValidationError, match=name.lower()):
        Settings()


def test_secrets_print_as_stars() -> None:
    """Connection strings hold passwords."""
    settings = Settings(postgres=SecretStr("host=x password=hush"), redis=SecretStr("redis://:hush@x"))
    for text in (repr(settings), str(settings), settings.model_dump_json(), str(settings.model_dump())):
        assert "hush" not in text
    assert secret(settings.postgres) == "host=x password=hush"
    assert secret(None) is None


@pytest.mark.parametrize("name", Settings.model_fields)
def test_every_setting_says_what_it_is(name: str) -> None:
    """In its field, and in the documentation with the name of its variable."""
    assert Settings.model_fields[name].description
    if not DOCUMENTATION.exists():
        pytest.skip("docs/settings.md is not written yet")
    assert f"DMST_FHIR_{name.upper()}" in DOCUMENTATION.read_text(encoding="utf-8")


def test_nothing_else_reads_the_environment() -> None:
    """`os.environ` and `getenv` stand nowhere else in the packages; the demonstration hands it on to its processes."""
    found: list[str] = []
    for package in ("fhir_server", "adapters", "mappings", "terminology"):
        for source in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Attribute) and node.attr in ("environ", "getenv", "environb"):
                    found.append(f"{source.relative_to(ROOT)}:{node.lineno}")
    assert {place.partition(":")[0] for place in found} <= {"fhir_server/settings.py", "fhir_server/demo.py"}


def test_what_tenants_share_has_a_folder_of_each() -> None:
    """Every path under a shared place: two services never read each other's files."""
    shared = {
        "data": Path("/srv/data"),
        "blobs": "/srv/blobs",
        "incoming": Path("/srv/incoming"),
        "exports": Path("/srv/exports"),
        "import_folder": Path("/srv/imports"),
    }
    of_three = Settings(**shared, tenant=3)  # pyright: ignore[reportArgumentType]
    of_none = Settings(**shared)  # pyright: ignore[reportArgumentType]
    for name in ("blob_folder", "incoming_folder", "exports_folder", "imports_folder"):
        assert getattr(of_three, name) == getattr(of_none, name) / "tenant-3"
    assert of_three.home == Path("/srv/data/tenant-3")
    assert of_none.home == Path("/srv/data")
    assert Settings(tenant=3, import_folder=None).imports_folder is None
    assert Settings(blobs="s3://bucket/prefix/", tenant=3).blob_bucket == "s3://bucket/prefix/tenant-3"
    assert Settings(blobs="s3://bucket/prefix").blob_bucket == "s3://bucket/prefix"
