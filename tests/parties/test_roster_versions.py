"""The life of a roster: each change by commands, and what nobody can do to it."""

from __future__ import annotations

import datetime
from dataclasses import dataclass, field
from typing import Any

import pytest

from fed_em.errors import CallerError
from fed_em_client.configuration import read_tenant_configuration
from fed_em_protocols.envelope import seal, unseal
from fed_em_protocols.errors import BadSignature
from fed_em_protocols.messages import Join
from fed_em_protocols.party import Card, create_server_keys, create_tenant_keys, load_card, load_keys
from fed_em_protocols.roster import Roster, load_roster
from fed_em_protocols.roster_drafts import begun, dealt_anew, proposed, with_added, with_revoked, with_rotation, without
from fed_em_protocols.roster_shape import default_witnesses, drawn_witnesses
from fed_em_protocols.roster_versions import (
    Proposal,
    RosterHistory,
    Rotation,
    approve,
    check_proposal,
    exposed_by_difference,
    gathered,
    load_proposal,
    missing_approvals,
    require_approved,
    sign_rotation,
)
from tests.parties.forest import NAMES, MakeParties, Parties
from tests.parties.test_commands import refused, run
from tests.protocols.federation import roster_of

NOW = datetime.datetime.now(datetime.UTC)
TODAY = NOW.date()


@dataclass
class Forest:
    """Keys of any name on demand, and a first roster of three tenants."""

    parties: Parties
    cards: dict[str, Card] = field(default_factory=dict)

    @property
    def first(self) -> Roster:
        return self.parties.roster

    def card(self, folder: str, name: str | None = None) -> Card:
        """New keys in a folder, of a tenant that is called so unless another name is given."""
        if folder not in self.cards:
            self.cards[folder] = create_tenant_keys(self.parties.folder / folder, name or folder, 60, NOW)
        return self.cards[folder]

    def key(self, folder: str) -> Any:
        return load_keys(self.parties.folder / folder).identity

    def rotation(self, roster: Roster, old: str, new: str) -> Rotation:
        keys = (load_keys(self.parties.folder / each) for each in (old, new))
        return sign_rotation(roster, load_card(self.parties.folder / new / "card.json"), *keys)

    def signed_by(self, proposal: Proposal, **folders: str) -> Proposal:
        """Approved by tenants; a folder where it is not called after its tenant."""
        for tenant in proposal.roster.tenants:
            proposal = approve(proposal, tenant.name, self.key(folders.get(tenant.name, tenant.name)))
        return proposal


@pytest.fixture
def forest(parties: Parties) -> Forest:
    return Forest(parties)


def remade(proposal: Proposal, **changes: Any) -> Proposal:
    """A proposal whose roster somebody has changed by hand."""
    roster = Roster.model_validate({**proposal.roster.model_dump(), **changes})
    return proposal.model_copy(update={"roster": roster})


def entries(roster: Roster) -> list[dict[str, Any]]:
    return [tenant.model_dump() for tenant in roster.tenants]


