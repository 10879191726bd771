"""`dmst-fhir keys`: the keys under which documents are encrypted."""

import asyncio
import json
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fhir_server.commands.running import Data, out, parts_of, progress, run_to_end, settings_of, table_of

if TYPE_CHECKING:
    from fhir_server.app import Parts
    from fhir_server.store.blobs_sealed import SealedBlobs


def make(data: Data = None) -> None:
    """Make a master key, in the key file or the device. It is used from `keys rotate` on, or from the first start."""
    settings = settings_of(data)

    async def run() -> None:
        from fhir_server.app import make_master_keys

        masters = make_master_keys(settings)
        out.print(f"made [bold]{await masters.make()}[/bold] in {masters!r}; back it up before it is used")
        masters.close()

    run_to_end(run)


def status(data: Data = None) -> None:
    """The master keys and what is wrapped under each, documents in the clear, what waits to be shredded."""
    settings = settings_of(data)

    async def run() -> None:
        from fhir_server.app import make_master_keys
        from fhir_server.store.blob_keys import BlobKeys
        from fhir_server.store.shredding import Shredder

        async with parts_of(settings) as parts:
            masters = make_master_keys(settings)
            keys = BlobKeys(parts.database, masters)
            table = table_of("master key", "state", "since", "documents")
            used = await keys.listed()
            for one in used:
                state = "current" if one.current else "in use" if one.uses else "may be retired"
                table.add_row(one.key_id, state, f"{one.since:%Y-%m-%d %H:%M}", str(one.uses))
            for key_id in sorted(set(await masters.ids()) - {one.key_id for one in used}):
                table.add_row(key_id, "not used yet", "", "")
            out.print(table)
            waiting, shredded = await Shredder(parts.database, parts.blobs).waiting()
            out.print(
                f"{await keys.count_plain()} documents in the clear; {waiting} to be shredded, {shredded} shredded"
            )
            masters.close()

    run_to_end(run)


def rotate(
    to: Annotated[str | None, typer.Option(help="The master key; the newest when not given.")] = None,
    data: Data = None,
) -> None:
    """Use the newest master key from now on, and wrap the keys of all documents anew under it.

    Documents are not touched and everything goes on; interrupted, run it again.
    """
    settings = settings_of(data)

    async def run() -> None:
        async with parts_of(settings) as parts:
            keys = _sealed(parts).keys
            current, wrapped, left = await keys.make_current(to), 0, 1
            with progress("keys") as tell:
                while left:
                    some, left = await keys.rewrap_some()
                    wrapped += some
                    tell(wrapped, wrapped + left)
                    if left and not some:
                        await asyncio.sleep(0.1)  # another process is at them
        out.print(f"{current} is current; {wrapped} keys of documents were wrapped anew")

    run_to_end(run)


def retire(key_id: str, data: Data = None) -> None:
    """Destroy a master key that nothing is wrapped under. Backups of the database from its time need it."""
    settings = settings_of(data)

    async def run() -> None:
        async with parts_of(settings) as parts:
            await _sealed(parts).keys.retire(key_id)
        out.print("retired")

    run_to_end(run)


def encrypt(data: Data = None) -> None:
    """Encrypt the documents that were kept in the clear. Everything goes on; interrupted, run it again."""
    settings = settings_of(data)

    async def run() -> int:
        from fhir_server.store.plain_blobs import seal_all

        async with parts_of(settings) as parts:
            with progress("documents") as tell:
                found = await seal_all(_sealed(parts), lambda now: tell(now.encrypted))
        out.print(f"{found.encrypted} encrypted, {found.already} were already")
        if found.without_key:
            out.print(f"{found.without_key} sealed files have no key here (a process that died, or a restored backup)")
        for sha256 in found.damaged:
            out.print(f"[red]damaged, left alone:[/red] {sha256}")
        return 1 if found.damaged else 0

    run_to_end(run)


def shredded(
    data: Data = None,
    as_json: Annotated[Path | None, typer.Option("--json", help="Write all of them as JSON lines here.")] = None,
) -> None:
    """What was let go: which content, when, by whom, why, and what became of it."""
    settings = settings_of(data)

    async def run() -> None:
        from fhir_server.store.shredding import Shredder

        async with parts_of(settings) as parts:
            found = await Shredder(parts.database, parts.blobs).releases(2**31 if as_json else 100)
        if as_json:
            lines = [{name: _told(value) for name, value in one._asdict().items()} for one in found]
            as_json.write_text("".join(f"{json.dumps(line)}\n" for line in lines), encoding="utf-8")
            return
        table = table_of("sha256", "asked", "by", "reason", "outcome", "when")
        for one in found:
            when = f"{one.settled:%Y-%m-%d %H:%M}" if one.settled else ""
            asked = f"{one.asked:%Y-%m-%d %H:%M}"
            table.add_row(one.sha256.hex(), asked, one.asked_by, one.reason, one.outcome or "waits", when)
        out.print(table)

    run_to_end(run)


def _told(value: object) -> object:
    return value.hex() if isinstance(value, bytes) else value.isoformat() if isinstance(value, datetime) else value


def _sealed(parts: "Parts") -> "SealedBlobs":
    """The encrypted store. Raises Conflict where documents are kept in the clear."""
    from fhir_server.outcomes import Conflict
    from fhir_server.store.blobs_sealed import SealedBlobs

    if not isinstance(parts.blobs, SealedBlobs) or not parts.blobs.sealing:
        raise Conflict("Documents are kept in the clear: DMST_FHIR_ENCRYPT_BLOBS is false")
    return parts.blobs
