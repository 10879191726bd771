"""`_include` and `_revinclude` understood: which references to follow from what a search found.

https://hl7.org/fhir/R4/search.html#revinclude - pure; no database.
"""

from dataclasses import dataclass

from fhir_server.outcomes import BadParameter
from fhir_server.r4.resource_types import TYPE_NUMBER
from fhir_server.r4.search_parameters import SearchParameter, is_being_indexed, not_searched, parameters_of

NAMES = frozenset({"_include", "_revinclude"})


@dataclass(frozen=True, slots=True)
class Include:
    """From resources of `source`, the reference `parameter` (None: every one), to `target` types (None: any).

    `reverse` goes the other way: resources of `source` that refer to what was found. `iterate` applies it to what
    was included, too.
    """

    source: str
    parameter: SearchParameter | None
    target: str | None
    reverse: bool
    iterate: bool

    def follows(self, parameter: SearchParameter) -> bool:
        return self.parameter is None or self.parameter is parameter


def include(name: str, value: str) -> Include:
    """`_include[:iterate]=Type:parameter[:Target]`, or `Type:*`. Raises BadParameter."""
    head, _, modifier = name.partition(":")
    source, _, rest = value.partition(":")
    code, _, target = rest.partition(":")
    reverse = head == "_revinclude"
    if modifier not in ("", "iterate", "recurse"):
        raise BadParameter(f"{head} has no modifier :{modifier}", expression=name)
    if source not in TYPE_NUMBER or (target and target not in TYPE_NUMBER) or not code:
        raise BadParameter(f"{head} is Type:parameter or Type:parameter:Target", expression=name)
    parameter = None
    if code != "*":
        parameter = parameters_of(source).get(code)
        if is_being_indexed(source, code):
            raise not_searched(source, code, name)
        if parameter is None or parameter.type != "reference":
            raise BadParameter(f"{code} is not a reference parameter of {source}", expression=name)
    return Include(source, parameter, target or None, reverse, modifier != "")
