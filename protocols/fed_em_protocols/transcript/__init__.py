"""The record of a session from which anybody can replay it, and what an adversary who reads it sees."""