class TestVersions:
    def test_rosters_without_a_parent_keep_their_hash(self) -> None:
        """As tenants pinned it before versions had parents."""
        known = "992855a37f6ba1154edca629ad8460deac139df86313c9d57948d265f4181244"
        assert roster_of(4, blocks=2).digest.hex() == known

    def test_parent_revocations_and_number_are_in_the_hash(self, forest: Forest) -> None:
        added = with_added(begun(forest.first), forest.card("elm"))
        draft = with_revoked(added, "ash", "left the federation", TODAY)
        changes: list[dict[str, Any]] = [
            {"parent": "0" * 64}, {"revoked": ()}, {"version": 3},
            {"revoked": [{**draft.roster.revoked[0].model_dump(), "reason": "another"}]},
            {"revoked": [{**draft.roster.revoked[0].model_dump(), "date": TODAY - datetime.timedelta(1)}]},
        ]  # fmt: skip
        assert len({remade(draft, **each).roster.digest for each in changes} | {draft.roster.digest}) == 6

    def test_a_version_goes_all_the_way(self, forest: Forest) -> None:
        proposal = proposed(forest.first, with_added(begun(forest.first), forest.card("elm")))
        assert missing_approvals(proposal) == (*NAMES, "elm")
        copies = [approve(proposal, name, forest.key(name)) for name in (*NAMES, "elm")]
        with pytest.raises(CallerError, match="did not sign it") as caught:
            require_approved(forest.first, gathered(proposal, copies[1:]))
        assert "not approved: ash" in caught.value.message
        require_approved(forest.first, gathered(proposal, copies))
        again = Proposal.model_validate_json(proposal.to_json())
        assert again == proposal and again.roster.digest == proposal.roster.digest

    def test_who_leaves_has_no_vote(self, forest: Forest) -> None:
        first = proposed(forest.first, with_added(begun(forest.first), forest.card("elm")))
        second = proposed(first.roster, without(begun(first.roster), "ash"))
        require_approved(first.roster, forest.signed_by(second))
        with pytest.raises(CallerError, match="by 'ash', which is no tenant of this version"):
            missing_approvals(approve(second, "ash", forest.key("ash")))

    def test_beyond_64_tenants_witnesses_are_drawn_anew_and_not_picked(self, forest: Forest) -> None:
        first = roster_of(64)
        draft = with_added(begun(first), forest.card("x"))
        names = draft.roster.names(range(65))
        assert set(draft.roster.witnesses) == drawn_witnesses("test", names, default_witnesses(65))
        assert with_added(begun(roster_of(63)), forest.card("x")).roster.witnesses == tuple(range(64))

    def test_new_tenants_join_the_smallest_block_unless_one_is_named(self, forest: Forest) -> None:
        draft = begun(forest.first)
        for number in range(3):
            draft = with_added(draft, forest.card(f"x{number}"), block=1 if number else None)
        assert [tenant.block for tenant in draft.roster.tenants] == [0, 0, 0, 0, 1, 1]
        assert [t.block for t in with_added(draft, forest.card("y")).roster.tenants][-1] == 1
        assert [t.block for t in dealt_anew(draft, 3).roster.tenants] == [0, 1, 0, 1, 0, 1]


