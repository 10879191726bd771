"""`dmst-fhir clients`: machines that may ask."""

import json
from pathlib import Path
from typing import Annotated

import typer

from fhir_server.caller import MACHINE_ROLES, check_scopes
from fhir_server.commands.running import Data, out, parts_of, run_to_end, settings_of, table_of
from fhir_server.settings import Settings

Jwks = Annotated[Path | None, typer.Option("--jwks", help="File of its public keys (JSON Web Key Set).")]
JwksUri = Annotated[str | None, typer.Option("--jwks-uri", help="https address where it publishes them.")]


def add(
    name: str,
    scope: Annotated[
        list[str],
        typer.Option(
            help="SMART v2 system scope: system/DocumentReference.rs, system/Observation.rs?category=laboratory"
        ),
    ],
    role: Annotated[str, typer.Option(help=f"One of: {', '.join(sorted(MACHINE_ROLES))}.")] = "external-system",
    jwks: Jwks = None,
    jwks_uri: JwksUri = None,
    certificate_bound: Annotated[
        bool, typer.Option("--certificate-bound", help="Its tokens are good only with its TLS certificate.")
    ] = False,
    data: Data = None,
) -> None:
    """Add a client; its secret is shown this once. With --jwks or --jwks-uri it signs, and has no secret."""
    settings = settings_of(data)
    try:
        scopes = check_scopes(scope)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    if role not in MACHINE_ROLES:
        raise typer.BadParameter(f"role must be one of {', '.join(sorted(MACHINE_ROLES))}")
    keys = _checked_keys(settings, jwks, jwks_uri) if jwks or jwks_uri else None

    async def run() -> None:
        async with parts_of(settings) as parts:
            if keys:
                client_id = await parts.clients.add_with_keys(
                    name, scopes, role, **keys, certificate_bound=certificate_bound
                )
                shown = {"client_id": client_id}
            else:
                client_id, secret = await parts.clients.add(name, scopes, role, certificate_bound=certificate_bound)
                shown = {"client_id": client_id, "client_secret": secret}
        out.print_json(json.dumps({**shown, "scope": " ".join(scopes)}))

    run_to_end(run)


def replace_keys(client_id: str, jwks: Jwks = None, jwks_uri: JwksUri = None, data: Data = None) -> None:
    """Replace the public keys of a client that signs; from the next token request on only these count."""
    settings = settings_of(data)
    keys = _checked_keys(settings, jwks, jwks_uri)

    async def run() -> int:
        async with parts_of(settings) as parts:
            done = await parts.clients.replace_keys(client_id, **keys)
        out.print("replaced" if done else "no such client that signs, or it is disabled")
        return 0 if done else 1

    run_to_end(run)


def listed(data: Data = None) -> None:
    """List the clients."""
    settings = settings_of(data)

    async def run() -> None:
        async with parts_of(settings) as parts:
            listed = await parts.clients.everybody()
        table = table_of("client_id", "name", "role", "scopes", "proof", "since", "disabled")
        for client in listed:
            disabled = client.disabled.date().isoformat() if client.disabled else ""
            table.add_row(
                client.client_id,
                client.name,
                client.role,
                " ".join(client.scopes),
                client.proof,
                client.created.date().isoformat(),
                disabled,
            )
        out.print(table)

    run_to_end(run)


def disable(client_id: str, data: Data = None) -> None:
    """Shut a client out; its tokens are void within ten seconds."""
    settings = settings_of(data)

    async def run() -> int:
        async with parts_of(settings) as parts:
            done = await parts.clients.disable(client_id)
        out.print("disabled" if done else "no such client, or disabled already")
        return 0 if done else 1

    run_to_end(run)


def _checked_keys(settings: Settings, jwks: Path | None, jwks_uri: str | None) -> dict[str, str]:
    """The one of the two that is given, where it is right."""
    from fhir_server.rest.oauth.outbound import outbound_of
    from fhir_server.rest.oauth.public_keys import registered

    if (jwks is None) == (jwks_uri is None):
        raise typer.BadParameter("give one of --jwks and --jwks-uri")
    try:
        if jwks_uri is not None:
            return {"jwks_uri": str(outbound_of(settings).check(jwks_uri))}
        assert jwks
        text = jwks.read_text(encoding="utf-8")
        registered(text)
    except (ValueError, OSError) as error:
        raise typer.BadParameter(str(error)) from None
    return {"jwks": text}
