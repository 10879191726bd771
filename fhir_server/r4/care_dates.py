"""When the care took place that a resource tells of, as opposed to when it was written down.

https://hl7.org/fhir/R4/patient-operation-everything.html - "The date range relates to care dates, not record currency
dates". The parameters are those on the elements that R4's own mapping to the five Ws calls done, init or planned
(https://hl7.org/fhir/R4/fivews.html). A type that is not here lasts, as an allergy or a coverage does, or says nothing
of the time of care: a range of dates does not leave it out.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

CARE_DATES: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType({
    "AdverseEvent": ("date",),
    "Appointment": ("date",),
    "CarePlan": ("date",),
    "CareTeam": ("date",),
    "ChargeItem": ("occurrence",),
    "ClinicalImpression": ("date",),
    "Communication": ("received", "sent"),
    "CommunicationRequest": ("occurrence",),
    "Composition": ("date", "period"),
    "DeviceRequest": ("event-date",),
    "DiagnosticReport": ("date",),
    "DocumentManifest": ("created",),
    "DocumentReference": ("period",),
    "Encounter": ("date",),
    "EpisodeOfCare": ("date",),
    "Flag": ("date",),
    "ImagingStudy": ("started",),
    "Immunization": ("date",),
    "ImmunizationEvaluation": ("date",),
    "Invoice": ("date",),
    "MeasureReport": ("period",),
    "Media": ("created",),
    "MedicationAdministration": ("effective-time",),
    "MedicationDispense": ("whenhandedover", "whenprepared"),
    "MedicationRequest": ("authoredon",),
    "MedicationStatement": ("effective",),
    "NutritionOrder": ("datetime",),
    "Observation": ("date",),
    "Procedure": ("date",),
    "Provenance": ("when",),
    "QuestionnaireResponse": ("authored",),
    "RequestGroup": ("authored",),
    "ResearchSubject": ("date",),
    "RiskAssessment": ("date",),
    "ServiceRequest": ("occurrence",),
    "Specimen": ("collected",),
    "SupplyRequest": ("date",),
    "VisionPrescription": ("datewritten",),
})  # fmt: skip
"""Resource type -> its date parameters on the time of care."""
