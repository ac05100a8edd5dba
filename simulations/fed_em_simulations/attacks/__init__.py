"""Attacks on what a session releases: each is run, and says in figures and in words what it got.

They see what an adversary sees who reads all of a session: the opened sums (`fed_em_protocols.transcript.released`) and what is public of
it. What is true only tests and simulations know, and compare.
"""
