"""Provide Document Bundle [ITI-65]: what MHD and PDSm ask of the Bundle, beyond any transaction.

https://profiles.ihe.net/ITI/MHD/ITI-65.html - pure: every entry was read and is valid R4; a Binary's bytes are known by
their size and SHA-1. Errors name the entry (`Bundle.entry[2].resource.content[0].attachment.hash`) and the constraint.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import pybase64

from fhir_server.outcomes import Issue
from fhir_server.records.sharing.conformance import ENTRY_UUID, UNIQUE_ID, faults, identifiers
from fhir_server.records.sharing.profiles import BundleProfile, bundle_profiles, claimed, claims
from terminology import systems

Kind = Literal["submission_set", "folder", "document", "superseded", "content", "patient"]
METHODS: Final[Mapping[Kind, tuple[str, ...]]] = {
    "submission_set": ("POST",),
    "folder": ("POST", "PUT"),
    "document": ("POST",),
    "superseded": ("PATCH",),
    "content": ("POST", "PUT"),
    "patient": ("GET", "POST", "PUT"),
}


@dataclass(frozen=True, slots=True)
class Content:
    """The bytes of a Binary, as far as they are to be compared. `sha1` None: not known."""

    content_type: str
    size: int
    sha1: bytes | None


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of the Bundle. Of a PATCH, `resource` is what the patch makes."""

    number: int
    method: str
    resource: Mapping[str, Any]
    url: str
    """`Type`, or `Type/id` of an update."""
    full_url: str | None = None
    content: Content | None = None

    @property
    def place(self) -> str:
        return f"Bundle.entry[{self.number}]"

    @property
    def kind(self) -> Kind | None:
        """What it is to ITI-65; None for what MHD does not let in."""
        if self.method == "PATCH":
            return "superseded" if self.resource["resourceType"] == "DocumentReference" else None
        match self.resource["resourceType"]:
            case "List":
                return "folder" if _list_type(self.resource) == "folder" else "submission_set"
            case "DocumentReference":
                return "document"
            case "Binary":
                return "content"
            case "Patient":
                return "patient"
            case _:
                return None


def profile_of(bundle: Mapping[str, Any]) -> BundleProfile | None:
    """The profile of ITI-65 that a Bundle says it follows, the strictest where it names several; None for others."""
    named = [found for url in claims(bundle) if (found := bundle_profiles().get(url))]
    strictest = list(bundle_profiles()).index
    return max(named, key=lambda one: strictest(one.url), default=None)


def content_names(entries: Sequence[Entry]) -> dict[str, Entry]:
    """By what an attachment may name a Binary of the Bundle: its fullUrl, or `Binary/id` where it is put there."""
    found: dict[str, Entry] = {}
    for entry in entries:
        if entry.kind == "content":
            found.update(dict.fromkeys(filter(None, (entry.full_url, entry.url if "/" in entry.url else None)), entry))
    return found


def errors(profile: BundleProfile, entries: Sequence[Entry], elsewhere: Mapping[str, Content | None]) -> list[Issue]:
    """Everything for which the Bundle is refused.

    `elsewhere`: the Binaries that are here already, by `Binary/id`; None for one that is not to be compared.
    """
    found = [*_composition(profile, entries)]
    for entry in entries:
        found.extend(_conformance(profile, entry))
    found += [*_membership(entries), *_one_patient(entries), *_unique(entries)]
    contents = dict(elsewhere)
    contents.update((name, one.content) for name, one in content_names(entries).items() if one.content)
    for entry in entries:
        if entry.kind == "document":
            found.extend(_attached(profile, entry, contents))
            found.extend(_replacing(profile, entry, entries))
        if entry.kind == "superseded" and entry.resource.get("status") != "superseded":
            text = "the PATCH of a replaced document sets its status to superseded"
            found.append(Issue("error", "business-rule", f"IHE.MHD.Patch.Parameters: {text}", entry.place))
    return found


