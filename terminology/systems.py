"""Every URI and OID that this project writes or reads, once.

CI-SIS and NOS (https://esante.gouv.fr/produits-services/mos-nos), hl7.fhir.fr.core 2.2.0, IHE MHD 4.2.3, IHE
BALP 1.1, PDSm 3.1.1. A name without suffix is a FHIR `system`, `url` or canonical; `*_OID` is the bare OID
used by CDA, XDS and HL7 v2.
"""

from typing import Final

# --- Our own namespace. A namespace only: stable names that nobody is asked to resolve.
OWN: Final = "https://dmst-fhir.org/ns"
OPERATION_UPLOAD: Final = f"{OWN}/OperationDefinition/Binary-upload"

NUMERO_DOSSIER: Final = f"{OWN}/identifier/numero-dossier"
"""Number of the worker's folder in the register of the service; printed as barcode on the cover sheet."""
SCAN_LOT: Final = f"{OWN}/identifier/scan-lot"
SCAN_FOLDER: Final = f"{OWN}/identifier/scan-folder"
"""One folder of one scan lot: `<lot>/<barcode>`."""
SCAN_DOCUMENT: Final = f"{OWN}/identifier/scan-document"
"""One document of one scan lot: `<lot>/<document id>`."""
CARTON: Final = f"{OWN}/identifier/carton"
CONVENTION: Final = f"{OWN}/identifier/convention-de-numerisation"
SCANNER: Final = f"{OWN}/identifier/scanner"
SCAN_OPERATOR: Final = f"{OWN}/identifier/scan-operator"
ACCESS_CIRCUMSTANCE: Final = f"{OWN}/CodeSystem/access-circumstance"
OPERATION_DECLARE_ACCESS: Final = f"{OWN}/OperationDefinition/declare-access"
CENTRE: Final = f"{OWN}/identifier/centre"
CLIENT: Final = f"{OWN}/identifier/client"
USER: Final = f"{OWN}/identifier/user"
SHA256: Final = f"{OWN}/identifier/sha256"
"""A file designated by the SHA-256 of its bytes, 64 lower-case hexadecimal digits."""
MESSAGE: Final = f"{OWN}/identifier/message"
DELIVERY: Final = f"{OWN}/identifier/delivery"
DESTROYED: Final = f"{OWN}/identifier/destroyed"
"""A resource that was destroyed at the end of its retention, by the name that it had: `DocumentReference/ID`."""
REQUEST: Final = f"{OWN}/identifier/request"

DMST_CATEGORY: Final = f"{OWN}/CodeSystem/dmst-category"
"""The seven headings of the DMST, code du travail R4624-45-4: codes `1` to `7`."""
DMST_NOMENCLATURE: Final = f"{OWN}/CodeSystem/dmst-nomenclature"
LIST_TYPE: Final = f"{OWN}/CodeSystem/list-type"
FOLDER_TYPE: Final = f"{OWN}/CodeSystem/folder-type"
ATTACHMENT_REASON: Final = f"{OWN}/CodeSystem/attachment-reason"
MATCH_REASON: Final = f"{OWN}/CodeSystem/match-reason"
"""Why a match is not certain: the guards of fhir_server/linkage/guards.py."""
EXTENSION_MATCH_REASON: Final = f"{OWN}/StructureDefinition/match-reason"
"""On Bundle.entry.search: a Coding of `MATCH_REASON`."""
EXTENSION_MATCH_STEPS: Final = f"{OWN}/StructureDefinition/match-steps"
"""On Bundle.entry.search, for reviewers: how much each trait speaks for it (`odds`, and a `step` for each field)."""
REVIEW_REASON: Final = f"{OWN}/CodeSystem/review-reason"
"""Why a person decided as he did: fhir_server/identity/review.toml."""
DELIVERY_STATE: Final = f"{OWN}/CodeSystem/delivery-state"
DELIVERY_REASON: Final = f"{OWN}/CodeSystem/delivery-reason"
DELIVERY_TASK: Final = f"{OWN}/CodeSystem/delivery-task"
CALLER_ROLE: Final = f"{OWN}/CodeSystem/caller-role"
ACCESS_PURPOSE: Final = f"{OWN}/CodeSystem/access-purpose"
RETENTION_CLASS: Final = f"{OWN}/CodeSystem/retention-class"
"""Why a document is kept, and for how long: terminology/tables/retention_class.json."""
RETENTION_POLICY: Final = f"{OWN}/retention"
"""Followed by `/` and the article of the code du travail that a destruction obeys."""
SECURITY_TAG: Final = f"{OWN}/CodeSystem/security-tag"
"""Tags of `meta.security` that our access rules read, such as `assistant-view`."""

