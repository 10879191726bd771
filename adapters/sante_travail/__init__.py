"""The occupational-health software over FHIR: see fhir.py. A channel per module; this one is chosen by `channel`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from adapters.http import make_client
from adapters.sante_travail.access import ClientCredentials
from adapters.sante_travail.fhir import FhirChannel
from fhir_server.ports import Adapter


def make(options: Mapping[str, Any], _data: Path) -> Adapter:
    """Options of `[recipient.options]`:

    `base_url` of the FHIR server; `timeout` in seconds (30); `inline_mb` (8): larger documents are put as raw
    Binary before the transaction; `supersede` (true): a replaced document is marked superseded over there by
    a PATCH entry, as MHD says; for a server that wants a token `token_url`, `client_id` and `secret_file`,
    the file that holds the secret.
    """
    client = make_client(timeout=float(options.get("timeout", 30)))
    access = None
    if token_url := options.get("token_url"):
        secret = Path(options["secret_file"]).read_text(encoding="utf-8").strip()
        access = ClientCredentials(client, token_url, str(options["client_id"]), secret)
    inline = int(float(options.get("inline_mb", 8)) * 1024 * 1024)
    return FhirChannel(
        client,
        str(options["base_url"]).rstrip("/"),
        access=access,
        inline=inline,
        supersede=bool(options.get("supersede", True)),
    )
