"""The profiles of document sharing that this server checks, as the table `profiles.toml` has them.

https://profiles.ihe.net/ITI/MHD (4.2.4) and https://interop.esante.gouv.fr/ig/fhir/pdsm (3.1.1)
"""

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from terminology import systems

TABLE: Final = Path(__file__).with_name("profiles.toml")
UNBOUNDED: Final = 1 << 30
SIMPLIFIED: Final = frozenset({systems.MHD_SIMPLIFIED_PUBLISH, systems.PDSM_SIMPLIFIED_PUBLISH})


@dataclass(frozen=True, slots=True)
class Cardinality:
    """How often a path occurs within each of its parents that is there."""

    path: str
    least: int
    most: int


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule of a guide, by its key: one coding at `path` comes from a system that begins with one of `systems`."""

    key: str
    path: str
    names: tuple[str, ...]
    systems: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Profile:
    """A profile with all that its parents say."""

    name: str
    url: str
    type: str
    cardinalities: tuple[Cardinality, ...]
    targets: Mapping[str, tuple[str, ...]]
    codes: Mapping[str, tuple[str, ...]]
    contained: tuple[str, ...]
    rules: tuple[Rule, ...]
    no_entry_uuid: bool
    unique_id_is_oid: bool
    patchable: tuple[str, ...] | None
    """The paths that a PATCH may change; None where the guide says nothing."""


@dataclass(frozen=True, slots=True)
class BundleProfile:
    """A profile of ITI-65, and those of its parts."""

    name: str
    url: str
    submission_set: Profile
    document: Profile
    folder: Profile
    least_documents: int
    only_binaries: bool
    """Whether every document is a Binary: PDSm, constr-bind-attachmenturl."""
    replaces_one: bool
    """Whether a document that replaces another has one relatesTo: PDSm, constr-bind-relatesTo."""


@cache
def profiles() -> Mapping[str, Profile]:
    """Url -> profile, of DocumentReference and List."""
    return MappingProxyType({one.url: one for one in _by_name().values()})


@cache
def bundle_profiles() -> Mapping[str, BundleProfile]:
    """Url -> profile, of the Bundles of ITI-65."""
    named = _by_name()
    found: dict[str, BundleProfile] = {}
    for row in _table()["bundle"]:
        url = _url(row)
        found[url] = BundleProfile(
            row["name"],
            url,
            named[row["submission_set"]],
            named[row["document"]],
            named[row["folder"]],
            row.get("least_documents", 0),
            row.get("only_binaries", False),
            row.get("replaces_one", False),
        )
    return MappingProxyType(found)


def supported(resource_type: str) -> list[str]:
    """The profiles that resources of a type are held to where they claim them, for the CapabilityStatement."""
    if resource_type == "Bundle":
        return sorted(bundle_profiles())
    return sorted(url for url, profile in profiles().items() if profile.type == resource_type)


@cache
def instantiates() -> tuple[str, ...]:
    """The CapabilityStatements of MHD actors that this server fulfils."""
    return tuple(_table()["actors"]["instantiates"])


@cache
def extension_urls() -> Mapping[str, str]:
    """The name of an extension in the guides -> its url."""
    return MappingProxyType(_table()["extensions"])


def claimed(resource: Mapping[str, Any]) -> list[Profile]:
    """The profiles of the table that a resource says it follows."""
    return [
        found for url in claims(resource) if (found := profiles().get(url)) and found.type == resource["resourceType"]
    ]


def is_simplified(resource: Mapping[str, Any]) -> bool:
    """Whether a DocumentReference says that it carries its document with it: Simplified Publish [ITI-105]."""
    return not SIMPLIFIED.isdisjoint(claims(resource))


def claims(resource: Mapping[str, Any]) -> Iterable[str]:
    """The canonical urls of `meta.profile`, without version."""
    return (str(url).partition("|")[0] for url in (resource.get("meta") or {}).get("profile") or ())


@cache
def _table() -> dict[str, Any]:
    return tomllib.loads(TABLE.read_text("utf-8"))


def _url(row: Mapping[str, Any]) -> str:
    return str(_table()["guides"][row["guide"]] + row["name"])


@cache
def _by_name() -> dict[str, Profile]:
    found: dict[str, Profile] = {}
    for row in _table()["profile"]:
        found[row["name"]] = _profile(row, found.get(row.get("parent", "")))
    return found


def _profile(row: Mapping[str, Any], parent: Profile | None) -> Profile:
    own = [_cardinality(line) for line in row.get("elements", ())]
    stated = {one.path for one in own}
    inherited = [one for one in (parent.cardinalities if parent else ()) if one.path not in stated]
    patchable = _table()["patchable"].get(row["name"])
    return Profile(
        name=row["name"],
        url=_url(row),
        type=row["type"] if parent is None else parent.type,
        cardinalities=(*inherited, *own),
        targets={**(parent.targets if parent else {}), **{k: tuple(v) for k, v in row.get("targets", {}).items()}},
        codes={**(parent.codes if parent else {}), **{k: tuple(v) for k, v in row.get("codes", {}).items()}},
        contained=(*(parent.contained if parent else ()), *row.get("contained", ())),
        rules=(*(parent.rules if parent else ()), *(_rule(one) for one in row.get("rules", ()))),
        no_entry_uuid=row.get("no_entry_uuid", parent.no_entry_uuid if parent else False),
        unique_id_is_oid=row.get("unique_id_is_oid", parent.unique_id_is_oid if parent else False),
        patchable=tuple(patchable) if patchable else None,
    )


def _cardinality(line: str) -> Cardinality:
    path, _, span = line.partition(" ")
    least, _, most = span.partition("..")
    return Cardinality(path, int(least), UNBOUNDED if most == "*" else int(most))


def _rule(row: Mapping[str, Any]) -> Rule:
    systems = _table()["code_systems"]
    prefixes = tuple(prefix for name in row["systems"] for prefix in systems[name])
    return Rule(row["key"], row["path"], tuple(row["systems"]), prefixes)
