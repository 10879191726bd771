"""The words of the command `dmst-fhir`, one module for each group of them. They decide nothing.

The command line starts quickly: what a word runs is imported when it runs.
"""
