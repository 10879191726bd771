"""Identity matching measured beside its peers (docs/identity.md)."""
