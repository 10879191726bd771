"""What is wrong with a query, and where in its text."""

from graphql.language import Node, get_location

from fhir_server.outcomes import BadParameter, Issue


def place_of(node: Node | None) -> tuple[int, int] | None:
    """Line and column at which a part of a query begins."""
    if node is None or node.loc is None:
        return None
    location = get_location(node.loc.source, node.loc.start)
    return location.line, location.column


def fault(text: str, node: Node | None) -> Issue:
    return Issue("error", "invalid", text, location=place_of(node))


def refused(text: str, node: Node | None) -> BadParameter:
    """A query that asks what there is not, or not so."""
    return BadParameter(issues=[fault(text, node)])
