"""Message -> DocumentMessage: ANS, "Transmission d'un document CDA en HL7 v2" 2.0 and 2.1, and LPS 1.0 and 1.1.

What contradicts itself is refused with 207 and a code of the ANS; what is not there or no value, with the code of HL7.
"""

import re
from collections.abc import Collection
from typing import Final

from adapters.codecs.hl7v2.data import decoded
from adapters.codecs.hl7v2.documents import (
    FLAG_ALIASES,
    FLAGS,
    GUIDE,
    LPS_GUIDE,
    MAILS,
    READ_PROFILES,
    REQUIRED_FLAGS,
    VERSIONS,
    Action,
    Authority,
    CarriedDocument,
    CourrielMss,
    DocumentEntry,
    DocumentMessage,
    EntityId,
    Identifier,
    Name,
    Organisation,
    Participation,
    Patient,
    Person,
    Visit,
)
from adapters.codecs.hl7v2.failures import Code, Fault, MessageRefused, Place, application_fault, fault
from adapters.codecs.hl7v2.message import Message, Repetition, Segment, envelope, part

EVENTS: Final = {"MDM": {action.event for action in Action}, "ORU": {"R01"}}
SILENT_ORDER: Final = "SC"  # status changed: guides before 2.1 let it stand whatever was done
MOST_DOCUMENTS: Final = {"MDM": 1, "ORU": 2}
OID: Final = re.compile(r"[0-2](\.[0-9]+)+")
INS_DIGITS: Final = re.compile(r"[0-9]{6}[0-9AB][0-9]{8}")

Placed = tuple[Segment, int]


def read_document_message(message: Message) -> DocumentMessage:
    """What the message carries and asks for. Raises MessageRefused with the header and every fault of one step."""
    try:
        return _read(message)
    except MessageRefused as refused:
        raise MessageRefused(*refused.faults, header=message) from None


def check_ins(message: DocumentMessage, systems: Collection[str]) -> None:
    """The identity as the ANS asks for it; `systems` are the OIDs of the INS. For callers who insist on an INS.

    MessageRefused: 903 where there is none, 905 where it is not 15 signs or its status (PID-32) is not VALI.
    """
    for number, one in enumerate(message.patient.identifiers, start=1):
        if one.authority.oid in systems:
            if not INS_DIGITS.fullmatch(one.value):
                place = Place("PID", 1, 3, number, 1)
                raise MessageRefused(application_fault("905", place, "an INS has 15 signs"))
            if "VALI" not in message.patient.statuses:
                raise MessageRefused(application_fault("905", Place("PID", 1, 32), "the identity is not qualified"))
            return
    raise MessageRefused(application_fault("903", Place("PID", 1, 3), "no INS"))


def check_same_patient(
    message: DocumentMessage, document: Collection[tuple[str, str]], systems: Collection[str]
) -> None:
    """PID against the (root, extension) of the CDA's patientRole. MessageRefused 904 where their INS differ.

    Where one of them names no INS, there is nothing to compare: `check_ins` says whether that is borne.
    """
    told = {(one.authority.oid, one.value) for one in message.patient.identifiers if one.authority.oid in systems}
    meant = {pair for pair in document if pair[0] in systems}
    if told and meant and not told & meant:
        raise MessageRefused(application_fault("904", Place("PID", 1, 3), "the document is about another person"))


def _read(message: Message) -> DocumentMessage:
    about = envelope(message)
    _check_kind(message)
    observations = [one for one in message.placed() if one[0].name == "OBX"]
    flags, mails, warnings = _metadata(message, observations)
    carried, courriel = _documents(message, observations)
    action = _action(message, [one for one, _ in carried])
    entry = _entry(message, action) if message.type == "MDM" else None
    _check_types(message, carried)
    orc, obr, evn, pv1 = (message.first(name) for name in ("ORC", "OBR", "EVN", "PV1"))
    order = obr or orc
    return DocumentMessage(
        about,
        action,
        _patient(message),
        tuple(document for _, document in carried),
        flags,
        entry,
        evn.value(2) if evn else "",
        Visit(pv1.value(2), _identifier(pv1.field(19)[:1])) if pv1 else Visit(),
        _entity(order.field(2)) if order else None,
        _entity(order.field(3)) if order else None,
        mails or None,
        any(nte.value(4) == "FIN" for nte in message.named("NTE")),
        courriel,
        warnings,
    )


