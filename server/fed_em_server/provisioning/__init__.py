"""Folders for the parties of a federation, with everything that each needs but its keys, which are born where they are used (ADR 42)."""
