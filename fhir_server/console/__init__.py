"""Web pages for those who work with the service, in French, made on the server: the review queue (docs/review.md)."""
