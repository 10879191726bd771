"""A stored Patient as he is compared with an incoming record, and as he is found. Pure.

Everything that is known of him counts: birth name and used name, former matricules.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from fhir_server.linkage.comparable import RAREST, Comparable, Rarity, comparable
from fhir_server.linkage.keys import parts_of
from fhir_server.linkage.model import Model
from fhir_server.linkage.traits import TraitsIns
from mappings.patient_fr_core import PatientIdentity, identity_of

_NOT_ASKED: Final = Rarity({}, RAREST)
"""Parts of an identity do not depend on how rare its names are."""


def traits_of(identity: PatientIdentity) -> TraitsIns:
    """What a stored Patient says of who he is."""
    return TraitsIns(
        birth_name=identity.birth_name,
        used_name=identity.used_name,
        given_names=identity.given_names,
        birth_date=identity.birth_date,
        sex=identity.sex,
        birth_place=identity.birth_place,
        matricule_ins=identity.matricule_ins,
        oid_ins=identity.oid_ins,
    )


def worker_of(identity: PatientIdentity, model: Model) -> Comparable:
    """A stored Patient in the forms that are compared."""
    return comparable(traits_of(identity), identity.former_matricules, families=model.families, givens=model.givens)


def parts_of_patient(patient: Mapping[str, Any]) -> Iterable[int]:
    """What a Patient (its parsed JSON) is found by; nothing where it is not active."""
    identity = identity_of(patient)
    if not identity.active:
        return ()
    return parts_of(comparable(traits_of(identity), identity.former_matricules, families=_NOT_ASKED, givens=_NOT_ASKED))


def parts_of_record(stated: TraitsIns, former_matricules: Sequence[str] = ()) -> Iterable[int]:
    """What the candidates for an incoming record are asked for by."""
    return parts_of(comparable(stated, former_matricules, families=_NOT_ASKED, givens=_NOT_ASKED), stored=False)