REDACTION_REASON: Final = f"{OWN}/CodeSystem/redaction-reason"
"""Why pages were taken out of a document: `mappings.redaction.REASONS`."""

EXTENSION_REMOVED_PAGE: Final = f"{OWN}/StructureDefinition/removed-page"
"""On Provenance.entity: number of a page of the source that is not in the target (valuePositiveInt)."""
EXTENSION_CONSENT_INFORMATION: Final = f"{OWN}/StructureDefinition/consent-information"
"""On Consent: who informed the worker of his right (`by`, valueReference) and when (`at`, valueDateTime). R4's
`performer` is who consents, `verification` whether that was checked: neither says who informed.
"""
EXTENSION_SHA256: Final = f"{OWN}/StructureDefinition/sha256"
"""On Attachment: SHA-256 of the raw bytes, 64 lower-case hexadecimal digits (valueString). R4 `hash` is
SHA-1.
"""
EXTENSION_LAST_VISIT: Final = f"{OWN}/StructureDefinition/last-visit"
"""On Patient: day of the last visit in this service (valueDate); the forty years of R4624-45-9 run from it.
"""
PROVENANCE_PATIENT: Final = "http://hl7.org/fhir/5.0/StructureDefinition/extension-Provenance.patient"
"""On Provenance: in whose record it is (valueReference). R4 has no such element; R5 does."""
EXTENSION_PAGES: Final = f"{OWN}/StructureDefinition/pages"
"""On Attachment: number of pages (valuePositiveInt). R4 has no such element; R5 does."""

OPERATION_INDEX_STATUS: Final = f"{OWN}/OperationDefinition/index-status"
"""On a SearchParameter: how far it is indexed."""
OPERATION_REDACT: Final = f"{OWN}/OperationDefinition/DocumentReference-redact"
OPERATION_TRANSFER: Final = f"{OWN}/OperationDefinition/Patient-transfer"

# --- HL7, IETF, LOINC, DICOM
URI: Final = "urn:ietf:rfc:3986"
LOINC: Final = "http://loinc.org"
LOINC_OID: Final = "2.16.840.1.113883.6.1"
SNOMED_CT: Final = "http://snomed.info/sct"
SNOMED_CT_OID: Final = "2.16.840.1.113883.6.96"
ICD_10: Final = "http://hl7.org/fhir/sid/icd-10"
ICD_10_OID: Final = "2.16.840.1.113883.6.3"
UCUM: Final = "http://unitsofmeasure.org"
DICOM: Final = "http://dicom.nema.org/resources/ontology/DCM"
V2_0131: Final = "http://terminology.hl7.org/CodeSystem/v2-0131"
V2_0203: Final = "http://terminology.hl7.org/CodeSystem/v2-0203"
CONFIDENTIALITY: Final = "http://terminology.hl7.org/CodeSystem/v3-Confidentiality"
CONFIDENTIALITY_OID: Final = "2.16.840.1.113883.5.25"
NULL_FLAVOR: Final = "http://terminology.hl7.org/CodeSystem/v3-NullFlavor"
PARTICIPATION_TYPE: Final = "http://terminology.hl7.org/CodeSystem/v3-ParticipationType"
ACT_CODE: Final = "http://terminology.hl7.org/CodeSystem/v3-ActCode"
ACT_REASON: Final = "http://terminology.hl7.org/CodeSystem/v3-ActReason"
OBSERVATION_VALUE: Final = "http://terminology.hl7.org/CodeSystem/v3-ObservationValue"
ISO_21089: Final = "http://terminology.hl7.org/CodeSystem/iso-21089-lifecycle"
PROVENANCE_PARTICIPANT: Final = "http://terminology.hl7.org/CodeSystem/provenance-participant-type"
SIGNATURE_TYPE: Final = "urn:iso-astm:E1762-95:2013"
AUDIT_EVENT_TYPE: Final = "http://terminology.hl7.org/CodeSystem/audit-event-type"
AUDIT_ENTITY_TYPE: Final = "http://terminology.hl7.org/CodeSystem/audit-entity-type"
AUDIT_OBJECT_ROLE: Final = "http://terminology.hl7.org/CodeSystem/object-role"
SECURITY_ROLE: Final = "http://terminology.hl7.org/CodeSystem/extra-security-role-type"
AUDIT_SOURCE_TYPE: Final = "http://terminology.hl7.org/CodeSystem/security-source-type"
RESTFUL_INTERACTION: Final = "http://hl7.org/fhir/restful-interaction"
BIRTH_PLACE: Final = "http://hl7.org/fhir/StructureDefinition/patient-birthPlace"
MATCH_GRADE: Final = "http://hl7.org/fhir/StructureDefinition/match-grade"
LANGUAGE: Final = "urn:ietf:bcp:47"
CONCEPT_PROPERTIES: Final = "http://hl7.org/fhir/concept-properties"
"""Followed by `#` and the name of a property that means the same in every code system."""
DESIGNATION_USAGE: Final = "http://terminology.hl7.org/CodeSystem/designation-usage"
TERM_MAINTENANCE: Final = "http://terminology.hl7.org/CodeSystem/hl7TermMaintInfra"
VALUE_SET_SUPPLEMENT: Final = "http://hl7.org/fhir/StructureDefinition/valueset-supplement"
VALUE_SET_UNCLOSED: Final = "http://hl7.org/fhir/StructureDefinition/valueset-unclosed"
VALUE_SET_TOO_COSTLY: Final = "http://hl7.org/fhir/StructureDefinition/valueset-toocostly"

