"""One frozen Settings, read once at start from the environment (`DMST_FHIR_*`) or a file; nothing else reads it.

Every field below has its line in docs/settings.md; a test fails when one is missing.
"""

import ipaddress
import os
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from fhir_server.outcomes import BadParameter, Issue


class Settings(BaseSettings):
    """What can be set. Secrets print as stars."""

    model_config = SettingsConfigDict(
        env_prefix="DMST_FHIR_", env_file=None, frozen=True, extra="forbid", env_ignore_empty=True
    )

    data: Path = Field(default=Path("var"), description="Folder of everything kept on disk.")
    tenant: int = Field(
        default=0, ge=0, le=32_767, description="Number of the prevention service whose records these processes serve."
    )
    host: str = Field(default="127.0.0.1", description="Address that the server listens on.")
    port: int = Field(default=8080, ge=0, le=65535, description="Port that the server listens on.")
    base_url: str | None = Field(default=None, description="Address under which clients see the server.")
    log_level: Literal["debug", "info", "warning", "error"] = Field(default="info", description="Least level logged.")

    log_format: Literal["auto", "json", "text"] = Field(
        default="auto", description="Form of the log; auto is text in a terminal and JSON elsewhere."
    )
    metrics_port: int | None = Field(
        default=None, ge=1, le=65535, description="Port of /metrics of this process, without a token; off when unset."
    )
    metrics_host: str = Field(default="127.0.0.1", description="Address on which the metrics port listens.")
    otlp_endpoint: str | None = Field(default=None, description="Where traces go, over OTLP/HTTP; none when unset.")
    drain_seconds: float = Field(
        default=0.5, ge=0, description="Before it stops: how long it says so at /readyz and still takes requests."
    )
    shutdown_seconds: int = Field(default=10, ge=1, description="Longest time for what is under way when it stops.")

    postgres: SecretStr | None = Field(default=None, description="PostgreSQL (>= 15) to use; embedded when unset.")
    postgres_replica: SecretStr | None = Field(
        default=None, description="Streaming replica of that PostgreSQL, for searches; none when unset."
    )
    replica_oldest_seconds: float = Field(
        default=5.0, gt=0, description="Age from which on a replica is passed over for the primary."
    )
    redis: SecretStr | None = Field(default=None, description="Redis or Valkey to use; embedded when unset.")
    blobs: str | None = Field(
        default=None, description="Blob store: a folder, or s3://bucket/prefix; a folder under `data` when unset."
    )
    s3_endpoint: str | None = Field(default=None, description="Address of the S3 service; that of AWS when unset.")
    s3_region: str = Field(default="us-east-1", description="Region of the S3 bucket.")
    s3_access_key: SecretStr | None = Field(default=None, description="Access key of the S3 bucket.")
    s3_secret_key: SecretStr | None = Field(default=None, description="Secret key of the S3 bucket.")
    encrypt_blobs: bool = Field(default=True, description="Are documents encrypted at rest?")
    keys: Path | None = Field(
        default=None, description="Folder of the master keys of documents; under `data` when unset."
    )
    pkcs11_module: Path | None = Field(
        default=None, description="PKCS#11 library of the device that holds the master keys; none when unset."
    )
    pkcs11_token: str = Field(default="dmst-fhir", description="Label of the token in that device.")
    pkcs11_pin: SecretStr | None = Field(default=None, description="PIN of that token.")
    connections: int = Field(default=6, ge=2, le=64, description="PostgreSQL connections per process.")
    statement_timeout_ms: int = Field(default=15_000, ge=100, description="Longest time that one query may take.")
    audit_sync: bool = Field(
        default=True,
        description="Wait for the disk before a read is answered, so that its audit row survives a power cut.",
    )
    audit_failures_per_minute: int = Field(
        default=60, ge=1, description="Failed logins and refusals of nobody known kept one by one in a minute."
    )
    audit_seal_seconds: float = Field(
        default=5.0, gt=0, description="Pause between two seals of the audit trail, which chain its rows."
    )
    audit_tsa: SecretStr | None = Field(
        default=None, description="URL of the RFC 3161 authority that time-stamps the audit trail; none when unset."
    )
    audit_tsa_policy: str | None = Field(
        default=None, pattern=r"^[0-2](\.\d+)+$", description="Policy (OID) that its time stamps must be under."
    )
    audit_tsa_trust: Path | None = Field(
        default=None, description="PEM file of the authorities trusted for time stamps of the audit trail."
    )
    audit_anchor_hours: float = Field(default=24.0, gt=0, description="Hours between two time stamps of the trail.")
    audit_export_certificate: Path | None = Field(
        default=None, description="PEM file of the certificate, and its chain, that signs exports of the trail."
    )
    audit_export_key: Path | None = Field(default=None, description="PEM file of its private key, without a password.")

    parameters_seconds: float = Field(
        default=5.0, gt=0, description="Pause between two looks for search parameters that were added."
    )
    content_search: bool = Field(default=False, description="Is every word of a resource indexed, for `_content`?")

    token_minutes: int = Field(default=15, ge=1, le=60, description="Life of an access token.")
    token_attempts_per_minute: int = Field(default=20, ge=1, description="Failed token requests allowed per client.")
    client_requests_per_minute: int = Field(
        default=600_000, ge=1, description="Requests allowed to one client, per process."
    )
    person_requests_per_minute: int = Field(
        default=1200, ge=1, description="Requests allowed to one person, per process."
    )
    client_identity_searches_per_minute: int = Field(
        default=60_000, ge=1, description="Searches by traits of a person allowed to one client, per process."
    )
    person_identity_searches_per_minute: int = Field(
        default=120, ge=1, description="Searches by traits of a person allowed to one person, per process."
    )
    login_issuer: str | None = Field(
        default=None, description="OpenID Connect provider at which persons log in, as its tokens name it."
    )
    login_discovery: str | None = Field(
        default=None, description="Where it describes itself; at the usual place when unset."
    )
    login_client_id: str | None = Field(default=None, description="Name of this server there.")
    login_client_secret: SecretStr | None = Field(default=None, description="And its secret there.")
    login_scope: str = Field(default="openid", description="Scopes that are asked for, with blanks between.")
    login_acr_values: str | None = Field(default=None, description="How persons should prove who they are.")
    login_roles: Path | None = Field(default=None, description="TOML file of the roles that its claims give.")
    session_idle_minutes: int = Field(
        default=30, ge=1, le=30, description="Longest time of a session without a request."
    )
    session_hours: float = Field(default=4.0, gt=0, le=4, description="Longest time of a session in all.")
    issuer: str | None = Field(
        default=None, description="Outside issuer whose access tokens are good here too, as its tokens name it."
    )
    issuer_audience: str | None = Field(default=None, description="What those tokens call this server (aud).")
    issuer_jwks: str | None = Field(default=None, description="Where its keys are; found by discovery when unset.")
    issuer_introspection: str | None = Field(
        default=None, description="Where it is asked about each token; its signature counts when unset."
    )
    issuer_client_id: str | None = Field(default=None, description="This server's name at the introspection.")
    issuer_client_secret: SecretStr | None = Field(default=None, description="And its secret there.")
    issuer_roles: Path | None = Field(default=None, description="TOML file of the roles that its claims give.")
    out_of_team: Literal["told", "reason", "emergency"] = Field(
        default="told",
        description="How accesses to workers of another centre are taken: told, upon a reason, emergency.",
    )
    declared_access_minutes: int = Field(
        default=60, ge=1, le=240, description="How long a declared reason to look beyond one's team counts."
    )
    certificate_header: str | None = Field(
        default=None, description="Header in which the TLS proxy hands on the client's certificate; none when unset."
    )
    trusted_proxies: str | None = Field(
        default=None, description="Addresses (CIDR, commas between) of the proxies that may set that header."
    )
    outbound_loopback: bool = Field(
        default=False, description="May key sets and providers be on this machine, over plain HTTP? For tests."
    )
    outbound_private: str | None = Field(
        default=None, description="Hosts, commas between, of key sets that may be in a private network."
    )
    outbound_ca: Path | None = Field(default=None, description="PEM file of further authorities for those.")

    max_body_mb: int = Field(default=64, ge=1, description="Largest FHIR body accepted.")
    max_binary_mb: int = Field(default=512, ge=1, description="Largest raw Binary or scanned file accepted.")
    max_bundle_entries: int = Field(default=5000, ge=1, description="Most entries of a batch or transaction.")
    update_create: bool = Field(default=True, description="May an update create under an id that the client chose?")
    require_if_match: bool = Field(default=False, description="Must an update name the version that it replaces?")

    upload_hours: int = Field(default=24, ge=1, description="Time for which an interrupted upload may go on.")

    organization_name: str = Field(
        default="Service de prévention et de santé au travail (démonstration)",
        description="Name of the prevention service: custodian of the documents.",
    )
    organization_finess: str | None = Field(default=None, description="FINESS number of the service.")
    organization_siret: str | None = Field(default=None, description="SIRET of the service.")
    production: bool = Field(default=False, description="True refuses test and demonstration INS (OID .10 and .11).")

    incoming: Path | None = Field(default=None, description="Drop folder of scan lots; under `data` when unset.")
    keep_done_days: int = Field(
        default=0, ge=0, description="Days for which received lots stay in `done/`; 0 for ever."
    )
    index_zone: str = Field(
        default="0 0 1 0.53",
        pattern=r"^(0|1|0?\.\d+)( (0|1|0?\.\d+)){3}$",
        description="Left, top, right and bottom of the index zone of a cover page, as parts of its width and height.",
    )
    review_hours: int = Field(default=72, ge=1, description="Age from which a folder in the review queue is late.")
    watch_seconds: float = Field(default=5.0, gt=0, description="Pause between two looks into the drop folder.")
    seal: Literal["required", "optional"] = Field(default="required", description="Is an unsealed lot refused?")
    timestamp: Literal["required", "optional"] = Field(
        default="optional", description="Is a lot without RFC 3161 token refused?"
    )
    seal_trust: Path | None = Field(
        default=None, description="PEM file of the authorities trusted for seals and tokens."
    )
    pdfa: Literal["required", "optional"] = Field(
        default="optional", description="Is a PDF without PDF/A claim refused?"
    )
    minimum_dpi: int = Field(default=200, ge=0, description="Resolution below which a page is refused (E06).")
    identity_model: Path | None = Field(
        default=None, description="Model of identity matching (JSON); the one that ships when unset."
    )
    read_codes_on: Literal["first", "every"] = Field(default="every", description="Pages searched for barcodes.")
    cover_reader: Path | None = Field(
        default=None, description="Program (Tesseract 5) that reads the index zone of covers; off when unset."
    )
    cover_seconds: float = Field(default=10.0, gt=0, le=120, description="Longest time that it may take for a cover.")
    inspectors: int = Field(default=2, ge=1, le=32, description="Processes that open and check scanned files.")

    recipients: Path | None = Field(default=None, description="TOML file of the recipients of documents.")
    retry_first_seconds: float = Field(default=5.0, gt=0, description="Pause before the first new attempt to deliver.")
    retry_longest_seconds: float = Field(default=3600.0, gt=0, description="Longest pause between two attempts.")
    retry_attempts: int = Field(default=12, ge=1, description="Attempts after which a delivery is given up.")
    stalled_seconds: float = Field(default=30.0, gt=0, description="Silence after which a worker is taken for dead.")

    retention_chem_years: int = Field(
        default=50, ge=50, le=200, description="Years after an exposure to dangerous chemicals (R4412-55: at least 50)."
    )
    retention_asbestos_years: int = Field(
        default=50, ge=50, le=200, description="Years after an exposure to asbestos (R4412-55: at least 50)."
    )
    retention_bio_years: int = Field(
        default=40, ge=10, le=200, description="Years after an exposure to biological agents (R4426-9: 10 to 40)."
    )
    retention_tmp_days: int = Field(default=90, ge=1, description="Days for which a working copy is kept.")
    retention_approvers: Literal[1, 2] = Field(
        default=2, description="Persons who must approve a list before its documents are destroyed."
    )

    transfer_minimal_set: bool = Field(
        default=False,
        description="Whether vaccinations go to another service although the worker opposes the transfer (R4626-33).",
    )

    exports: Path | None = Field(default=None, description="Folder of bulk data files; under `data` when unset.")
    export_hours: int = Field(default=24, ge=1, description="How long the files of a bulk job are kept.")
    import_folder: Path | None = Field(default=None, description="Folder of the files that $import may name.")
    import_processes: int = Field(default=2, ge=1, le=32, description="Processes that prepare what is imported.")
    max_import_mb: int = Field(default=10_240, ge=1, description="Largest body of $import accepted.")

    @cached_property
    def tenant_folder(self) -> str:
        """The folder of this tenant in what several share; the first has none."""
        return f"tenant-{self.tenant}" if self.tenant else ""

    @cached_property
    def home(self) -> Path:
        """Folder of everything of this tenant; the embedded servers, which all tenants share, are in `data`."""
        return self.data / self.tenant_folder

    @cached_property
    def exports_folder(self) -> Path:
        return self.exports / self.tenant_folder if self.exports else self.home / "exports"

    @cached_property
    def imports_folder(self) -> Path | None:
        return self.import_folder / self.tenant_folder if self.import_folder else None

    @cached_property
    def blob_bucket(self) -> str | None:
        """The blob store as `s3://bucket/prefix`, where it is not a folder."""
        if not self.blobs or not self.blobs.startswith("s3://"):
            return None
        return f"{self.blobs.rstrip('/')}/{self.tenant_folder}".rstrip("/")

    @cached_property
    def blob_folder(self) -> Path:
        return Path(self.blobs) / self.tenant_folder if self.blobs else self.home / "blobs"

    @cached_property
    def key_file(self) -> Path:
        """The master keys of this tenant, where no device holds them."""
        return (self.keys / self.tenant_folder if self.keys else self.home / "keys") / "master-keys.json"

    @cached_property
    def incoming_folder(self) -> Path:
        return self.incoming / self.tenant_folder if self.incoming else self.home / "incoming"

    @cached_property
    def public_root(self) -> str:
        """Where what is beside FHIR is, as clients see it: `/oauth2/token` and the pages."""
        return self.public_base.removesuffix("/fhir")

    @cached_property
    def token_url(self) -> str:
        """The token endpoint as clients see it: what signed assertions are meant for."""
        return f"{self.public_root}/oauth2/token"

    @cached_property
    def public_base(self) -> str:
        """The FHIR base that links and fullUrls carry, without a slash at the end."""
        return (self.base_url or f"http://{self.host}:{self.port}/fhir").rstrip("/")

    @cached_property
    def index_zone_parts(self) -> tuple[float, float, float, float]:
        """The zone as left, top, right and bottom."""
        left, top, right, bottom = map(float, self.index_zone.split())
        return left, top, right, bottom

    @field_validator("index_zone")
    @classmethod
    def _zone(cls, text: str) -> str:
        left, top, right, bottom = map(float, text.split())
        if left >= right or top >= bottom:
            raise ValueError("left is before right, and top before bottom")
        return text

    @field_validator("trusted_proxies")
    @classmethod
    def _networks(cls, text: str | None) -> str | None:
        for part in listed(text):
            ipaddress.ip_network(part)
        return text


