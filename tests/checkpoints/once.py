"""What nobody may sign twice with different content, whatever process does it."""

from __future__ import annotations

from fed_em_protocols.envelope import unseal
from fed_em_protocols.hashing import digest
from fed_em_protocols.messages import Certificate, Close, Endorsement, Header, OpenWindow, Proposal, Upload


def signed_once(data: bytes) -> tuple[str, str] | None:
    """Of a message: what there may be one of in a session, and a digest of what it says; None if there may be many."""
    sealed = unseal(data, "")
    content = sealed.content
    match content:
        case Header() | Upload():
            known = f"{type(content).__name__} {content.round}", sealed.digest
        case OpenWindow():
            known = f"OpenWindow {content.number}", sealed.digest
        case Close():
            known = "Close", sealed.digest
        case Certificate() | Endorsement():
            known = f"{type(content).__name__} {content.round}", digest("said", content.survivors, content.root)
        case Proposal():
            outcome = digest("of", content.header.payload).hex()
            known = f"Proposal {outcome}", digest("said", content.survivors, sealed.attachment_digest)
        case _:
            return None
    what, said = known
    return what, said.hex()