def _check_kind(message: Message) -> None:
    """Type, event, version, processing id and guide are those that we read."""
    if message.type not in VERSIONS:
        raise MessageRefused(fault("200", Place("MSH", 1, 9, 1, 1), "MDM or ORU"))
    if message.event not in EVENTS[message.type]:
        raise MessageRefused(fault("201", Place("MSH", 1, 9, 1, 2), "T02, T10, T04 of MDM, R01 of ORU"))
    if message.processing_id not in {"P", "T", "D"}:
        raise MessageRefused(fault("202", Place("MSH", 1, 11), "P, T or D"))
    if message.version != VERSIONS[message.type]:
        raise MessageRefused(fault("203", Place("MSH", 1, 12), "2.6 for MDM, 2.5 for ORU"))
    if message.profile not in READ_PROFILES or (message.profile[1] == LPS_GUIDE and message.type != "MDM"):
        raise MessageRefused(application_fault("900", Place("MSH", 1, 21), "a guide that is not read"))


def _metadata(
    message: Message, observations: list[Placed]
) -> tuple[dict[str, bool], dict[str, str], tuple[Fault, ...]]:
    """Flags, texts of mails, and warnings: a mail that cannot be decoded is one, for every ORU of the ANS has it."""
    flags: dict[str, bool] = {}
    mails: dict[str, str] = {}
    warnings: list[Fault] = []
    for obx, number in observations:
        code = FLAG_ALIASES.get(obx.value(3), obx.value(3))
        if code in flags or code in mails:
            raise MessageRefused(fault("198", Place("OBX", number, 3, 1, 1), "told twice"))
        if code in FLAGS:
            if obx.value(5) not in {"Y", "N"}:
                raise MessageRefused(fault("103", Place("OBX", number, 5, 1, 1), "Y or N"))
            flags[code] = obx.value(5) == "Y"
        elif code in MAILS:
            try:
                mails[code] = decoded(obx, number).decode("utf-8")
            except MessageRefused as refused:
                warnings += [Fault(one.condition, one.place, "W", None, one.detail) for one in refused.faults]
            except UnicodeDecodeError:
                warnings.append(fault("102", Place("OBX", number, 5, 1, 5), "no UTF-8", severity="W"))
    missing = [code for code in REQUIRED_FLAGS[message.profile[1]] if code not in flags]
    if missing:
        last = observations[-1][1] if observations else 0
        raise MessageRefused(*(fault("101", Place("OBX", last + 1, 3, 1, 1), code) for code in missing))
    return flags, mails, tuple(warnings)


def _documents(
    message: Message, observations: list[Placed]
) -> tuple[list[tuple[Placed, CarriedDocument]], CourrielMss | None]:
    """The OBX of type ED that are no metadata, decoded, each with the PRT after it."""
    own = [one for one in observations if one[0].value(2) == "ED" and one[0].value(3) not in MAILS]
    courriel = None
    if message.profile[1] == LPS_GUIDE and len(own) > 1:
        obx, number = own.pop(1)
        courriel = CourrielMss(obx.value(3, 1), obx.value(3, 2), decoded(obx, number))
    if not own:
        raise MessageRefused(fault("101", Place("OBX", 1, 5), "no document"))
    if len(own) > MOST_DOCUMENTS[message.type]:
        place = Place("OBX", own[MOST_DOCUMENTS[message.type]][1])
        raise MessageRefused(fault("198", place, "one document in an MDM, two in an ORU"))
    participations = _participations(message)
    carried: list[tuple[Placed, CarriedDocument]] = []
    for obx, number in own:
        kind = _coded(obx.field(3))
        if not kind.code:
            raise MessageRefused(fault("101", Place("OBX", number, 3), "the type of the document"))
        carried.append(
            ((obx, number), CarriedDocument(kind, decoded(obx, number), tuple(participations.get(number, ()))))
        )
    return carried, courriel