# --- IHE
MHD: Final = "https://profiles.ihe.net/ITI/MHD"
MHD_IDENTIFIER_TYPE: Final = f"{MHD}/CodeSystem/IHE.MHD.MHDIdentifierType"
MHD_LIST_TYPES: Final = f"{MHD}/CodeSystem/MHDlistTypes"
MHD_DESIGNATION_TYPE: Final = f"{MHD}/StructureDefinition/ihe-designationType"
MHD_SOURCE_ID: Final = f"{MHD}/StructureDefinition/ihe-sourceId"
MHD_AUTHOR_ORG: Final = f"{MHD}/StructureDefinition/ihe-authorOrg"
MHD_INTENDED_RECIPIENT: Final = f"{MHD}/StructureDefinition/ihe-intendedRecipient"
MHD_PATCH_PARAMETERS: Final = f"{MHD}/StructureDefinition/IHE.MHD.Patch.Parameters"
MHD_MINIMAL_DOCUMENT: Final = f"{MHD}/StructureDefinition/IHE.MHD.Minimal.DocumentReference"
MHD_UNCONTAINED_DOCUMENT: Final = f"{MHD}/StructureDefinition/IHE.MHD.UnContained.Comprehensive.DocumentReference"
MHD_COMPREHENSIVE_DOCUMENT: Final = f"{MHD}/StructureDefinition/IHE.MHD.Comprehensive.DocumentReference"
MHD_GENERATE_METADATA: Final = f"{MHD}/OperationDefinition/generate-metadata"
MHD_MINIMAL_SUBMISSION_SET: Final = f"{MHD}/StructureDefinition/IHE.MHD.Minimal.SubmissionSet"
MHD_SIMPLIFIED_PUBLISH: Final = f"{MHD}/StructureDefinition/IHE.MHD.SimplifiedPublish.DocumentReference"
PDQM_MATCH: Final = "https://profiles.ihe.net/ITI/PDQm/OperationDefinition/PDQmMatch"
PIXM_PIX: Final = "https://profiles.ihe.net/ITI/PIXm/OperationDefinition/IHE.PIXm.pix"
PIXM_MANAGER: Final = "https://profiles.ihe.net/ITI/PIXm/CapabilityStatement/IHE.PIXm.Manager"
IHE_EVENT_TYPE: Final = "urn:ihe:event-type-code"
"""Transactions of IHE as subtypes of an AuditEvent."""
BALP: Final = "https://profiles.ihe.net/ITI/BALP"
BALP_PROFILE: Final = f"{BALP}/StructureDefinition/IHE.BasicAudit."
BALP_AUTHZ: Final = f"{BALP}/CodeSystem/AuthZsubType"
BALP_ENTITY_TYPE: Final = f"{BALP}/CodeSystem/BasicAuditEntityType"
XDS_FORMAT_OID: Final = "1.3.6.1.4.1.19376.1.2.3"

