"""INS and RNIV code tables: domains of a matricule, statuses and attributes of an identity, and their rules.

Referentiel INS v2.1, RNIV 1 v2.0, guide d'implementation de l'INS v3.0 (EXI numbers).
"""

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Final, Literal

from stdnum.fr import nir

from terminology import systems

Status = Literal["PROV", "RECUP", "VALI", "QUAL"]
Attribute = Literal["homonyme", "douteuse", "fictive"]
Domain = Literal["real", "provisional", "test", "demo"]

_DOMAINS: Final[Mapping[str, Domain]] = MappingProxyType(
    {
        systems.INS_NIR_OID: "real",
        systems.INS_NIA_OID: "provisional",
        systems.INS_TEST_OID: "test",
        systems.INS_DEMO_OID: "demo",
    }
)


def domain_of(oid_ins: str | None) -> Domain | None:
    """What a matricule under this OID (bare or `urn:oid:`) is worth; None for no OID or one that is not an
    INS OID.
    """
    return _DOMAINS.get((oid_ins or "").removeprefix("urn:oid:"))


def has_valid_key(matricule_ins: str) -> bool:
    """Whether the two-digit key fits (97 - N mod 97, 2A as 19, 2B as 18). A wrong key warns; it never
    rejects.
    """
    return nir.is_valid(matricule_ins)


# --- status and attributes: I = retrieved from INSi, C = checked against a document of high confidence

_STATUS: Final[Mapping[tuple[bool, bool], Status]] = MappingProxyType(
    {
        (False, False): "PROV",
        (True, False): "RECUP",
        (False, True): "VALI",
        (True, True): "QUAL",
    }
)


def status_of(*, retrieved: bool, checked: bool) -> Status:
    """The status that the two axes give (EXI SI 07)."""
    return _STATUS[retrieved, checked]


def after_change_of_strict_trait(status: Status) -> Status:
    """A changed strict trait, or a failed INSi verification, takes the I axis away: QUAL to VALI, RECUP to
    PROV.
    """
    return status_of(retrieved=False, checked=status in ("VALI", "QUAL"))


def effective_status(status: Status, attributes: Iterable[str]) -> Status:
    """The status once the attributes had their say: *douteuse* and *fictive* force PROV (EXI SI 09, EXI ID 24
    and 26).
    """
    return "PROV" if {"douteuse", "fictive"} & set(attributes) else status


def forbidden_attributes(attributes: Iterable[str]) -> str | None:
    """Why this set of attributes may not stand together, in French; None when it may. Only douteuse with
    homonyme combine.
    """
    held = set(attributes)
    if held - {"homonyme", "douteuse", "fictive"}:
        return "valeurs attendues : homonyme, douteuse, fictive"
    if len(held) > 1 and held != {"homonyme", "douteuse"}:
        return "ces attributs s'excluent"
    return None


def matricule_may_circulate(status: Status, attributes: Iterable[str]) -> bool:
    """Whether matricule and OID may leave: a qualified identity only (EXI ID 29, EXI SI 08)."""
    return effective_status(status, attributes) == "QUAL"
