"""One `name=value` of a search as a criterion: parameter, modifier, chain, reverse chain.

https://hl7.org/fhir/R4/search.html - pure. What this server does not search raises BadParameter with the issue code
not-supported; what is malformed, with invalid; what would lead too far raises TooCostly.
"""

from collections.abc import Iterable, Mapping
from typing import Final

from fhir_server.outcomes import BadParameter, Issue, TooCostly
from fhir_server.r4 import search_values
from fhir_server.r4.resource_types import TYPE_NUMBER
from fhir_server.r4.search_criteria import (
    AllOf,
    AnyOf,
    Chained,
    Criterion,
    DateIs,
    IdIs,
    ListedIn,
    Missing,
    Not,
    NumberIs,
    QuantityIs,
    ReferenceHas,
    ReferenceIs,
    Referred,
    StretchIs,
    StringIs,
    TextHas,
    Together,
    TokenIn,
    TokenIs,
    TokenOfType,
    TokenText,
    TokenValue,
    UpdatedIs,
    UriIs,
    branches_of,
)
from fhir_server.r4.search_parameters import (
    REGISTRY,
    SearchParameter,
    is_being_indexed,
    not_searched,
    parameter_at,
    parameters_of,
)

DEEPEST_CHAIN: Final = 4
"""Steps of a chain and of a reverse chain together."""
MOST_BRANCHES: Final = 200
"""Types that the chains of one search may lead to: one reference to any type, and some to spare."""
BESIDE_TOKEN: Final = frozenset(
    {("token",), ("quantity",), ("reference",), ("date",), ("string",), ("number", "number")}
)
"""What may stand beside the token of a composite: the types of the other components."""

CODES_ONLY: Final = "A composite needs codes, not code systems"

COMBINED: Final[Mapping[str, tuple[str, str]]] = {
    f"http://hl7.org/fhir/SearchParameter/Observation-combo-{what}": (what, f"component-{what}")
    for what in ("code", "code-value-concept", "code-value-quantity", "data-absent-reason", "value-concept",
                 "value-quantity")
}  # fmt: skip
"""Parameters that are two others together (`combo-code` is `code` and `component-code`): not indexed by themselves."""


def searchable(resource_type: str) -> Mapping[str, SearchParameter]:
    """The parameters by which this server searches a type, for the CapabilityStatement."""
    return {code: one for code, one in parameters_of(resource_type).items() if _is_searchable(one)}


def _is_searchable(parameter: SearchParameter) -> bool:
    if parameter.type == "composite":
        kinds = tuple(parameter_at(url).type for url, _ in parameter.components)
        return kinds[:1] == ("token",) and kinds[1:] in BESIDE_TOKEN
    if parameter.code == "_content":
        return REGISTRY.content
    return bool(parameter.expression) or parameter.code == "_text"  # `_query` has no expression either


def criterion(resource_type: str, name: str, value: str, *, depth: int = 0) -> Criterion:
    """One `name=value` as a criterion. Raises BadParameter."""
    if name.startswith("_has:"):
        return _referred(resource_type, name, value, depth)
    head, _, rest = name.partition(".")
    code, _, modifier = head.partition(":")
    if code == "_list" and not modifier and not rest:
        return ListedIn(_list_id(value, name))
    parameter = parameters_of(resource_type).get(code)
    if parameter is None or not _is_searchable(parameter):
        raise not_searched(resource_type, code, name)
    if rest:
        chained = _chain(parameter, modifier, rest, value, name, depth)
        contained = _contained(resource_type, code, rest, value, name) if not modifier else None
        return AnyOf((contained, chained)) if contained else chained
    if parameter.url in COMBINED:
        both = tuple(plain(parameters_of(resource_type)[one], modifier, value, name) for one in COMBINED[parameter.url])
        none_of_both = modifier == "not" or (modifier == "missing" and value == "true")
        return AllOf(both) if none_of_both else AnyOf(both)
    return plain(parameter, modifier, value, name)


