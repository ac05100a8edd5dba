"""Audits of a session from its transcript."""
