"""What one GraphQL query may cost. Whatever goes beyond is TooCostly, or for the text itself BadSyntax."""

from typing import Final

LONGEST: Final = 100_000
"""Characters of a query."""
MOST_TOKENS: Final = 10_000
"""Words of a query."""
DEEPEST: Final = 30
"""Selections within selections, fragments put in their places."""
MOST_FIELDS: Final = 500
"""Fields and aliases, fragments put in their places."""
MOST_READS: Final = 50
"""Resources that a query names by their ids."""
MOST_SEARCHES: Final = 50
"""Lists and connections: one for all the resources of a level that it is asked of, where it can be."""
MOST_RESOURCES: Final = 1000
"""Resources that are found or referred to, all levels together."""
MOST_VALUES: Final = 200_000
"""Elements that the answer is made of."""
MOST_LOOKS: Final = 1_000_000
"""Fields and elements that are looked at for the answer, whether or not something is there to be shown."""
LARGEST_SHOWN: Final = 32_000_000
"""Characters of the answer: of its texts and of the names under which values stand."""
MOST_GIVEN: Final = 100_000
"""Characters of the variables, and one more for each value."""
LONGEST_SLICE: Final = 200
"""Characters of the name that `@slice` gives an element."""
MOST_PATH_STEPS: Final = 200_000
"""Elements that FHIRPath expressions of the client may touch, all together."""
LONGEST_PATH: Final = 500
"""Characters of such an expression."""
MOST_TOGETHER: Final = 200
"""Resources whose reverse references are looked for by one search."""
MOST_FAULTS: Final = 20
"""Faults of a query that are told at once."""
MOST_INTROSPECTED: Final = 1_200_000
"""Fields of the schema that an introspection may show: all of it, as tools ask it, is 1.1 million."""
MOST_ROOTS: Final = 20
"""Fields at the root of an introspection."""
LONGEST_TOLD: Final = 200
"""Characters of what graphql-core says of a fault: it quotes names of the query."""