def plain(parameter: SearchParameter, modifier: str, value: str, name: str) -> Criterion:
    """The criterion of one parameter of the resource itself. Raises BadParameter."""
    if special := _special(parameter, modifier, value, name):
        return special
    match parameter.type, modifier:
        case _, "missing":
            return Missing(parameter, _truth(value, name))
        case "token", _:
            return _token(parameter, modifier, value, name)
        case "reference", "identifier":
            tokens = (search_values.token(one, name) for one in search_values.alternatives(value, name))
            return ReferenceHas(parameter, tuple((system or "", code or "") for system, code in tokens))
        case "reference", _ if not modifier or modifier in TYPE_NUMBER:
            texts = search_values.texts(value, name)
            return ReferenceIs(parameter, search_values.targets(parameter, modifier, texts, name))
        case "date", "":
            return DateIs(parameter, tuple(search_values.date(one, name) for one in search_values.texts(value, name)))
        case "string", "":
            return StringIs(parameter, search_values.texts(value, name), "starts")
        case "string", "exact":
            return StringIs(parameter, search_values.texts(value, name), "exact")
        case "string", "contains":
            return StringIs(parameter, search_values.texts(value, name), "contains")
        case "uri", "":
            return UriIs(parameter, search_values.texts(value, name))
        case "uri", "below":
            return UriIs(parameter, search_values.texts(value, name), below=True)
        case "uri", "above":
            return UriIs(parameter, tuple(_above(search_values.texts(value, name))))
        case "number", "":
            numbers = (search_values.number(one, name) for one in search_values.texts(value, name))
            return NumberIs(parameter, tuple(numbers))
        case "quantity", "":
            quantities = (search_values.quantity(one, name) for one in search_values.alternatives(value, name))
            return QuantityIs(parameter, tuple(quantities))
        case "composite", "":
            return _composite(parameter, value, name)
        case "special", "" if parameter.code == "near":
            points = tuple(search_values.near(parameter, one, name) for one in search_values.alternatives(value, name))
            return points[0] if len(points) == 1 else AnyOf(points)
        case _:
            raise not_supported(name, f"The modifier :{modifier[:50]} is not supported on a {parameter.type} parameter")


def not_supported(name: str, diagnostics: str) -> BadParameter:
    """What this server does not do, as a fault that a lenient client may have ignored."""
    return BadParameter(issues=[Issue("error", "not-supported", diagnostics, name)])


def _special(parameter: SearchParameter, modifier: str, value: str, name: str) -> Criterion | None:
    """Of what the store has columns for."""
    match parameter.code, modifier:
        case "_id", "":
            return IdIs(search_values.texts(value, name))
        case "_id", "not":
            return Not(IdIs(search_values.texts(value, name)))
        case "_lastUpdated", "":
            return UpdatedIs(tuple(search_values.date(one, name) for one in search_values.texts(value, name)))
        case "_text", "":
            return TextHas("text", search_values.plain(value))
        case "_content", "":
            return TextHas("content", search_values.plain(value))
        case "_id" | "_lastUpdated" | "_text" | "_content", _:
            raise not_supported(name, f"{parameter.code} has no modifier :{modifier[:50]} on this server")
        case _:
            return None


def _token(parameter: SearchParameter, modifier: str, value: str, name: str) -> Criterion:
    parts = search_values.alternatives(value, name)
    match modifier:
        case "" | "not":
            values = tuple(search_values.token(one, name) for one in parts)
            return TokenIs(parameter, values, negated=modifier == "not")
        case "text":
            return TokenText(parameter, tuple(search_values.plain(one) for one in parts))
        case "in" | "not-in":
            sets = tuple((None, search_values.plain(one)) for one in parts)
            return TokenIn(parameter, "in", sets, negated=modifier == "not-in")
        case "below":
            return TokenIn(parameter, "below", tuple(search_values.token(one, name) for one in parts))
        case "above":
            return TokenIn(parameter, "above", tuple(search_values.token(one, name) for one in parts))
        case "of-type":
            return TokenOfType(parameter, tuple(_of_type(one, name) for one in parts))
        case _:
            raise not_supported(name, f"The modifier :{modifier[:50]} is not supported on a token parameter")


def _of_type(text: str, name: str) -> tuple[str, str, str]:
    parts = [search_values.plain(one) for one in search_values.split(text, name, "|")]
    if len(parts) != 3 or not all(parts[1:]):
        raise BadParameter(f"{name} is system|code|value", expression=name)
    return parts[0], parts[1], parts[2]


def _composite(parameter: SearchParameter, value: str, name: str) -> Criterion:
    """`token$value`, or `token$number$number`: alternatives are such tuples.

    Where the pair stands in the resource itself (`Observation?code-value-quantity`) it is the one parameter and the
    other; only of what repeats must it be known what stands together.
    """
    first, second, *third = (parameter_at(url) for url, _ in parameter.components)
    if third:
        tuples = [_stretch(parameter, one, name) for one in search_values.alternatives(value, name)]
        return tuples[0] if len(tuples) == 1 else AnyOf(tuple(tuples))
    repeats = is_repeated(parameter)
    pairs: list[Criterion] = []
    for one in search_values.alternatives(value, name):
        left, *right = search_values.split(one, name, "$")
        if len(right) != 1 or not left or not right[0]:
            raise BadParameter(f"{name} is two values with a $ between", expression=name)
        beside = plain(second, "", right[0], name)
        if not repeats:
            pairs.append(AllOf((plain(first, "", left, name), beside)))
        elif isinstance(beside, TokenIs | ReferenceIs | QuantityIs):
            if isinstance(beside, TokenIs) and any(code is None for _, code in beside.values):
                raise not_supported(name, CODES_ONLY)
            pairs.append(Together(parameter, _code(left, name), beside))
        else:
            raise not_supported(name, f"{parameter.code} is not searched with a {second.type} as its second value")
    return pairs[0] if len(pairs) == 1 else AnyOf(tuple(pairs))


