"""Practitioner and PractitionerRole of those who follow the workers.

fr-core-practitioner and fr-core-practitioner-role 2.2.0; RPPS bare under rpps.esante.gouv.fr, `8` + RPPS
under PS_IdNat; profession and specialty of TRE_A02 (JDV_J01): G15_10/SM25 is the occupational physician.
"""

import re
from typing import Final

from mappings.elements import Element, coding, concept, identifier, present, reference
from terminology import systems

OCCUPATIONAL_PHYSICIAN: Final = coding(systems.TRE_A02, "G15_10/SM25", "Médecin - Médecine du travail (SM)")
NURSE: Final = coding(systems.TRE_A02, "G15_60", "Infirmier")

_TITLE: Final = re.compile(r"^(?:dr|docteur|pr|professeur|m|mme)\.?\s+", re.IGNORECASE)


def human_name(text: str) -> Element:
    """A name on one line as HumanName: words in capitals are the family name, the others given names.

    Where the capitals do not tell them apart only `text` is written.
    """
    bare = _TITLE.sub("", text.strip())
    family = [word for word in bare.split() if word == word.upper() and len(word) > 1]
    given = [word for word in bare.split() if word not in family]
    told_apart = bool(family and given)
    return present(
        text=text.strip(),
        family=" ".join(family) if told_apart else None,
        given=given if told_apart else None,
        prefix=["DR"] if re.match(r"(?i)^(dr|docteur)\b", text.strip()) else None,
    )


def rpps_identifiers(rpps: str) -> list[Element]:
    """Both identifiers of an RPPS number (11 digits): the national one with its leading 8,
    and the bare one.
    """
    return [
        identifier(systems.PS_ID_NAT, f"8{rpps}", type_=concept(systems.FR_CORE_V2_0203, "IDNPS")),
        identifier(systems.RPPS, rpps, type_=concept(systems.FR_CORE_V2_0203, "RPPS")),
    ]


def practitioner(practitioner_id: str, name: str, *, rpps: str | None = None) -> Element:
    """A professional; `name` is on one line, `Dr DURAND Claire`."""
    return present(
        resourceType="Practitioner",
        id=practitioner_id,
        meta={"profile": [systems.FR_CORE_PRACTITIONER]},
        identifier=rpps_identifiers(rpps) if rpps else None,
        active=True,
        name=[human_name(name)],
    )


def practitioner_role(
    role_id: str, *, practitioner_id: str, organization_id: str, profession: Element = OCCUPATIONAL_PHYSICIAN
) -> Element:
    """What a professional does in the service; `profession` is a Coding of TRE_A02."""
    return present(
        resourceType="PractitionerRole",
        id=role_id,
        meta={"profile": [systems.FR_CORE_PRACTITIONER_ROLE]},
        active=True,
        practitioner=reference(f"Practitioner/{practitioner_id}"),
        organization=reference(f"Organization/{organization_id}"),
        code=[{"coding": [profession]}],
    )