class TestAttacks:
    """What whoever drafts a version, or carries approvals, may try."""

    def test_another_party_cannot_be_given_other_keys(self, forest: Forest) -> None:
        mallory = forest.card("mallory")
        stolen = entries(forest.first)
        stolen[1] |= {"identity": mallory.identity, "certificate": mallory.certificate}
        with pytest.raises(CallerError, match="keys, the certificate or the row cap of 'beech', and 'beech' has not"):
            proposed(forest.first, remade(begun(forest.first), tenants=stolen))

    @pytest.mark.parametrize("change", [{"row_cap": 5}, {"certificate": "mallory"}])
    def test_nor_another_row_cap_or_certificate(self, forest: Forest, change: dict[str, Any]) -> None:
        if "certificate" in change:
            change = {"certificate": forest.card("mallory").certificate}
        changed = entries(forest.first)
        changed[1] |= change
        with pytest.raises(CallerError, match="'beech' has not signed that"):
            proposed(forest.first, remade(begun(forest.first), tenants=changed))

    def test_nor_can_the_server(self, forest: Forest) -> None:
        mallory = forest.card("mallory")
        server = {"identity": mallory.identity, "certificate": mallory.certificate}
        with pytest.raises(CallerError, match="'server' has not signed that"):
            proposed(forest.first, remade(begun(forest.first), server=server))

    def test_nor_by_removing_and_adding_it_in_one_version(self, forest: Forest) -> None:
        imposter = forest.card("imposter", name="beech")
        draft = without(with_added(begun(forest.first), forest.card("elm")), "beech")
        with pytest.raises(CallerError, match="'beech' has not signed that"):
            proposed(forest.first, with_added(draft, imposter))

    def test_nor_by_revoking_it_at_the_same_time(self, forest: Forest) -> None:
        imposter = forest.card("imposter", name="beech")
        draft = with_revoked(with_added(begun(forest.first), forest.card("elm")), "beech", "lost", TODAY)
        with pytest.raises(CallerError, match="so anybody could take its place"):
            proposed(forest.first, with_added(draft, imposter))

    def test_nor_can_two_tenants_be_exchanged(self, forest: Forest) -> None:
        swapped = entries(forest.first)
        swapped[0]["name"], swapped[1]["name"] = "beech", "ash"
        with pytest.raises(CallerError, match=r"lists the key of '.*' under the name"):
            proposed(forest.first, remade(begun(forest.first), tenants=swapped))

    def test_a_rotation_needs_both_keys(self, forest: Forest) -> None:
        forest.card("new", name="ash")
        genuine = forest.rotation(forest.first, "ash", "new")
        for field_name, key, which in (("by_old", "beech", "old"), ("by_new", "beech", "new")):
            forged = genuine.model_copy(update={field_name: forest.key(key).sign(genuine.statement).hex()})
            with pytest.raises(CallerError, match=f"the rotation of 'ash' is not signed by its {which} key"):
                proposed(forest.first, with_rotation(begun(forest.first), forged))

    def test_a_rotation_cannot_be_used_for_another_version_or_another_party(self, forest: Forest) -> None:
        forest.card("new", name="ash")
        rotation = forest.rotation(forest.first, "ash", "new")
        second = proposed(forest.first, with_added(begun(forest.first), forest.card("elm"))).roster
        with pytest.raises(CallerError, match="signed for another version"):
            proposed(second, with_rotation(begun(second), rotation))
        renamed = rotation.model_copy(update={"name": "beech"})
        with pytest.raises(CallerError, match="the rotation of 'beech' is not signed by its old key"):
            proposed(forest.first, with_rotation(begun(forest.first), renamed))

    def test_a_rotation_that_the_roster_does_not_follow(self, forest: Forest) -> None:
        forest.card("new", name="ash")
        rotation = forest.rotation(forest.first, "ash", "new")
        draft = with_rotation(begun(forest.first), rotation)
        changed = entries(draft.roster)
        changed[0]["row_cap"] = 9
        with pytest.raises(CallerError, match="gives 'ash' other keys than its rotation"):
            proposed(forest.first, remade(draft, tenants=changed))
        idle = with_added(begun(forest.first), forest.card("elm")).model_copy(update={"rotations": (rotation,)})
        with pytest.raises(CallerError, match="a rotation of 'ash', whose keys it does not change"):
            proposed(forest.first, idle)

    def test_a_revoked_key_is_nobodys_again(self, forest: Forest) -> None:
        draft = with_revoked(with_added(begun(forest.first), forest.card("elm")), "beech", "stolen laptop", TODAY)
        second = proposed(forest.first, draft).roster
        card = forest.parties.cards["beech"]
        for each in (card, card.model_copy(update={"name": "birch"})):
            with pytest.raises(CallerError, match=r"a key of 'beech' was revoked on .* and can be nobody's again"):
                with_added(begun(second), each)
        fresh = forest.card("fresh")
        half = fresh.model_copy(update={"certificate": card.certificate})
        with pytest.raises(CallerError, match="was revoked"):
            with_added(begun(second), half)
        again = proposed(second, with_added(begun(second), forest.card("beech2", name="beech")))
        assert again.changes[0].startswith("adds 'beech'")

    def test_a_revocation_cannot_be_forgotten_or_made_up(self, forest: Forest) -> None:
        draft = with_revoked(with_added(begun(forest.first), forest.card("elm")), "beech", "lost", TODAY)
        second = proposed(forest.first, draft).roster
        third = with_added(begun(second), forest.card("oak"))
        with pytest.raises(CallerError, match="forgets or changes a revocation"):
            proposed(second, remade(third, revoked=()))
        made_up = {**draft.roster.revoked[0].model_dump(), "identity": "0" * 64, "tls_key_hash": "0" * 64}
        with pytest.raises(CallerError, match="revokes 'beech' by keys that it has not"):
            proposed(forest.first, remade(draft, revoked=[made_up]))

    def test_an_approval_of_one_version_is_none_of_another(self, forest: Forest) -> None:
        one = forest.signed_by(proposed(forest.first, with_added(begun(forest.first), forest.card("elm"))))
        other = proposed(forest.first, with_added(begun(forest.first), forest.card("oak")))
        replayed = other.model_copy(update={"approvals": one.approvals[:1]})
        with pytest.raises(CallerError, match="of 'ash' is not by its key of this version, or is for another version"):
            missing_approvals(replayed)
        with pytest.raises(CallerError, match="a copy is of another proposal"):
            gathered(other, [one])

    def test_an_approval_by_a_revoked_or_an_old_key_does_not_count(self, forest: Forest) -> None:
        draft = with_revoked(with_added(begun(forest.first), forest.card("elm")), "beech", "lost", TODAY)
        proposal = proposed(forest.first, draft)
        with pytest.raises(CallerError, match="by 'beech', whose key is revoked"):
            missing_approvals(approve(proposal, "beech", forest.key("beech")))
        with pytest.raises(CallerError, match="of 'ash' is not by its key"):
            missing_approvals(approve(proposal, "ash", forest.key("beech")))
        forest.card("new", name="ash")
        rotated = proposed(
            forest.first, with_rotation(begun(forest.first), forest.rotation(forest.first, "ash", "new"))
        )
        with pytest.raises(CallerError, match="of 'ash' is not by its key"):
            missing_approvals(approve(rotated, "ash", forest.key("ash")))
        require_approved(forest.first, forest.signed_by(rotated, ash="new"))

    def test_what_is_told_must_be_what_is_done(self, forest: Forest) -> None:
        proposal = proposed(forest.first, with_added(begun(forest.first), forest.card("elm")))
        quiet = proposal.model_copy(update={"changes": ("corrects a typing error",)})
        with pytest.raises(CallerError, match="are not those that it makes"):
            check_proposal(forest.first, quiet)
        with pytest.raises(CallerError, match="changes nothing"):
            proposed(forest.first, begun(forest.first))

    def test_a_version_follows_its_own_parent_only(self, forest: Forest, make_parties: MakeParties) -> None:
        proposal = proposed(forest.first, with_added(begun(forest.first), forest.card("elm")))
        with pytest.raises(CallerError, match="does not follow version 1"):
            check_proposal(make_parties("others").roster, proposal)
        with pytest.raises(CallerError, match="is not what follows"):
            check_proposal(forest.first, remade(proposal, version=3))

    def test_the_order_and_blocks_are_told(self, forest: Forest) -> None:
        turned = remade(begun(forest.first), tenants=entries(forest.first)[::-1])
        assert proposed(forest.first, turned).changes == ("puts tenants that stay into another order",)
        moved = entries(forest.first)
        moved[0]["block"] = 1
        assert proposed(forest.first, remade(begun(forest.first), tenants=moved)).changes == (
            "makes a block of beech, cedar", "makes a block of ash",
        )  # fmt: skip


