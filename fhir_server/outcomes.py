"""The closed family of failures: each knows its HTTP status and its R4 issue code.

https://hl7.org/fhir/R4/valueset-issue-type.html - a test checks that every code below is one of its 31.
Nothing here, and nothing raised from here, may hold a name, an INS, a birth date or document content.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, Self

Severity = Literal["fatal", "error", "warning", "information"]


@dataclass(frozen=True, slots=True)
class Issue:
    """One line of an OperationOutcome: what is wrong, how bad, and where (FHIRPath)."""

    severity: Severity
    code: str
    diagnostics: str
    expression: str | None = None
    location: tuple[int, int] | None = None
    """Line and column, in a text of a language of its own (GraphQL)."""
    reason: str | None = None
    """A stable code of ours that says more than `code`: of `systems.DELIVERY_REASON`."""


class Failure(Exception):
    """A request we understood and will not fulfil."""

    status: ClassVar[int] = 500
    code: ClassVar[str] = "exception"

    def __init__(self, diagnostics: str = "", *, expression: str | None = None, issues: Sequence[Issue] = ()) -> None:
        super().__init__(diagnostics or (self.__doc__ or "").strip().splitlines()[0])
        self.diagnostics = str(self)
        self.issues: tuple[Issue, ...] = tuple(issues) or (Issue("error", self.code, self.diagnostics, expression),)

    def within(self, entry: str | None) -> Self:
        """The same failure, of one entry of a Bundle: each issue names it, as in `Bundle.entry[3].resource.gender`."""
        if entry is None:
            return self
        issues = [replace(issue, expression=_joined(entry, issue.expression or "")) for issue in self.issues]
        return type(self)(self.diagnostics, issues=issues)


def _joined(entry: str, place: str) -> str:
    """`place` is in the resource (`Patient.gender`), in the request (`request.url`), or the name of a parameter."""
    if place[:1].isupper():
        return f"{entry}.resource.{place.partition('.')[2]}".rstrip(".")
    return f"{entry}.{place}" if place.startswith("request.") else entry


class BadSyntax(Failure):
    """The body or the URL cannot be read."""

    status, code = 400, "structure"


class BadParameter(Failure):
    """A search parameter, header or option is unknown or malformed."""

    status, code = 400, "invalid"


class InvalidResource(Failure):
    """The resource is not valid FHIR R4."""

    status, code = 422, "invalid"


class BusinessRule(Failure):
    """The resource is valid FHIR, and a rule of this server refuses it."""

    status, code = 422, "business-rule"


class PatchFailed(Failure):
    """The patch can be read, and it does not fit the document that it is applied to."""

    status, code = 422, "processing"


class Incomputable(Failure):
    """What is kept of a code system or value set does not suffice to answer."""

    status, code = 422, "not-supported"


class DanglingReference(Failure):
    """A reference points to a resource that this server does not hold."""

    status, code = 422, "not-found"


class Unauthenticated(Failure):
    """No valid access token came with the request."""

    status, code = 401, "login"


class Forbidden(Failure):
    """The caller is known and may not do this."""

    status, code = 403, "forbidden"


class NotFound(Failure):
    """No such resource."""

    status, code = 404, "not-found"


class NotSupported(Failure):
    """This server does not do that."""

    status, code = 404, "not-supported"


class MethodNotAllowed(Failure):
    """This resource type does not support that interaction."""

    status, code = 405, "not-supported"


class NotAcceptable(Failure):
    """None of the media types asked for can be produced."""

    status, code = 406, "not-supported"


class TooCostly(Failure):
    """The search would cost more than this server gives to one request; narrow it."""

    status, code = 403, "too-costly"


class Conflict(Failure):
    """The same identity was written by somebody else."""

    status, code = 409, "conflict"


class Gone(Failure):
    """The resource was deleted."""

    status, code = 410, "deleted"


class VersionConflict(Failure):
    """If-Match or If-None-Match does not hold: another version is the current one."""

    status, code = 412, "conflict"


class NoMatch(Failure):
    """A conditional reference finds no resource."""

    status, code = 412, "not-found"


class MultipleMatches(Failure):
    """The criteria select more than one resource."""

    status, code = 412, "multiple-matches"


class TooLarge(Failure):
    """The body is larger than this server accepts."""

    status, code = 413, "too-long"


class UnsupportedMediaType(Failure):
    """The body is in a media type that this server does not read."""

    status, code = 415, "not-supported"


class RangeNotSatisfiable(Failure):
    """The Range asked for lies outside the document."""

    status, code = 416, "invalid"


class PreconditionRequired(Failure):
    """This server changes a resource only over a version that the client names."""

    status, code = 428, "required"


class Throttled(Failure):
    """Too many requests; try again later."""

    status, code = 429, "throttled"

    def __init__(self, *given: Any, retry_after: int = 5, **more: Any) -> None:
        super().__init__(*given, **more)
        self.retry_after = retry_after


class Damaged(Failure):
    """What is kept of a document is not what was received: nothing of it is given out."""

    status, code = 500, "exception"


class Unavailable(Failure):
    """A part that this request needs is out of reach for the moment."""

    status, code = 503, "transient"


class StorageFull(Failure):
    """There is no room left to keep the document."""

    status, code = 507, "no-store"