def _action(message: Message, carried: list[Placed]) -> Action:
    """What ORC-1, OBX-11 and the event agree upon; 207 and 906 at the first that differs from OBX-11."""
    obx, number = carried[0]
    action = next((one for one in Action if one.result == obx.value(11)), None)
    if action is None:
        raise MessageRefused(fault("103", Place("OBX", number, 11), "F, C or D"))
    for other, where in carried[1:]:
        if other.value(11) != action.result:
            raise MessageRefused(
                application_fault("906", Place("OBX", where, 11), "it differs from the first document's")
            )
    for number, orc in enumerate(message.named("ORC"), start=1):
        told = orc.value(1)
        if told == SILENT_ORDER and message.profile != ("2.1", GUIDE):
            continue
        if not told:
            raise MessageRefused(fault("101", Place("ORC", number, 1), "NW, RO or CA"))
        if told not in {one.order for one in Action}:
            raise MessageRefused(fault("103", Place("ORC", number, 1), "NW, RO or CA"))
        if told != action.order:
            raise MessageRefused(application_fault("906", Place("ORC", number, 1), "it contradicts OBX-11"))
    if message.type == "MDM" and message.event != action.event:
        raise MessageRefused(application_fault("906", Place("MSH", 1, 9, 1, 2), "the event contradicts OBX-11"))
    return action


def _entry(message: Message, action: Action) -> DocumentEntry:
    txa = message.first("TXA")
    if txa is None:
        raise MessageRefused(fault("100", Place("TXA"), "an MDM has one"))
    own, parent = _entity(txa.field(12)), _entity(txa.field(13))
    if own is None:
        raise MessageRefused(fault("101", Place("TXA", 1, 12), "the id of the document"))
    if action is Action.REPLACEMENT and parent is None:
        raise MessageRefused(fault("101", Place("TXA", 1, 13), "the id of the document that is replaced"))
    return DocumentEntry(own, parent, txa.value(4), txa.value(17), txa.value(22))


def _check_types(message: Message, carried: list[tuple[Placed, CarriedDocument]]) -> None:
    """OBR-4 and TXA-2 name the type of the documents; the LPS samples do not hold to it, and are not held to it."""
    if message.profile[1] != GUIDE:
        return
    types = {document.type.code for _, document in carried}
    for name, field in (("OBR", 4), ("TXA", 2)):
        for number, one in enumerate(message.named(name), start=1):
            if one.value(field) and one.value(field) not in types:
                raise MessageRefused(application_fault("906", Place(name, number, field), "another type than OBX-3"))


def _patient(message: Message) -> Patient:
    pid = message.first("PID")
    if pid is None:
        raise MessageRefused(fault("100", Place("PID"), "it must be there"))
    identifiers = tuple(found for one in pid.field(3) if (found := _identifier((one,))))
    if not identifiers:
        raise MessageRefused(fault("101", Place("PID", 1, 3), "an identifier"))
    names = tuple(
        Name(part((one,), 1), part((one,), 2), part((one,), 3), part((one,), 7)) for one in pid.field(5) if one
    )
    statuses = tuple(status for one in pid.field(32) if (status := part((one,), 1)))
    return Patient(identifiers, names, pid.value(7), pid.value(8), _identifier(pid.field(18)[:1]), statuses)


def _participations(message: Message) -> dict[int, list[Participation]]:
    """By the number of the OBX before them. The mailbox stands in PRT-15, on one page of the guide in PRT-16."""
    found: dict[int, list[Participation]] = {}
    last = 0
    for one, number in message.placed():
        if one.name == "OBX":
            last = number
        elif one.name == "PRT":
            address = one.value(15, 4) or one.value(16, 4)
            found.setdefault(last, []).append(
                Participation(one.value(4), _person(one), _organisation(one), one.value(10), address)
            )
    return found


def _person(prt: Segment) -> Person | None:
    if not prt.field(5):
        return None
    return Person(prt.value(5, 1), prt.value(5, 2), prt.value(5, 3), _authority(prt.field(5), 9), prt.value(5, 13))


def _organisation(prt: Segment) -> Organisation | None:
    if not prt.field(8):
        return None
    return Organisation(prt.value(8, 1), prt.value(8, 10), _authority(prt.field(8), 6), prt.value(8, 7))


def _identifier(field: tuple[Repetition, ...]) -> Identifier | None:
    value = part(field, 1)
    return Identifier(value, _authority(field, 4), part(field, 5), part(field, 7)) if value else None


def _authority(field: tuple[Repetition, ...], component: int) -> Authority:
    """HD; some write the OID where the name belongs."""
    name, oid = part(field, component, 1), part(field, component, 2)
    return Authority("", name) if not oid and OID.fullmatch(name) else Authority(name, oid)


def _entity(field: tuple[Repetition, ...]) -> EntityId | None:
    value = part(field, 1)
    return EntityId(value, part(field, 2), part(field, 3)) if value else None


def _coded(field: tuple[Repetition, ...]) -> Code:
    return Code(part(field, 1), part(field, 2), part(field, 3))
