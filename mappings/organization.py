"""Organization: the service (SPST), its centres, the employers of the workers.

fr-core-organization 2.2.0; identifiers SIRET (sirene.fr) and FINESS; type SA66 of TRE_R02 for the service.
"""

from typing import Any

from mappings.elements import Element, coding, concept, identifier, present, reference
from terminology import systems

SPST: Element = coding(systems.TRE_R02, "SA66", "Services de Prévention et de Santé au Travail (SPST)")


def siret(value: str) -> Element:
    """The SIRET of an establishment, 14 digits, as an Identifier."""
    return identifier(systems.SIRENE, value, type_=concept(systems.FR_CORE_V2_0203, "SIRET"))


def finess(value: str) -> Element:
    """The FINESS géographique of an establishment, nine characters, as an Identifier."""
    return identifier(systems.FINESS, value, type_=concept(systems.FR_CORE_V2_0203, "FINEG"))


def _organization(organization_id: str, name: str, **parts: Any) -> Element:
    return present(
        resourceType="Organization",
        id=organization_id,
        meta={"profile": [systems.FR_CORE_ORGANIZATION]},
        active=True,
        name=name,
        **parts,
    )


def service(
    organization_id: str, name: str, *, siret_number: str | None = None, finess_number: str | None = None
) -> Element:
    """The occupational health service, custodian of every DMST it keeps."""
    numbers = [
        *([siret(siret_number)] if siret_number else []),
        *([finess(finess_number)] if finess_number else []),
    ]
    return _organization(organization_id, name, identifier=numbers, type=[{"coding": [SPST]}])


def centre(organization_id: str, code: str, name: str, *, service_id: str) -> Element:
    """A centre of the service, known by its own short code (`C07`)."""
    return _organization(
        organization_id,
        name,
        identifier=[identifier(systems.CENTRE, code)],
        type=[{"coding": [SPST]}],
        partOf=reference(f"Organization/{service_id}"),
    )


def employer(organization_id: str, name: str, *, siret_number: str | None = None) -> Element:
    """An employer; it never sees the DMST, only the four model documents."""
    return _organization(organization_id, name, identifier=[siret(siret_number)] if siret_number else [])
