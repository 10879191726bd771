"""Dépôt de fichiers: a drop folder, here or over SFTP, for software that takes documents as files. See deposit.py."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from adapters.codecs.index_file import IndexFormat
from adapters.depot.deposit import EXTENSIONS, Depot, Layout
from adapters.depot.local import LocalFolder
from adapters.depot.place import Place
from adapters.depot.template import fault_of, fault_of_name
from fhir_server.outcomes import BadSyntax
from fhir_server.ports import Adapter

OPTIONS = frozenset(
    {"folder", "host", "port", "username", "known_hosts", "key_file", "password_file", "timeout", "name", "sentinel"}
    | {"identity_in_names", "index", "separator", "root", "encoding", "fields"}
)


def make(options: Mapping[str, Any], data: Path) -> Adapter:
    """Options of `[recipient.options]`. Raises BadSyntax with what is wrong in them.

    `folder`, needed; for SFTP `host`, `port` (22), `username`, `known_hosts`, and `key_file` or `password_file`;
    `timeout` of each step in seconds (30); `name` of the files ("{delivery_id}"), `identity_in_names` (false),
    `sentinel` (its extension, "ok"); `index` (csv, xml or json; "csv"), `separator` (";"), `root` ("document"),
    `encoding` ("utf-8"), and the table `fields`, needed: name over there = template of ours.
    """
    if unknown := sorted(set(options) - OPTIONS):
        raise BadSyntax(f"Adapter depot: there is no option {', '.join(unknown)}")
    if not options.get("folder"):
        raise BadSyntax("Adapter depot: folder is missing")
    timeout = float(options.get("timeout", 30))
    place = _sftp(options, timeout) if "host" in options else LocalFolder(Path(options["folder"]), timeout=timeout)
    return Depot(place, _layout(options), data / "depot")


def _layout(options: Mapping[str, Any]) -> Layout:
    name, sentinel = str(options.get("name", "{delivery_id}")), str(options.get("sentinel", "ok"))
    fields = options.get("fields")
    if not isinstance(fields, dict) or not fields:
        raise BadSyntax("Adapter depot: fields is a table with at least one field")
    templates = {str(there): str(ours) for there, ours in fields.items()}
    index = IndexFormat(
        str(options.get("index", "csv")),
        separator=str(options.get("separator", ";")),
        root=str(options.get("root", "document")),
        encoding=str(options.get("encoding", "utf-8")),
    )
    faults = [
        fault_of_name(name, identity_allowed=options.get("identity_in_names") is True),
        *(fault_of(template) for template in templates.values()),
        index.fault(templates),
    ]
    if not re.fullmatch("[a-z0-9]{1,10}", sentinel) or sentinel in {index.name, *EXTENSIONS.values()}:
        faults.append("sentinel is an extension of lower-case letters and digits that no other file has")
    if found := next((fault for fault in faults if fault), None):
        raise BadSyntax(f"Adapter depot: {found}")
    return Layout(name, sentinel, index, templates)


def _sftp(options: Mapping[str, Any], timeout: float) -> Place:
    from adapters.depot.sftp import Login, SftpFolder, read_key  # half a second to import: for those who use it

    for needed in ("username", "known_hosts"):
        if not options.get(needed):
            raise BadSyntax(f"Adapter depot: {needed} is missing")
    if ("key_file" in options) == ("password_file" in options):
        raise BadSyntax("Adapter depot: SFTP needs either key_file or password_file")
    known_hosts = Path(options["known_hosts"])
    try:
        known_hosts.read_bytes()
        key = read_key(Path(options["key_file"])) if "key_file" in options else None
        password = Path(options["password_file"]).read_text("utf-8").strip() if "password_file" in options else None
    except (OSError, ValueError) as error:
        raise BadSyntax(
            f"Adapter depot: a key, password or known_hosts cannot be read ({type(error).__name__})"
        ) from None
    login = Login(
        host=str(options["host"]),
        port=int(options.get("port", 22)),
        username=str(options["username"]),
        known_hosts=known_hosts,
        key=key,
        password=password,
    )
    return SftpFolder(login, str(options["folder"]), timeout=timeout)
