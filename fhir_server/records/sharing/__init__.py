"""Document sharing, pure: what IHE MHD and PDSm ask of documents, lots de soumission and classeurs."""