def listed(text: str | None) -> list[str]:
    """The parts of a setting that is a list with commas between."""
    return [part.strip() for part in (text or "").split(",") if part.strip()]


def load(**given: Any) -> Settings:
    """The settings of this process: what is `given` first, then the environment, then files.

    `DMST_FHIR_SETTINGS` names a file of `DMST_FHIR_NAME=value` lines, `DMST_FHIR_SECRETS` a folder with a file per
    setting (`dmst_fhir_postgres` ...), as container engines mount secrets. Raises BadParameter naming the settings
    that are wrong, never their values.
    """
    file, secrets = os.environ.get("DMST_FHIR_SETTINGS"), os.environ.get("DMST_FHIR_SECRETS")
    for path, variable in ((file, "DMST_FHIR_SETTINGS"), (secrets, "DMST_FHIR_SECRETS")):
        if path and not Path(path).exists():
            raise BadParameter(f"{variable} names something that is not there")
    try:
        return Settings(_env_file=file, _secrets_dir=secrets, **given)  # pyright: ignore[reportCallIssue]
    except ValidationError as error:
        raise BadParameter(
            issues=[
                Issue("error", "invalid", fault["msg"], f"DMST_FHIR_{'_'.join(map(str, fault['loc'])).upper()}")
                for fault in error.errors(include_input=False, include_context=False, include_url=False)
            ]
        ) from None


def secret(value: SecretStr | None) -> str | None:
    """The plain text of a secret setting, for the one place that connects with it."""
    return value.get_secret_value() if value is not None else None