def _stretch(parameter: SearchParameter, value: str, name: str) -> Together:
    """`token$number$number`: both numbers of one element, each with its prefix."""
    parts = search_values.split(value, name, "$")
    if len(parts) != 3 or not all(parts):
        raise BadParameter(f"{name} is three values with a $ between", expression=name)
    start, end = (search_values.number(search_values.plain(one), name) for one in parts[1:])
    return Together(parameter, _code(parts[0], name), StretchIs(start, end))


def _code(text: str, name: str) -> TokenValue:
    token = search_values.token(text, name)
    if token[1] is None:
        raise not_supported(name, CODES_ONLY)
    return token


def is_repeated(parameter: SearchParameter) -> bool:
    """Whether a composite is about an element that repeats, rather than about the resource."""
    return "." in parameter.expression


def _above(uris: tuple[str, ...]) -> list[str]:
    """Each URI, and what it begins with up to each of its slashes."""
    return [uri[:end] for uri in uris for end in range(1, len(uri) + 1) if end == len(uri) or uri[end] == "/"]


def _chain(parameter: SearchParameter, typed: str, rest: str, value: str, name: str, depth: int) -> Chained:
    if parameter.type != "reference":
        raise BadParameter(f"{parameter.code} is not a reference: nothing can be chained to it", expression=name)
    if depth >= DEEPEST_CHAIN:
        raise not_supported(name, f"Chains of more than {DEEPEST_CHAIN} steps are not supported")
    if typed and (typed not in TYPE_NUMBER or (parameter.targets and typed not in parameter.targets)):
        raise BadParameter(f"{parameter.code} does not lead to {typed[:50]}", expression=name)
    branches: list[tuple[str, Criterion]] = []
    faults: list[Issue] = []
    for candidate in [typed] if typed else [one for one in parameter.targets if one in TYPE_NUMBER]:
        try:
            branches.append((candidate, criterion(candidate, rest, value, depth=depth + 1)))
        except BadParameter as fault:
            faults.extend(fault.issues)
    if not branches:  # what no type knows, or what is malformed for every type that knows it
        worst = next((one for one in faults if one.code != "not-supported"), faults[0] if faults else None)
        diagnostics = worst.diagnostics if worst else f"{parameter.code} leads to no resource type"
        raise BadParameter(issues=[Issue("error", worst.code if worst else "invalid", diagnostics, name)])
    chained = Chained(parameter, tuple(branches))
    must_not_branch_much([chained])
    return chained


def must_not_branch_much(criteria: Iterable[Criterion]) -> None:
    """A reference to any type, chained to another, leads to thousands of questions. Raises TooCostly."""
    if sum(map(branches_of, criteria)) > MOST_BRANCHES:
        raise TooCostly(f"The chains lead to more than {MOST_BRANCHES} types: name them, as in subject:Patient.name")


def _contained(resource_type: str, code: str, rest: str, value: str, name: str) -> Criterion | None:
    """`author.given` where PDSm and MHD ask it of authors that are contained: the parameter `author-given`."""
    below, _, modifier = rest.partition(":")
    parameter = parameters_of(resource_type).get(f"{code}-{below}")
    return plain(parameter, modifier, value, name) if parameter else None


def _referred(resource_type: str, name: str, value: str, depth: int) -> Referred:
    """`_has:Source:reference:name=value`."""
    _, source, code, rest = (*name.split(":", 3), "", "", "")[:4]
    parameter = parameters_of(source).get(code)
    if is_being_indexed(source, code):
        raise not_searched(source, code, name)
    if parameter is None or parameter.type != "reference" or not rest:
        raise BadParameter("_has is _has:Type:reference:parameter, where Type has that reference", expression=name)
    if parameter.targets and resource_type not in parameter.targets:
        raise BadParameter(f"{source}.{code} does not lead to {resource_type}", expression=name)
    if depth >= DEEPEST_CHAIN:
        raise not_supported(name, f"Chains of more than {DEEPEST_CHAIN} steps are not supported")
    return Referred(source, parameter, criterion(source, rest, value, depth=depth + 1))


def _list_id(value: str, name: str) -> str:
    if value.startswith("$"):
        raise not_supported(name, "This server has no functional lists")
    return value.removeprefix("List/")


def _truth(value: str, name: str) -> bool:
    if value not in ("true", "false"):
        raise BadParameter(f"{name} is true or false", expression=name)
    return value == "true"