class TestHistory:
    def test_forks_are_shown_with_whoever_signed_both(self, forest: Forest) -> None:
        one = proposed(forest.first, with_added(begun(forest.first), forest.card("elm")))
        other = proposed(forest.first, with_added(begun(forest.first), forest.card("oak")))
        one = forest.signed_by(one)
        other = approve(approve(other, "ash", forest.key("ash")), "oak", forest.key("oak"))
        other = approve(other, "cedar", forest.key("beech"))  # no signature of cedar's
        found = RosterHistory.of([other, forest.first, one])
        (fork,) = found.forks()
        assert {roster.digest for roster in fork} == {one.roster.digest, other.roster.digest}
        assert found.signed_twice(fork) == ("ash",)
        assert found.standing_of(forest.first) == "the first of its line"
        assert found.standing_of(one.roster) == "approved by all its tenants"
        assert "REFUSED: the approval of 'cedar'" in found.standing_of(other.roster)
        assert not list(RosterHistory.of([forest.first, one]).forks())

    def test_what_is_not_at_hand_is_not_claimed(self, forest: Forest) -> None:
        one = proposed(forest.first, with_added(begun(forest.first), forest.card("elm")))
        assert RosterHistory.of([one]).standing_of(one.roster) == "not checked: its parent is not at hand"
        assert RosterHistory.of([one.roster, forest.first]).standing_of(one.roster) == "its approvals are not at hand"
        assert "not approved by ash, " in RosterHistory.of([one, forest.first]).standing_of(one.roster)

    def test_old_sessions_are_verified_with_the_keys_of_their_version(self, forest: Forest) -> None:
        forest.card("new", name="ash")
        old = seal(Join(b"i" * 16, b"t" * 32, b"b" * 16, 0, bytes(32)), forest.key("ash")).to_bytes()
        rotated = proposed(
            forest.first, with_rotation(begun(forest.first), forest.rotation(forest.first, "ash", "new"))
        )
        revoked = with_revoked(with_added(begun(rotated.roster), forest.card("elm")), "ash", "lost", TODAY)
        third = proposed(rotated.roster, revoked)
        found = RosterHistory.of([third, rotated, forest.first])
        message, pinned_by_the_session = unseal(old, "ash"), forest.first.digest
        message.require_signature(found.version_of(pinned_by_the_session).tenants[0].identity_key, "ash")
        with pytest.raises(BadSignature):
            message.require_signature(found.version_of(rotated.roster.digest).tenants[0].identity_key, "ash")
        with pytest.raises(CallerError, match="no roster at hand"):
            found.version_of(bytes(32))

    def test_whoever_alone_makes_the_difference_is_named(self, forest: Forest) -> None:
        one = begun(forest.first)
        elm, oak = forest.card("elm"), forest.card("oak")
        assert exposed_by_difference(forest.first, with_added(one, elm).roster) == ("elm",)
        both = with_added(with_added(one, elm), oak)
        assert exposed_by_difference(forest.first, both.roster) == ()
        apart = with_added(with_added(one, elm, block=1), oak, block=1)
        assert exposed_by_difference(forest.first, apart.roster) == ()
        assert exposed_by_difference(both.roster, without(both, "oak").roster) == ("oak",)


