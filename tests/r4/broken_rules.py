"""Resources that each break one rule of R4, and little else: data of the tests of `constraints`."""

from typing import Any, Final

Json = dict[str, Any]


def resource(resource_type: str, **elements: Any) -> Json:
    return {"resourceType": resource_type, **elements}


def concept(system: str, code: str) -> Json:
    return {"coding": [{"system": f"http://terminology.hl7.org/CodeSystem/{system}", "code": code}]}


PATIENT = {"reference": "Patient/p"}
TEXT = {"text": "x"}
AGE = {"value": 3, "unit": "a", "system": "http://unitsofmeasure.org", "code": "a"}
GRAM = {"value": 3, "system": "http://unitsofmeasure.org", "code": "g"}
REFUTED = concept("condition-ver-status", "entered-in-error")
GONE = concept("allergyintolerance-verification", "entered-in-error")
QUESTIONNAIRE = resource("Questionnaire", status="draft")
CONDITION = resource("Condition", subject=PATIENT)
ENDED = CONDITION | {"abatementDateTime": "2020"}
ALLERGY = resource("AllergyIntolerance", patient=PATIENT)
ACTIVITY = resource("Observation", status="final", code=TEXT)
DEFINITION = resource(
    "StructureDefinition",
    url="http://example.org/x",
    name="X",
    status="draft",
    kind="complex-type",
    abstract=False,
    type="X",
    baseDefinition="http://hl7.org/fhir/StructureDefinition/Element",
)
ELEMENT = {"id": "X", "path": "X", "definition": "x", "min": 0, "max": "1", "base": {"path": "X", "min": 0, "max": "1"}}
SNAPSHOT = {"element": [ELEMENT]}
CAPABILITY = resource(
    "CapabilityStatement",
    status="draft",
    date="2020",
    kind="requirements",
    fhirVersion="4.0.1",
    format=["json"],
    description="x",
    rest=[{"mode": "server"}],
)


def question(**elements: Any) -> Json:
    return QUESTIONNAIRE | {"item": [{"linkId": "1", "type": "string"} | elements]}


def differential(**elements: Any) -> Json:
    return DEFINITION | {"differential": {"element": [ELEMENT | elements]}}


def timing(**repeat: Any) -> Json:
    return resource(
        "ServiceRequest", status="draft", intent="plan", subject=PATIENT, occurrenceTiming={"repeat": repeat}
    )


def value(**elements: Any) -> Json:
    """An element of a data type, where every type may stand."""
    return resource("Basic", code=TEXT, extension=[{"url": "http://example.org/x", **elements}])


