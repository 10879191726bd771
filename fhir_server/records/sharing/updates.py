"""What a PATCH may change of a resource that follows PDSm: status, confidentiality, archiving.

https://interop.esante.gouv.fr/ig/fhir/pdsm/st_maj.html - anything else is refused with 405, as the guide has it.
"""

from collections.abc import Mapping
from typing import Any

from fhir_server.outcomes import Issue, MethodNotAllowed
from fhir_server.records.sharing.profiles import claimed, extension_urls


def check_patch(before: Mapping[str, Any], after: Mapping[str, Any]) -> None:
    """Raises MethodNotAllowed, which names every element that is not to be patched and those that are."""
    kind = before["resourceType"]
    for profile in claimed(before):
        if profile.patchable is None:
            continue
        free = {path for path in profile.patchable if "[" not in path}
        urls = {extension_urls()[path.partition("[")[2].rstrip("]")] for path in profile.patchable if "[" in path}
        changed = [
            name for name in sorted({*before, *after} - free) if _kept(before, name, urls) != _kept(after, name, urls)
        ]
        if changed:
            text = f"A PATCH of a {kind} of {profile.name} changes {', '.join(profile.patchable)} only"
            raise MethodNotAllowed(issues=[Issue("error", "not-supported", text, f"{kind}.{one}") for one in changed])


def _kept(resource: Mapping[str, Any], name: str, urls: set[str]) -> Any:
    """An element that has to stay as it is; of the extensions, those that may change are left out."""
    value = resource.get(name)
    if name.lstrip("_") != "extension":
        return value
    return [one for one in value or () if not (isinstance(one, dict) and one.get("url") in urls)]
