"""Every step at which a process is killed, in the order in which a session comes to them; a number is the time that it comes there."""

from __future__ import annotations

# One life of a server each: every kind of message that comes or goes, every commit of a round, every file.
SERVER_STEPS = (
    "start",
    "before begin",
    "after begin",
    "after receive Hello",
    "before send SessionTerms 2",
    "after receive Join",
    "before commit",  # of the first window
    "after commit",
    "before send OpenWindow",
    "after send OpenWindow 2",
    "after receive Advertise 2",
    "before send Neighbours",
    "after send Neighbours 2",
    "before send SetUp",
    "after send SetUp 4",
    "after receive Deposit 2",
    "before send Boxes",
    "after send Boxes 4",
    "after receive Ready 3",
    "before commit 3",  # of a round that begins
    "before send Header",
    "after send Header 2",
    "after receive Upload",
    "after receive Upload 4",
    "before commit 4",  # of an outcome, before the witnesses have it
    "before send Proposal",
    "after send Proposal 4",
    "after receive Endorsement 2",
    "before commit 5",  # of a certificate
    "before send Certificate",
    "after send Certificate 2",
    "after receive Opening",
    "before entry 6",
    "before sync 6",
    "before signed head",
    "after signed head",
    "before commit 6",  # of a sum
    "after commit 6",
    "before send Close",
    "after send Close",
    "before file model.safetensors",
    "before file manifest.json",
    "before record",
    "after record",
    "before report",
)

# One life of a tenant each. Most are over in its first round.
TENANT_STEPS = (
    "start",
    "before send Hello",
    "after handle SessionTerms",
    "before mark work",
    "after mark work",
    "before log",
    "before sync 3",
    "before send Join",
    "after send Join",
    "before handle OpenWindow",
    "before send Advertise",
    "after send Advertise",
    "before handle SetUp",
    "before send Deposit",
    "after send Deposit",
    "before send Ready",
    "after send Ready",
    "before handle Header",
    "before mark round",
    "after mark round",
    "before send Upload",
    "after send Upload",
    "before handle Proposal",
    "before mark endorsement",
    "after mark endorsement",
    "before send Endorsement",
    "after send Endorsement",
    "before handle Certificate",
    "before send Opening",
    "after send Opening",
)

# Nobody knows of a tenant that was killed so late whether it has its model: it is started again, finds no server, and says so.
TENANT_LAST_STEPS = ("before handle Close", "before file model.safetensors", "before file manifest.json")