IN = "Basic.extension[0].value"
REPEAT = "ServiceRequest.occurrence.repeat"
BROKEN: Final[list[tuple[str, str, Json]]] = [
    # data types
    ("age-1", IN, value(valueAge=AGE | {"value": 0})),
    ("age-1", IN, value(valueAge=AGE | {"system": "http://example.org/units"})),
    ("cnt-3", IN, value(valueCount={"value": 1.5, "system": "http://unitsofmeasure.org", "code": "1"})),
    ("dis-1", IN, value(valueDistance={"value": 1})),
    ("drt-1", IN, value(valueDuration={"code": "a", "system": "http://example.org"})),
    ("exp-1", IN, value(valueExpression={"language": "text/fhirpath"})),
    (
        "trd-1",
        IN,
        value(valueTriggerDefinition={"type": "periodic", "timingDate": "2020", "data": [{"type": "Patient"}]}),
    ),
    ("trd-3", IN, value(valueTriggerDefinition={"type": "named-event"})),
    (
        "drq-1",
        IN + ".codeFilter[0]",
        value(valueDataRequirement={"type": "Patient", "codeFilter": [{"valueSet": "x"}]}),
    ),
    ("tim-1", REPEAT, timing(duration=1)),
    ("tim-2", REPEAT, timing(frequency=1, period=2)),
    ("tim-4", REPEAT, timing(duration=-1, durationUnit="h")),
    ("tim-5", REPEAT, timing(period=-1, periodUnit="h")),
    ("tim-6", REPEAT, timing(periodMax=2)),
    ("tim-7", REPEAT, timing(durationMax=2)),
    ("tim-8", REPEAT, timing(countMax=2)),
    ("tim-9", REPEAT, timing(offset=5, when=["C"])),
    ("tim-10", REPEAT, timing(timeOfDay=["08:00:00"], when=["MORN"])),
    (
        "sqty-1",
        "Observation.referenceRange[0].low",
        ACTIVITY | {"referenceRange": [{"low": GRAM | {"comparator": "<"}}]},
    ),
    # care
    ("ait-1", "AllergyIntolerance", ALLERGY),
    (
        "ait-2",
        "AllergyIntolerance",
        ALLERGY | {"verificationStatus": GONE, "clinicalStatus": concept("allergyintolerance-clinical", "active")},
    ),
    (
        "app-1",
        "Appointment.participant[0]",
        resource("Appointment", status="proposed", participant=[{"status": "accepted"}]),
    ),
    (
        "app-2",
        "Appointment",
        resource(
            "Appointment",
            status="proposed",
            start="2020-01-01T00:00:00Z",
            participant=[{"actor": PATIENT, "status": "accepted"}],
        ),
    ),
    (
        "app-3",
        "Appointment",
        resource("Appointment", status="booked", participant=[{"actor": PATIENT, "status": "accepted"}]),
    ),
    (
        "app-4",
        "Appointment",
        resource(
            "Appointment",
            status="waitlist",
            cancelationReason=TEXT,
            participant=[{"actor": PATIENT, "status": "accepted"}],
        ),
    ),
    (
        "apr-1",
        "AppointmentResponse",
        resource("AppointmentResponse", appointment={"reference": "Appointment/1"}, participantStatus="accepted"),
    ),
    (
        "cpl-3",
        "CarePlan.activity[0]",
        resource(
            "CarePlan",
            status="draft",
            intent="plan",
            subject=PATIENT,
            activity=[{"detail": {"status": "scheduled"}, "reference": {"reference": "Task/1"}}],
        ),
    ),
    ("con-1", "Condition.stage[0]", CONDITION | {"stage": [{"type": TEXT}]}),
    (
        "con-2",
        "Condition.evidence[0]",
        CONDITION | {"evidence": [{"id": "e", "extension": value(valueCode="x")["extension"]}]},
    ),
    ("con-4", "Condition", ENDED | {"clinicalStatus": concept("condition-clinical", "active")}),
    (
        "con-5",
        "Condition",
        CONDITION | {"clinicalStatus": concept("condition-clinical", "active"), "verificationStatus": REFUTED},
    ),
    (
        "cmp-1",
        "Composition.section[0]",
        resource(
            "Composition", status="final", type=TEXT, date="2020", author=[PATIENT], title="x", section=[{"title": "x"}]
        ),
    ),
    ("ppc-1", "Consent", resource("Consent", status="active", scope=TEXT, category=[TEXT])),
    (
        "fhs-1",
        "FamilyMemberHistory",
        resource(
            "FamilyMemberHistory", status="partial", patient=PATIENT, relationship=TEXT, ageAge=AGE, bornDate="1980"
        ),
    ),
    (
        "gol-1",
        "Goal.target[0]",
        resource("Goal", lifecycleStatus="active", description=TEXT, subject=PATIENT, target=[{"detailString": "x"}]),
    ),
    (
        "imm-1",
        "Immunization.education[0]",
        resource(
            "Immunization",
            status="completed",
            vaccineCode=TEXT,
            patient=PATIENT,
            occurrenceString="x",
            education=[{"publicationDate": "2020"}],
        ),
    ),
    (
        "mad-1",
        "MedicationAdministration.dosage",
        resource(
            "MedicationAdministration",
            status="completed",
            medicationCodeableConcept=TEXT,
            subject=PATIENT,
            effectiveDateTime="2020",
            dosage={"text": "x"},
        ),
    ),
    (
        "mdd-1",
        "MedicationDispense",
        resource(
            "MedicationDispense",
            status="completed",
            medicationCodeableConcept=TEXT,
            whenPrepared="2020-02-01",
            whenHandedOver="2020-01-01",
        ),
    ),
    (
        "ras-1",
        "RiskAssessment.prediction[0].probability",
        resource(
            "RiskAssessment",
            status="final",
            subject=PATIENT,
            prediction=[{"probabilityRange": {"low": GRAM, "high": GRAM}}],
        ),
    ),
    (
        "ras-2",
        "RiskAssessment.prediction[0]",
        resource("RiskAssessment", status="final", subject=PATIENT, prediction=[{"probabilityDecimal": 101}]),
    ),
    (
        "rqg-1",
        "RequestGroup.action[0]",
        resource("RequestGroup", status="draft", intent="plan", action=[{"title": "x"}]),
    ),
    (
        "prr-1",
        "ServiceRequest",
        resource("ServiceRequest", status="draft", intent="plan", subject=PATIENT, orderDetail=[TEXT]),
    ),
    # who, where, what is kept of it
    ("org-1", "Organization", resource("Organization", active=True)),
    (
        "org-2",
        "Organization.address[1]",
        resource("Organization", name="x", address=[{"use": "work"}, {"use": "home"}]),
    ),
    (
        "org-3",
        "Organization.telecom[0]",
        resource("Organization", name="x", telecom=[{"use": "home", "system": "phone", "value": "1"}]),
    ),
    ("grp-1", "Group", resource("Group", type="person", actual=False, member=[{"entity": PATIENT}])),
    ("lst-1", "List", resource("List", status="current", mode="working", emptyReason=TEXT, entry=[{"item": PATIENT}])),
    ("lst-2", "List", resource("List", status="current", mode="working", entry=[{"item": PATIENT, "deleted": True}])),
    ("lst-3", "List", resource("List", status="current", mode="snapshot", entry=[{"item": PATIENT, "date": "2020"}])),
    ("lnk-1", "Linkage", resource("Linkage", item=[{"type": "source", "resource": PATIENT}])),
    (
        "sev-1",
        "AuditEvent.entity[0]",
        resource(
            "AuditEvent",
            type={"code": "x"},
            recorded="2020-01-01T00:00:00Z",
            agent=[{"requestor": True}],
            source={"observer": PATIENT},
            entity=[{"name": "x", "query": "eA=="}],
        ),
    ),
    (
        "inv-1",
        "Task",
        resource(
            "Task",
            status="draft",
            intent="plan",
            authoredOn="2020-02-01T00:00:00Z",
            lastModified="2020-01-01T00:00:00Z",
        ),
    ),
    ("inv-1", "Parameters.parameter[0]", resource("Parameters", parameter=[{"name": "x"}])),
    (
        "inv-1",
        "Parameters.parameter[0].part[0]",
        resource(
            "Parameters", parameter=[{"name": "x", "part": [{"name": "y", "valueCode": "x", "resource": ACTIVITY}]}]
        ),
    ),
    # questionnaires
    ("que-1", "Questionnaire.item[0]", question(type="group")),
    (
        "que-1",
        "Questionnaire.item[0].item[0]",
        question(type="group", item=[{"linkId": "2", "type": "display", "item": [{"linkId": "3", "type": "string"}]}]),
    ),
    ("que-2", "Questionnaire", question(item=[{"linkId": "1", "type": "string"}])),
    ("que-3", "Questionnaire.item[0]", question(type="display", code=[{"code": "x"}])),
    (
        "que-4",
        "Questionnaire.item[0]",
        question(type="choice", answerValueSet="http://example.org/x", answerOption=[{"valueString": "x"}]),
    ),
    ("que-5", "Questionnaire.item[0]", question(type="boolean", answerOption=[{"valueString": "x"}])),
    ("que-6", "Questionnaire.item[0]", question(type="display", required=True)),
    (
        "que-7",
        "Questionnaire.item[0].enableWhen[0]",
        question(enableWhen=[{"question": "1", "operator": "exists", "answerString": "x"}]),
    ),
    ("que-8", "Questionnaire.item[0]", question(type="display", initial=[{"valueString": "x"}])),
    ("que-9", "Questionnaire.item[0]", question(type="display", readOnly=True)),
    ("que-10", "Questionnaire.item[0]", question(type="date", maxLength=5)),
    (
        "que-11",
        "Questionnaire.item[0]",
        question(type="choice", answerOption=[{"valueString": "x"}], initial=[{"valueString": "x"}]),
    ),
    (
        "que-12",
        "Questionnaire.item[0]",
        question(enableWhen=[{"question": "1", "operator": "=", "answerString": str(n)} for n in range(3)]),
    ),
    ("que-13", "Questionnaire.item[0]", question(initial=[{"valueString": "x"}, {"valueString": "y"}])),
    (
        "qrs-1",
        "QuestionnaireResponse.item[0]",
        resource(
            "QuestionnaireResponse",
            status="completed",
            item=[{"linkId": "1", "answer": [{"valueString": "x"}], "item": [{"linkId": "2"}]}],
        ),
    ),
    # terminology and definitions
    (
        "csd-1",
        "CodeSystem",
        resource("CodeSystem", status="draft", content="complete", concept=[{"code": "a", "concept": [{"code": "a"}]}]),
    ),
    (
        "vsd-1",
        "ValueSet.compose.include[0]",
        resource("ValueSet", status="draft", compose={"include": [{"version": "1"}]}),
    ),
    (
        "vsd-2",
        "ValueSet.compose.include[0]",
        resource("ValueSet", status="draft", compose={"include": [{"valueSet": ["x"], "concept": [{"code": "a"}]}]}),
    ),
    (
        "vsd-10",
        "ValueSet.expansion.contains[0]",
        resource("ValueSet", status="draft", expansion={"timestamp": "2020", "contains": [{"code": "a"}]}),
    ),
    (
        "cmd-1",
        "ConceptMap.group[0].element[0].target[0]",
        resource(
            "ConceptMap", status="draft", group=[{"element": [{"target": [{"code": "a", "equivalence": "inexact"}]}]}]
        ),
    ),
    (
        "cmd-2",
        "ConceptMap.group[0].unmapped",
        resource("ConceptMap", status="draft", group=[{"element": [{"code": "a"}], "unmapped": {"mode": "fixed"}}]),
    ),
    ("cpb-1", "CapabilityStatement", {name: one for name, one in CAPABILITY.items() if name != "rest"}),
    (
        "cpb-9",
        "CapabilityStatement.rest[0]",
        CAPABILITY | {"rest": [{"mode": "server", "resource": [{"type": "Patient"}, {"type": "Patient"}]}]},
    ),
    ("cpb-14", "CapabilityStatement", CAPABILITY | {"kind": "instance"}),
    ("cpb-16", "CapabilityStatement", CAPABILITY | {"software": {"name": "x"}}),
    (
        "spd-1",
        "SearchParameter",
        resource(
            "SearchParameter",
            url="http://example.org/x",
            name="X",
            status="draft",
            description="x",
            code="x",
            base=["Patient"],
            type="token",
            xpath="x",
        ),
    ),
    (
        "opd-2",
        "OperationDefinition.parameter[0]",
        resource(
            "OperationDefinition",
            name="X",
            status="draft",
            kind="operation",
            code="x",
            system=True,
            type=False,
            instance=False,
            parameter=[{"name": "x", "use": "in", "min": 0, "max": "1", "type": "code", "searchType": "token"}],
        ),
    ),
    (
        "nsd-1",
        "NamingSystem",
        resource(
            "NamingSystem",
            name="X",
            status="draft",
            kind="root",
            date="2020",
            uniqueId=[{"type": "uuid", "value": "x"}],
        ),
    ),
    (
        "ig-1",
        "ImplementationGuide.definition",
        resource(
            "ImplementationGuide",
            url="http://example.org/x",
            name="X",
            status="draft",
            packageId="x",
            fhirVersion=["4.0.1"],
            definition={
                "grouping": [{"id": "a", "name": "a"}],
                "resource": [{"reference": PATIENT, "groupingId": "b"}],
            },
        ),
    ),
    ("sdf-4", "StructureDefinition", {n: v for n, v in differential().items() if n != "baseDefinition"}),
    ("sdf-6", "StructureDefinition", DEFINITION),
    (
        "sdf-8",
        "StructureDefinition.snapshot",
        DEFINITION | {"snapshot": {"element": [ELEMENT, ELEMENT | {"id": "Y.a", "path": "Y.a"}]}},
    ),
    ("sdf-8a", "StructureDefinition.differential", differential(path="Y")),
    ("sdf-17", "StructureDefinition", DEFINITION | {"differential": {"element": [ELEMENT, ELEMENT | {"path": "X.a"}]}}),
    ("eld-2", "StructureDefinition.differential.element[0]", differential(min=2)),
    ("eld-3", "StructureDefinition.differential.element[0].max", differential(max="many")),
    ("eld-5", "StructureDefinition.differential.element[0]", differential(contentReference="#X", maxLength=5)),
    ("eld-13", "StructureDefinition.differential.element[0]", differential(path="X", type=[{"code": "code"}] * 2)),
    ("eld-16", "StructureDefinition.differential.element[0]", differential(sliceName="not a name")),
    ("eld-18", "StructureDefinition.differential.element[0]", differential(isModifier=True)),
    ("eld-19", "StructureDefinition.differential.element[0]", differential(path="X.a b")),
    (
        "tst-1",
        "TestScript.setup.action[0]",
        resource(
            "TestScript",
            url="http://example.org/x",
            name="X",
            status="draft",
            setup={"action": [{"extension": value(valueCode="x")["extension"]}]},
        ),
    ),
]
"""Rules of the definitions: (key, place, a resource that breaks it)."""


