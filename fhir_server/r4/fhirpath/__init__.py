"""FHIRPath, as R4's own definitions use it: `read` an expression once, evaluate it on many resources.

http://hl7.org/fhirpath/N1/ and https://hl7.org/fhir/R4/fhirpath.html

`nodes` is the tree that is walked, `syntax` reads an expression, `evaluation` compiles it to functions, `functions` and
`values` are what it may call and compare. Pure; the cost of an evaluation is bounded.
"""