def warnings(entry: Entry) -> list[Issue]:
    """What does not refuse an entry, and its source should know."""
    found: list[Issue] = []
    if entry.kind == "submission_set":
        recipients = {systems.MHD_INTENDED_RECIPIENT, systems.PDSM_INTENDED_RECIPIENT}
        if any(one.get("url") in recipients for one in entry.resource.get("extension", ())):
            text = "UnavailableRecipient: this server keeps the documents and tells no intendedRecipient"
            found.append(Issue("warning", "not-supported", text, f"{entry.place}.resource.extension"))
    if entry.kind == "document" and "type" not in entry.resource.get("masterIdentifier", {}):
        text = "IHE.MHD.UniqueIdIdentifier: masterIdentifier has no type uniqueId"
        found.append(Issue("warning", "required", text, f"{entry.place}.resource.masterIdentifier.type"))
    return found


def business_identifier(resource: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """What makes a document or list unique: masterIdentifier; of a List its uniqueId, without one its entryUUID."""
    if resource["resourceType"] == "DocumentReference":
        return resource.get("masterIdentifier")
    for kind in (UNIQUE_ID, ENTRY_UUID):
        if found := identifiers(resource, kind, ""):
            return found[0].value
    return None


def replaced_by(resource: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The References to the documents that this one replaces."""
    return [one["target"] for one in resource.get("relatesTo", ()) if one.get("code") == "replaces"]


def attachment_faults(attachment: Mapping[str, Any], content: Content, place: str) -> Iterator[Issue]:
    """What an attachment says of its bytes, against the bytes: size, SHA-1 and media type."""
    size, sha1 = attachment.get("size"), attachment.get("hash")
    if size is not None and size != content.size:
        yield Issue(
            "error", "value", f"XDSRepositoryMetadataError: the Binary has {content.size} bytes", f"{place}.size"
        )
    if sha1 is not None and content.sha1 is not None and sha1 != pybase64.b64encode(content.sha1).decode():
        text = "XDSRepositoryMetadataError: this is not the base64 of the SHA-1 of the Binary's bytes"
        yield Issue("error", "value", text, f"{place}.hash")
    if _media_type(str(attachment.get("contentType", ""))) != _media_type(content.content_type):
        text = "XDSRepositoryMetadataError: the Binary is of another contentType"
        yield Issue("error", "value", text, f"{place}.contentType")


def _composition(profile: BundleProfile, entries: Sequence[Entry]) -> Iterator[Issue]:
    """MHD closes the list of entries: one lot de soumission, documents, contents, classeurs, at most one Patient."""
    for entry in entries:
        kind = entry.kind
        if kind is None or entry.method not in METHODS[kind]:
            text = f"{profile.name}: no entry of ITI-65 is a {entry.method} of {entry.resource['resourceType']}"
            if entry.resource["resourceType"] == "Bundle":
                text = "FHIRDocumentNotSupported: send the FHIR document as a Binary"
            yield Issue("error", "not-supported", text, entry.place)
    counts = {kind: sum(entry.kind == kind for entry in entries) for kind in METHODS}
    if counts["submission_set"] != 1:
        text = f"{profile.name}: there is exactly one List of code submissionset, not {counts['submission_set']}"
        yield Issue("error", "structure", text, "Bundle.entry")
    if counts["patient"] > 1:
        yield Issue("error", "structure", f"{profile.name}: there is at most one Patient", "Bundle.entry")
    if counts["document"] < profile.least_documents:
        yield Issue("error", "required", f"{profile.name}: there is at least one DocumentReference", "Bundle.entry")


def _conformance(profile: BundleProfile, entry: Entry) -> Iterator[Issue]:
    """An entry against the profile of the Bundle's level, and against those that it claims beyond it."""
    level = {"submission_set": profile.submission_set, "document": profile.document, "folder": profile.folder}
    asked = level.get(entry.kind or "")
    if asked is None:
        return
    said: set[tuple[str, str | None]] = set()
    for one in (asked, *(other for other in claimed(entry.resource) if other != asked)):
        for fault in faults(entry.resource, one, f"{entry.place}.resource"):
            if (fault.code, fault.expression) not in said:
                said.add((fault.code, fault.expression))
                yield fault
    if entry.kind != "document" and entry.kind is not None and _list_type(entry.resource) is None:
        text = f"{asked.name}: code is submissionset or folder of {systems.MHD_LIST_TYPES}"
        yield Issue("error", "code-invalid", text, f"{entry.place}.resource.code")


def _membership(entries: Sequence[Entry]) -> Iterator[Issue]:
    """Every new document and classeur is an item of the lot de soumission, and its items are such."""
    sets = [entry for entry in entries if entry.kind == "submission_set"]
    items = [
        (f"{entry.place}.resource.entry[{n}].item", str(one["item"].get("reference", "")))
        for entry in sets
        for n, one in enumerate(entry.resource.get("entry", ()))
    ]
    here = {entry.full_url: entry for entry in entries if entry.full_url}
    for place, text in items:
        if text.startswith("urn:") and (text not in here or here[text].kind not in ("document", "folder")):
            yield Issue("error", "value", "IHE.MHD SubmissionSet: no document or folder of the Bundle is this", place)
    named = {text for _, text in items}
    for entry in entries:
        if sets and entry.kind in ("document", "folder") and not {entry.full_url, entry.url} & named:
            text = "IHE.MHD SubmissionSet: this entry is not an item of the SubmissionSet"
            yield Issue("error", "business-rule", text, entry.place)


def _one_patient(entries: Sequence[Entry]) -> Iterator[Issue]:
    """XDSPatientIdDoesNotMatch: lot de soumission, documents and classeurs are about one person."""
    first: object = None
    for entry in entries:
        subject = entry.resource.get("subject")
        if entry.kind not in ("submission_set", "document", "folder") or not subject:
            continue
        key = subject.get("reference") or tuple(subject.get("identifier", {}).get(name) for name in ("system", "value"))
        first = first or key
        if key != first:
            text = "XDSPatientIdDoesNotMatch: the entries of the Bundle are about one Patient"
            yield Issue("error", "business-rule", text, f"{entry.place}.resource.subject")


def _unique(entries: Sequence[Entry]) -> Iterator[Issue]:
    """No identifier of the Bundle's documents and lists stands twice."""
    seen: set[tuple[object, object]] = set()
    for entry in entries:
        if entry.kind not in ("submission_set", "document", "folder"):
            continue
        place = f"{entry.place}.resource"
        master = entry.resource.get("masterIdentifier")
        own = {(one.get("system"), one.get("value")) for one in entry.resource.get("identifier", ())}
        own |= {(master.get("system"), master.get("value"))} if master else set()
        if own & seen:
            text = "XDSRegistryDuplicateUniqueIdInMessage: another entry has the same identifier"
            yield Issue("error", "duplicate", text, f"{place}.{'masterIdentifier' if master else 'identifier'}")
        seen |= own


def _attached(profile: BundleProfile, entry: Entry, contents: Mapping[str, Content | None]) -> Iterator[Issue]:
    """The url of an attachment names a Binary of the Bundle (or one that is here), whose bytes it describes."""
    for n, content in enumerate(entry.resource.get("content", ())):
        attachment, place = content["attachment"], f"{entry.place}.resource.content[{n}].attachment"
        url = str(attachment.get("url", ""))
        if url in contents:
            known = contents[url]
            yield from attachment_faults(attachment, known, place) if known else ()
        elif url.startswith(("urn:", "Binary/")):
            text = "XDSMissingDocument: no Binary of the Bundle or of this server has this url"
            yield Issue("error", "not-found", text, f"{place}.url")
        elif url and profile.only_binaries:
            yield Issue("error", "value", "constr-bind-attachmenturl: the url leads to a Binary", f"{place}.url")


def _replacing(profile: BundleProfile, entry: Entry, entries: Sequence[Entry]) -> Iterator[Issue]:
    """What is replaced was there before; in PDSm a document replaces one other, and that is its only relation."""
    targets = replaced_by(entry.resource)
    if not targets:
        return
    place = f"{entry.place}.resource.relatesTo"
    if profile.replaces_one and len(entry.resource["relatesTo"]) > 1:
        text = "constr-bind-relatesTo: a document that replaces another has no other relatesTo"
        yield Issue("error", "structure", text, place)
    here = {one.full_url for one in entries if one.full_url}
    if any(target.get("reference") in here for target in targets):
        yield Issue("error", "business-rule", "a document of the same Bundle cannot be replaced", place)


def _list_type(resource: Mapping[str, Any]) -> str | None:
    codings = resource.get("code", {}).get("coding", ())
    codes = [one.get("code") for one in codings if one.get("system") == systems.MHD_LIST_TYPES]
    return next((code for code in codes if code in ("submissionset", "folder")), None)


def _media_type(text: str) -> str:
    return text.partition(";")[0].strip().lower()