BROKEN_FOR_EVERY_WRITE: Final[list[tuple[str, Json]]] = [
    ("att-1", value(valueAttachment={"data": "eA=="})),
    ("bdl-1", resource("Bundle", type="collection", total=1)),
    (
        "bdl-3",
        resource("Bundle", type="collection", entry=[{"resource": ACTIVITY, "request": {"method": "GET", "url": "x"}}]),
    ),
    ("bdl-7", resource("Bundle", type="collection", entry=[{"fullUrl": "urn:x:1", "resource": ACTIVITY}] * 2)),
    ("bdl-9", resource("Bundle", type="document")),
    ("bdl-12", resource("Bundle", type="message", entry=[{"resource": ACTIVITY}])),
    ("cpt-2", value(valueContactPoint={"value": "x"})),
    ("dom-2", ACTIVITY | {"contained": [ALLERGY | {"id": "a", "contained": [ALLERGY | {"id": "b"}]}]}),
    ("dom-3", ACTIVITY | {"contained": [ALLERGY | {"id": "a"}]}),
    (
        "dom-4",
        ACTIVITY | {"contained": [ALLERGY | {"id": "a", "meta": {"versionId": "1"}}], "subject": {"reference": "#a"}},
    ),
    ("ele-1", value(valuePeriod={"id": "x"})),
    ("ext-1", value()),
    ("obs-3", ACTIVITY | {"referenceRange": [{"type": TEXT}]}),
    ("obs-6", ACTIVITY | {"valueString": "x", "dataAbsentReason": TEXT}),
    ("pat-1", resource("Patient", contact=[{"gender": "male"}])),
    ("per-1", value(valuePeriod={"start": "2020", "end": "2019"})),
    ("qty-3", value(valueQuantity={"code": "g"})),
    ("rat-1", value(valueRatio={"numerator": GRAM})),
    ("ref-1", value(valueReference={"reference": "#a"})),
    ("rng-2", value(valueRange={"low": GRAM | {"value": 5}, "high": GRAM})),
    (
        "txt-1",
        ACTIVITY
        | {"text": {"status": "generated", "div": '<div xmlns="http://www.w3.org/1999/xhtml"><script/></div>'}},
    ),
]
"""Rules that every write checks by plain code."""