# --- PDSm (Partage de documents de sante en mobilite)
PDSM: Final = "https://interop.esante.gouv.fr/ig/fhir/pdsm/StructureDefinition"
PDSM_DOCUMENT_REFERENCE: Final = f"{PDSM}/pdsm-comprehensive-document-reference"
PDSM_SUBMISSION_SET: Final = f"{PDSM}/pdsm-submissionset-comprehensive"
PDSM_FOLDER: Final = f"{PDSM}/pdsm-folder-comprehensive"
PDSM_PROVIDE_BUNDLE: Final = f"{PDSM}/pdsm-comprehensive-provide-document-bundle"
PDSM_SIMPLIFIED_PUBLISH: Final = f"{PDSM}/pdsm-simplified-publish"
PDSM_IS_ARCHIVED: Final = f"{PDSM}/pdsm-ext-is-archived"
PDSM_INTENDED_RECIPIENT: Final = f"{PDSM}/pdsm-ext-intended-recipient"

# --- fr-core
FR_CORE: Final = "https://hl7.fr/ig/fhir/core"
FR_CORE_PATIENT: Final = f"{FR_CORE}/StructureDefinition/fr-core-patient"
FR_CORE_PATIENT_INS: Final = f"{FR_CORE}/StructureDefinition/fr-core-patient-ins"
FR_CORE_ORGANIZATION: Final = f"{FR_CORE}/StructureDefinition/fr-core-organization"
FR_CORE_PRACTITIONER: Final = f"{FR_CORE}/StructureDefinition/fr-core-practitioner"
FR_CORE_PRACTITIONER_ROLE: Final = f"{FR_CORE}/StructureDefinition/fr-core-practitioner-role"
FR_CORE_IDENTITY_RELIABILITY: Final = f"{FR_CORE}/StructureDefinition/fr-core-identity-reliability"
FR_CORE_BIRTH_GIVEN_NAMES: Final = f"{FR_CORE}/StructureDefinition/fr-core-patient-birth-list-given-name"
FR_CORE_INSEE_CODE: Final = f"{FR_CORE}/StructureDefinition/fr-core-address-insee-code"
FR_CORE_V2_0203: Final = f"{FR_CORE}/CodeSystem/fr-core-cs-v2-0203"
FR_CORE_V2_0445: Final = f"{FR_CORE}/CodeSystem/fr-core-cs-v2-0445"
"""Identity status as published (2.1, 2.2.0): PROV, VALI ... and DOUT, FICT as further instances. This is what
we write.
"""
FR_CORE_IDENTITY_STATUS: Final = f"{FR_CORE}/CodeSystem/fr-core-cs-identity-status"
"""Identity status of the later drafts: PROV, RECUP, VALI, QUAL. Read, never written."""
FR_CORE_METHOD_COLLECTION: Final = f"{FR_CORE}/CodeSystem/fr-core-cs-method-collection"
FR_CORE_IDENTITY_COMMENT: Final = f"{FR_CORE}/CodeSystem/fr-core-cs-identity-status-comment"

# --- INS, Referentiel INS v2.1. The matricule never travels without its OID.
INS_NIR_OID: Final = "1.2.250.1.213.1.4.8"
INS_NIA_OID: Final = "1.2.250.1.213.1.4.9"
INS_TEST_OID: Final = "1.2.250.1.213.1.4.10"
INS_DEMO_OID: Final = "1.2.250.1.213.1.4.11"
INS_NIR: Final = f"urn:oid:{INS_NIR_OID}"
INS_NIA: Final = f"urn:oid:{INS_NIA_OID}"
INS_TEST: Final = f"urn:oid:{INS_TEST_OID}"
INS_DEMO: Final = f"urn:oid:{INS_DEMO_OID}"

# --- Professionals and organisations
PS_ID_NAT: Final = "urn:oid:1.2.250.1.71.4.2.1"
PS_ID_NAT_OID: Final = "1.2.250.1.71.4.2.1"
STRUCT_ID_NAT: Final = "urn:oid:1.2.250.1.71.4.2.2"
STRUCT_ID_NAT_OID: Final = "1.2.250.1.71.4.2.2"
RPPS: Final = "https://rpps.esante.gouv.fr"
SIRENE: Final = "https://sirene.fr"
FINESS: Final = "https://finess.esante.gouv.fr"

