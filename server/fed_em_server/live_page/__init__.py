"""A session in a browser while it runs: a page for this machine alone, by a token (ADR 41)."""
