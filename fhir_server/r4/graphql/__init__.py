"""GraphQL as R4 lays it down, without I/O: a query and resources become JSON.

https://hl7.org/fhir/R4/graphql.html and https://spec.graphql.org/October2021/

`document` reads a query, `schema` says which fields a type has, `selection`, `arguments` and `search_arguments` check
what is asked of them, `walk` goes through resources, `execution` says what has to be loaded next (`wants`), `output`
lays the answer out (with `@flatten` and its like). `client_path` evaluates the FHIRPath that clients write,
`introspection` answers what the schema is.
"""