# --- NOS: code systems (TRE) and value sets (JDV)
NOS: Final = "https://mos.esante.gouv.fr/NOS"
TRE_A00: Final = f"{NOS}/TRE_A00-ProducteurDocNonPS/FHIR/TRE-A00-ProducteurDocNonPS"
TRE_A00_OID: Final = "1.2.250.1.213.1.1.4.6"
TRE_A01: Final = f"{NOS}/TRE_A01-CadreExercice/FHIR/TRE-A01-CadreExercice"
TRE_A01_OID: Final = "1.2.250.1.213.1.1.4.9"
TRE_A02: Final = f"{NOS}/TRE_A02-ProfessionSavFaire-CISIS/FHIR/TRE-A02-ProfessionSavFaire-CISIS"
TRE_A02_OID: Final = "1.2.250.1.213.1.1.4.5"
TRE_A03: Final = f"{NOS}/TRE_A03-ClasseDocument/FHIR/TRE-A03-ClasseDocument"
TRE_A03_OID: Final = "1.2.250.1.213.1.1.4.1"
TRE_A05: Final = f"{NOS}/TRE_A05-TypeDocComplementaire/FHIR/TRE-A05-TypeDocComplementaire"
TRE_A05_OID: Final = "1.2.250.1.213.1.1.4.12"
TRE_A06: Final = f"{NOS}/TRE_A06-FormatCodeComplementaire/FHIR/TRE-A06-FormatCodeComplementaire"
TRE_A06_OID: Final = "1.2.250.1.213.1.1.4.2.282"
TRE_A07: Final = f"{NOS}/TRE_A07-StatutVisibiliteDocument/FHIR/TRE-A07-StatutVisibiliteDocument"
TRE_A07_OID: Final = "1.2.250.1.213.1.1.4.13"
TRE_A11: Final = f"{NOS}/TRE_A11-IheFormatCode/FHIR/TRE-A11-IheFormatCode"
TRE_R02: Final = f"{NOS}/TRE_R02-SecteurActivite/FHIR/TRE-R02-SecteurActivite"
TRE_R02_OID: Final = "1.2.250.1.71.4.2.4"
TRE_R13: Final = f"{NOS}/TRE_R13-CommuneOM/FHIR/TRE-R13-CommuneOM"
TRE_R209: Final = f"{NOS}/TRE_R209-TypeActivite/FHIR/TRE-R209-TypeActivite"
TRE_R209_OID: Final = "1.2.250.1.213.2.2"
JDV_J02: Final = f"{NOS}/JDV_J02-XdsHealthcareFacilityTypeCode-CISIS/FHIR/JDV-J02-XdsHealthcareFacilityTypeCode-CISIS"
JDV_J04: Final = f"{NOS}/JDV_J04-XdsPracticeSettingCode-CISIS/FHIR/JDV-J04-XdsPracticeSettingCode-CISIS"
JDV_J06: Final = f"{NOS}/JDV_J06-XdsClassCode-CISIS/FHIR/JDV-J06-XdsClassCode-CISIS"
JDV_J07: Final = f"{NOS}/JDV_J07-XdsTypeCode-CISIS/FHIR/JDV-J07-XdsTypeCode-CISIS"
JDV_J08: Final = f"{NOS}/JDV_J08-XdsConfidentialityCode-CISIS/FHIR/JDV-J08-XdsConfidentialityCode-CISIS"
JDV_J10: Final = f"{NOS}/JDV_J10-XdsFormatCode-CISIS/FHIR/JDV-J10-XdsFormatCode-CISIS"

OID_OF: Final[dict[str, str]] = {
    LOINC: LOINC_OID,
    SNOMED_CT: SNOMED_CT_OID,
    ICD_10: ICD_10_OID,
    CONFIDENTIALITY: CONFIDENTIALITY_OID,
    TRE_A00: TRE_A00_OID,
    TRE_A01: TRE_A01_OID,
    TRE_A02: TRE_A02_OID,
    TRE_A03: TRE_A03_OID,
    TRE_A05: TRE_A05_OID,
    TRE_A06: TRE_A06_OID,
    TRE_A07: TRE_A07_OID,
    TRE_A11: XDS_FORMAT_OID,
    TRE_R02: TRE_R02_OID,
    TRE_R209: TRE_R209_OID,
}
"""FHIR system -> OID, for CDA and XDS."""

_SYSTEM_OF: Final = {oid: system for system, oid in OID_OF.items()}


def system_of(oid: str) -> str:
    """The FHIR system of a code system that CDA or XDS names by its OID; `urn:oid:...` where it has no other name."""
    return _SYSTEM_OF.get(oid, f"urn:oid:{oid}")
