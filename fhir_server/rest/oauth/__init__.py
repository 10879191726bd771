"""OAuth 2.0 and OpenID Connect: who a machine or a person is, by tokens, keys, certificates and sessions."""
