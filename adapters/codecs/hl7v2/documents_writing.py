"""DocumentMessage -> Message, as ANS "Transmission d'un document CDA en HL7 v2" 2.1 has it: segments, order, tables."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from adapters.codecs.hl7v2.data import encoded
from adapters.codecs.hl7v2.documents import (
    FLAGS,
    MAILS,
    STRUCTURES,
    VERSIONS,
    WRITTEN_PROFILE,
    Action,
    Authority,
    CarriedDocument,
    DocumentMessage,
    EntityId,
    Identifier,
    Participation,
)
from adapters.codecs.hl7v2.failures import MessageRefused, Place, fault
from adapters.codecs.hl7v2.message import Component, Message, Repetition, Segment, header, repetition, segment

METADATA: Final = "MetaDMPMSS"
YES_NO: Final = "expandedYes-NoIndicator"
ROLES: Final = {"SB": "Send by", "RCT": "Result Copies To", "REPLY": "Reply To"}
TEXT: Final = {"MDM": "text", "ORU": "TEXT"}
CODED: Final = {"MDM": "CWE", "ORU": "CE"}


def document_message(about: DocumentMessage) -> Message:
    """The MDM where there is an `entry`, the ORU where there is none; the profile is always 2.1's.

    MessageRefused, with the place that would stay empty: 101 where a flag, an identifier, a document or the parent of a
    replacement is missing, 198 where there are too many documents.
    """
    _check(about)
    kind = "MDM" if about.entry else "ORU"
    event = about.action.event if about.entry else "R01"
    head = replace(about.envelope, profile=WRITTEN_PROFILE)
    segments = [header((kind, event, STRUCTURES[kind]), VERSIONS[kind], head)]
    if about.entry:
        segments.append(segment("EVN", {2: about.recorded_at or about.envelope.sent_at}))
    segments += [_pid(about), _pv1(about), *_order(about)]
    if about.entry:
        segments.append(_txa(about))
    return Message((*segments, *_observations(about, kind)))


def _check(about: DocumentMessage) -> None:
    missing = [fault("101", Place("OBX", 1, 3), code) for code in FLAGS if code not in about.flags]
    if not about.patient.identifiers:
        missing.append(fault("101", Place("PID", 1, 3), "an identifier"))
    if not about.documents:
        missing.append(fault("101", Place("OBX", 1, 5), "a document"))
    if len(about.documents) > (1 if about.entry else 2):
        missing.append(fault("198", Place("OBX", 1, 5), "one document in an MDM, two in an ORU"))
    if about.entry and about.action is Action.REPLACEMENT and about.entry.parent is None:
        missing.append(fault("101", Place("TXA", 1, 13), "the id of the document that is replaced"))
    if missing:
        raise MessageRefused(*missing)


def _pid(about: DocumentMessage) -> Segment:
    patient = about.patient
    return segment(
        "PID",
        {
            3: [_identifier(one) for one in patient.identifiers],
            5: [repetition(one.family, one.given, one.second, "", "", "", one.type) for one in patient.names],
            7: patient.birth_date,
            8: patient.gender,
            18: [_identifier(patient.account)] if patient.account else "",
            32: [repetition(one) for one in patient.statuses],
        },
    )


def _pv1(about: DocumentMessage) -> Segment:
    visit = about.visit
    number = [_identifier(visit.number)] if visit.number else ""
    return segment("PV1", {1: "1", 2: visit.patient_class, 19: number})


def _order(about: DocumentMessage) -> Iterator[Segment]:
    placer = [_entity(about.placer_order)] if about.placer_order else ""
    filler = [_entity(about.filler_order)] if about.filler_order else ""
    kind = about.documents[0].type
    yield segment("ORC", {1: about.action.order, 2: placer, 3: filler})
    yield segment("OBR", {1: "1", 2: placer, 3: filler, 4: [repetition(kind.code, kind.text, kind.system)]})


def _txa(about: DocumentMessage) -> Segment:
    entry = about.entry
    if entry is None:
        raise AssertionError("an MDM has an entry")
    return segment(
        "TXA",
        {
            1: "1",
            2: about.documents[0].type.code,
            3: "TEXT",
            4: entry.at,
            12: [_entity(entry.id)],
            13: [_entity(entry.parent)] if entry.parent else "",
            17: entry.completion,
            22: entry.authenticator,
        },
    )


def _observations(about: DocumentMessage, kind: str) -> Iterator[Segment]:
    """The documents with their PRT, the flags in their order, the texts of mails last."""
    number = 0
    for number, document in enumerate(about.documents, start=1):
        yield _document(document, number, kind, about.action)
        yield from (_prt(one) for one in document.participations)
    for code, text in FLAGS.items():
        number += 1
        value = [repetition("Y" if about.flags[code] else "N", "", YES_NO)]
        names = [repetition(code, text, METADATA)]
        yield segment("OBX", {1: str(number), 2: CODED[kind], 3: names, 5: value, 11: "F"})
        if code == "DESTMSSANTEPAT" and about.end_of_destinations:
            yield segment("NTE", {4: "FIN"})
    for code, text in MAILS.items():
        if about.mails and code in about.mails:
            number += 1
            body = [encoded(about.mails[code].encode("utf-8"), TEXT[kind])]
            names = [repetition(code, text, METADATA)]
            yield segment("OBX", {1: str(number), 2: "ED", 3: names, 5: body, 11: "F"})


def _document(document: CarriedDocument, number: int, kind: str, action: Action) -> Segment:
    named = repetition(document.type.code, document.type.text, document.type.system)
    data = encoded(document.content, TEXT[kind], "XML")
    return segment("OBX", {1: str(number), 2: "ED", 3: [named], 5: [data], 11: action.result})


def _prt(one: Participation) -> Segment:
    who, where = one.person, one.organisation
    person = (
        repetition(who.id, who.family, who.given, "", "", "", "", "", _hd(who.authority), "", "", "", who.type)
        if who
        else ()
    )
    organisation = (
        repetition(where.name, "", "", "", "", _hd(where.authority), where.type, "", "", where.id) if where else ()
    )
    return segment(
        "PRT",
        {
            2: "UC",
            4: [repetition(one.role, ROLES.get(one.role, ""), "participation")],
            5: [person],
            8: [organisation],
            10: one.device,
            15: [repetition("", "", "X.400", one.address)] if one.address else "",
        },
    )


def _identifier(one: Identifier) -> Repetition:
    return repetition(one.value, "", "", _hd(one.authority), one.type, "", one.since)


def _hd(authority: Authority) -> Component:
    return (authority.name, authority.oid, "ISO") if authority.oid else (authority.name,)


def _entity(one: EntityId) -> Repetition:
    return repetition(one.value, one.namespace, one.root, "ISO" if one.root else "")