class TestCommands:
    """A whole life: elm joins, beech's keys are rotated, ash's are revoked, cedar follows with its pin."""

    def test_add_approve_and_accept(self, forest: Forest) -> None:
        folder, roster = forest.parties.folder, forest.parties.roster_file
        forest.card("elm")
        draft, proposal, file = folder / "draft.json", folder / "proposal.json", forest.parties.tenant_file("cedar")
        told = run("roster", "add", roster, draft, folder / "elm" / "card.json")
        assert "adds 'elm'" in told and "differ by the statistics of elm alone" in told
        told = run("roster", "propose", roster, draft, proposal)
        assert "makes a block of ash, beech, cedar, elm" in told and "one block" in told
        error = refused("roster", "accept", file, proposal)
        assert "ash, beech, cedar, elm did not sign it" in error.message
        assert "is proposed already" in refused("roster", "remove", roster, proposal, "elm").message
        copy = folder / "copy.json"
        copy.write_bytes(proposal.read_bytes())
        for name, where in (("ash", proposal), ("beech", proposal), ("cedar", copy), ("elm", copy)):
            told = run("roster", "approve", roster, where, name, "--keys", folder / name)
            assert f"'{name}' approved version 2" in told and "adds 'elm'" in told
        assert "is not the one that the roster lists" in (
            refused("roster", "approve", roster, proposal, "ash", "--keys", folder / "beech").message
        )
        assert "all its tenants have" in run("roster", "gather", proposal, copy)
        before = file.read_text()
        told = run("roster", "accept", file, proposal)
        configuration = read_tenant_configuration(file)
        assert configuration.roster == folder / "roster-2.json"
        assert (
            load_roster(configuration.roster).digest.hex() == configuration.roster_hash
            and configuration.roster_hash in told
        )
        assert load_roster(roster).digest == forest.first.digest
        assert len(before.splitlines()) == len(file.read_text().splitlines())
        told = run("roster", "publish", roster, proposal, folder / "for-the-server.json")
        assert load_roster(folder / "for-the-server.json") == load_proposal(proposal).roster
        assert "version 2 " in run("roster", "history", roster, proposal)
        assert "does not follow" in refused("roster", "accept", file, proposal).message

    @pytest.mark.slow
    def test_rotate_revoke_and_remove(self, forest: Forest) -> None:
        folder, roster = forest.parties.folder, forest.parties.roster_file
        forest.card("new", name="beech")
        for name in ("elm", "oak"):
            forest.card(name)
        draft, rotation = folder / "draft.json", folder / "rotation.json"
        told = run(
            "roster", "sign-rotation", roster, rotation, "--keys", folder / "beech", "--new-keys", folder / "new"
        )
        assert "new keys of 'beech'" in told
        for name in ("elm", "oak"):
            run("roster", "add", roster, draft, folder / name / "card.json")
        run("roster", "rotate", roster, draft, rotation)
        run("roster", "revoke", roster, draft, "ash", "--reason", "laptop stolen", "--date", "2026-03-01")
        told = run("roster", "remove", roster, draft, "cedar")
        for line in (
            "revokes 'ash' on 2026-03-01: laptop stolen", "removes 'cedar'", "gives 'beech' a new identity key",
            "gives 'beech' a new certificate", "lets 'beech' hold 60 rows instead of 50", "adds 'elm' (key ", "adds 'oak' (key ",
        ):  # fmt: skip
            assert f"  {line}" in told
        proposal = folder / "proposal.json"
        run("roster", "propose", roster, draft, proposal, "--block-size", 3)
        for name, keys in (("beech", "new"), ("elm", "elm"), ("oak", "oak")):
            run("roster", "approve", roster, proposal, name, "--keys", folder / keys)
        file = forest.parties.tenant_file("beech")
        assert "still to do: the identity key in" in run("roster", "accept", file, proposal)
        told = run("roster", "show", folder / "roster-2.json")
        assert "revoked on 2026-03-01: 'ash'" in told and "follows the version whose hash begins with" in told
        gone = forest.parties.tenant_file("cedar")
        assert "no tenant 'cedar'" in refused("roster", "accept", gone, proposal).message
        assert "adds 'oak'" in run("roster", "diff", roster, proposal)

    def test_a_server_rotates_too(self, forest: Forest) -> None:
        folder, roster = forest.parties.folder, forest.parties.roster_file
        create_server_keys(folder / "server2", NOW)
        draft, rotation = folder / "draft.json", folder / "rotation.json"
        run("roster", "sign-rotation", roster, rotation, "--keys", folder / "server", "--new-keys", folder / "server2")
        assert "gives 'server' a new identity key" in run("roster", "rotate", roster, draft, rotation)
        run("roster", "propose", roster, draft, folder / "proposal.json")

    def test_a_fork_is_told(self, forest: Forest) -> None:
        folder, roster = forest.parties.folder, forest.parties.roster_file
        paths = []
        for name in ("elm", "oak"):
            forest.card(name)
            paths.append(folder / f"to-{name}.json")
            run("roster", "add", roster, folder / f"draft-{name}.json", folder / name / "card.json")
            run("roster", "propose", roster, folder / f"draft-{name}.json", paths[-1])
            run("roster", "approve", roster, paths[-1], "ash", "--keys", folder / "ash")
        told = run("roster", "history", roster, *paths)
        assert "FORK: " in told and "signed more than one of them: ash" in told

    def test_an_expired_certificate_is_rotated_before_anything_else(self, make_parties: MakeParties) -> None:
        old = NOW - datetime.timedelta(days=824)
        forest = Forest(make_parties("aging", now=old))
        forest.card("elm")
        folder, roster = forest.parties.folder, forest.parties.roster_file
        assert "its party should rotate its keys" in run("roster", "show", roster)
        expired = Forest(make_parties("expired", now=NOW - datetime.timedelta(days=900)))
        expired.card("elm")
        folder, roster = expired.parties.folder, expired.parties.roster_file
        assert "EXPIRED on" in run("roster", "show", roster)
        run("roster", "add", roster, folder / "draft.json", folder / "elm" / "card.json")
        error = refused("roster", "propose", roster, folder / "draft.json", folder / "proposal.json")
        assert "expired on" in error.message

    @pytest.mark.parametrize(
        "text", ['roster_hash="{pin}"', "  roster_hash  =  '{pin}'  # approved in March", 'roster = "roster.json"\nroster_hash = "{pin}"']
    )  # fmt: skip
    def test_only_the_two_lines_of_the_pin_change(self, forest: Forest, text: str) -> None:
        proposal = forest.signed_by(proposed(forest.first, with_added(begun(forest.first), forest.card("elm"))))
        path, file = forest.parties.folder / "proposal.json", forest.parties.tenant_file("cedar")
        path.write_text(proposal.to_json())
        rest = 'name = "cedar"\nkeys = "cedar"  # kept\ndata = "cedar.csv"\n\n[policy]\nround_cap = 7\n'
        file.write_text(text.replace("{pin}", forest.first.digest.hex()) + "\n" + rest)
        run("roster", "accept", file, path)
        assert file.read_text().endswith(rest) and read_tenant_configuration(file).roster.name == "roster-2.json"
        assert read_tenant_configuration(file).roster_hash == proposal.roster.digest.hex()

    def test_a_policy_that_lists_rosters_must_list_the_next_one_first(self, forest: Forest) -> None:
        proposal = forest.signed_by(proposed(forest.first, with_added(begun(forest.first), forest.card("elm"))))
        path = forest.parties.folder / "proposal.json"
        path.write_text(proposal.to_json())
        pin = forest.first.digest.hex()
        file = forest.parties.tenant_file("cedar", policy=f'{{rosters = ["{pin}"]}}')
        assert "version 2 is none of them" in refused("roster", "accept", file, path).message
        both = f'{{rosters = ["{pin}", "{proposal.roster.digest.hex()}"]}}'
        run("roster", "accept", forest.parties.tenant_file("cedar", policy=both), path)

    def test_files_that_are_none(self, forest: Forest) -> None:
        path = forest.parties.folder / "nothing.json"
        assert "there is no roster at" in refused("roster", "diff", path, path).message
        path.write_text("{")
        assert "neither a roster nor a proposal" in refused("roster", "history", path).message
        path.write_text("{}")
        assert "roster.json" not in refused("roster", "gather", path, path).message
        assert "fed-em roster sign-rotation" in (
            refused("roster", "rotate", forest.parties.roster_file, forest.parties.folder / "d.json", path).remedy
        )
