"""Mutations of the rules on certificates: what a tenant endorses, and under what it releases anything."""

from __future__ import annotations

from typing import Any

from fed_em_protocols import certification, tenant_outcome, tenant_round
from fed_em_protocols.errors import OutOfTurn, PeerFault
from fed_em_protocols.terms import Trust
from tests.protocols import test_certificates, test_endorsements
from tests.protocols.mutants import Mutation, Red, test_of
from tests.protocols.mutations_of_tenants import UNTRUSTED, under_either_trust


def no_certificate(forge: Any) -> Red:
    """One of the certificates that are none."""
    case = next(case for case in test_certificates.NO_CERTIFICATES if case[0] is forge)
    return test_of(test_certificates.test_what_is_no_certificate_releases_nothing, *case)


def unfit_survivors(participants: list[int], survivors: list[int], error: type, text: str) -> tuple[Red, ...]:
    function = test_certificates.test_a_certificate_of_unfit_survivors_is_refused
    return tuple(test_of(function, trust, participants, survivors, error, text) for trust in Trust)


CERTIFICATES = [
    Mutation(
        "a quorum less one is enough",
        certification.require_certified,
        "if len(endorsers) < quorum:",
        "if len(endorsers) < quorum - 1:",
        (
            no_certificate(test_certificates.fewer),
            test_of(
                test_certificates.test_who_is_no_witness_of_a_sparse_graph_endorses_nothing_and_its_word_counts_for_nothing
            ),
        ),
    ),
    Mutation(
        "no quorum is needed",
        certification.require_certified,
        "quorum = quorum_of(terms, len(witnesses))",
        "quorum = 0",
        (no_certificate(test_certificates.none_at_all),),
    ),
    Mutation(
        "endorsers need not be witnesses",
        certification.require_certified,
        "not witnesses.intersection(keys.witnesses).issuperset(endorsers) or ",
        "",
        (
            test_of(
                test_certificates.test_who_is_no_witness_of_a_sparse_graph_endorses_nothing_and_its_word_counts_for_nothing
            ),
        ),
    ),
    Mutation(
        "a certificate of another header counts",
        certification.require_certified,
        "content.context != header.digest or ",
        "",
        (test_of(test_certificates.test_certificates_belong_to_header_and_keys),),
    ),
    Mutation(
        "a certificate of another window's keys counts",
        certification.require_certified,
        " or content.setup != keys.digest",
        "",
        (test_of(test_certificates.test_certificates_belong_to_header_and_keys),),
    ),
    Mutation(
        "keys of a later window open a round",
        tenant_outcome._accept_certificate,
        "require_certified(sealed, current.header, window.fixed, roster)",
        "require_certified(sealed, current.header, (state.window_of(content.setup) or window).fixed, roster)",
        (test_of(test_endorsements.test_keys_of_a_later_window_never_open_a_round),),
    ),
    Mutation(
        "a certificate is not checked before it is opened",
        tenant_outcome._accept_certificate,
        "require_certified(sealed, current.header, window.fixed, roster)",
        "pass",
        (no_certificate(test_certificates.fewer), no_certificate(test_certificates.one_false_signature)),
    ),
    Mutation(
        "a certificate of another header is opened",
        tenant_outcome._accept_certificate,
        " or content.context != current.context",
        "",
        under_either_trust(test_certificates.test_a_second_header_is_not_opened_against_the_firsts_certificate),
    ),
    Mutation(
        "the certificate of the round before is not checked",
        tenant_round._survivors_told,
        "require_certified(certificate, previous.header, keys.fixed, state.me.roster)",
        "pass",
        (no_certificate(test_certificates.fewer), no_certificate(test_certificates.one_false_signature)),
    ),
    Mutation(
        "the certificate of the round before is not asked for",
        tenant_round._previous_certificate,
        " or (certified and header.round > 1)",
        "",
        (test_of(test_certificates.test_a_header_whose_round_before_has_no_certificate_is_refused),),
    ),
    Mutation(
        "the certificate of any round will do in the next header",
        tenant_round._previous_certificate,
        "certificate.content.round != header.previous_round or ",
        "",
        (test_of(test_certificates.test_a_header_with_the_certificate_of_another_round_is_refused, {"round": 2}),),
    ),
    Mutation(
        "the next header may tell another outcome",
        tenant_round._survivors_told,
        "require_one_outcome(previous, outcome_digest(statement_of(content)))",
        "pass",
        (
            test_of(test_certificates.test_a_hidden_certificate_and_then_void_is_refused_by_whoever_endorsed_it),
            *under_either_trust(test_certificates.test_a_certificate_that_was_opened_cannot_be_hidden_from_the_chain),
            *under_either_trust(test_certificates.test_a_hidden_certificate_cannot_be_swapped_in_the_next_header),
        ),
    ),
    Mutation(
        "a void round may be called opened",
        tenant_round._previous_certificate,
        "if header.previous_outcome == Outcome.OPENED and not any(certificate.content.survivors):",
        "if False:",
        (test_of(test_certificates.test_a_void_round_cannot_be_called_opened),),
    ),
    Mutation(
        "a second set of survivors is opened",
        tenant_round.require_one_outcome,
        "current.outcome not in {None, outcome} or ",
        "",
        (
            *under_either_trust(test_certificates.test_the_first_survivors_are_the_only_ones_for_shares),
            *under_either_trust(test_certificates.test_the_first_survivors_are_the_only_ones_for_the_own_opening),
            *under_either_trust(test_certificates.test_the_first_survivors_bind_a_holder_that_only_helps),
        ),
    ),
    Mutation(
        "an endorsement does not bind its giver",
        tenant_round.require_one_outcome,
        " or current.endorsed not in {None, outcome}",
        "",
        (
            test_of(test_certificates.test_a_hidden_certificate_and_then_void_is_refused_by_whoever_endorsed_it),
            test_of(test_certificates.test_a_round_that_was_closed_as_void_is_never_opened),
        ),
    ),
    Mutation(
        "an endorsement is forgotten by the process that gave it",
        tenant_outcome.on_proposal,
        "replace(helping.round, endorsed=outcome)",
        "helping.round",
        (
            test_of(test_certificates.test_a_round_that_was_closed_as_void_is_never_opened),
            test_of(test_endorsements.test_an_endorsement_in_one_window_binds_in_the_next),
        ),
    ),
    Mutation(
        "an endorsement is not recorded before it is signed",
        tenant_outcome._record_endorsement,
        "marks.endorse(header.session, header.round, outcome)",
        "pass",
        (
            test_of(test_endorsements.test_no_endorsement_leaves_before_its_mark_is_durable),
            test_of(test_endorsements.test_an_endorsement_before_a_restart_binds_after_it),
            test_of(test_endorsements.test_a_restarted_process_closes_a_round_of_its_former_window_once, []),
        ),
    ),
    Mutation(
        "the recorded endorsement is not obeyed",
        tenant_outcome._record_endorsement,
        " or (header.round == number and outcome != known)",
        "",
        (
            test_of(test_endorsements.test_an_endorsement_before_a_restart_binds_after_it),
            test_of(test_endorsements.test_a_restarted_process_closes_a_round_of_its_former_window_once, [0, 1, 2]),
        ),
    ),
    Mutation(
        "rounds before the recorded endorsement are endorsed",
        tenant_outcome._record_endorsement,
        "header.round < number or ",
        "",
        (test_of(test_endorsements.test_old_rounds_are_not_closed_again),),
    ),
    *(
        Mutation(
            f"an outcome is the same whatever its {part}",
            certification.outcome_digest,
            f", endorsement.{part}",
            "",
            tests,
        )
        for part, tests in {
            "survivors": (test_of(test_endorsements.test_outcomes_differ_by_context_survivors_and_root),),
            "root": (
                test_of(test_endorsements.test_outcomes_differ_by_context_survivors_and_root),
                *under_either_trust(
                    test_certificates.test_the_same_uploads_with_another_root_are_another_outcome
                ),
            ),
            "context": (test_of(test_endorsements.test_outcomes_differ_by_context_survivors_and_root),),
        }.items()
    ),
    Mutation(
        "an outcome is another one in another window",
        certification.outcome_digest,
        "endorsement.root)",
        "endorsement.root, endorsement.setup)",
        (
            test_of(test_endorsements.test_an_endorsement_before_a_restart_binds_after_it),
            test_of(test_endorsements.test_an_endorsement_in_one_window_binds_in_the_next),
        ),
    ),
    Mutation(
        "witnesses do not check the survivors' uploads",
        tenant_outcome._require_outcome,
        "require_uploads(header, survivors, evidence, window.fixed, roster)",
        "pass",
        (
            test_of(test_endorsements.test_a_survivor_that_never_uploaded_is_not_endorsed, test_endorsements.unsigned),
            test_of(test_endorsements.test_uploads_shown_in_the_wrong_places_are_not_endorsed),
        ),
    ),
    *(
        Mutation(
            f"an upload of another {part} will do",
            certification.require_uploads,
            old,
            new,
            (test_of(test_endorsements.test_a_survivor_that_never_uploaded_is_not_endorsed, forge),),
        )
        for part, old, new, forge in (
            (
                "context", "header.digest)", 'setup.opening.digest)', test_endorsements.of_another_context,
            ),
            ("tenant", "setup.window_key(index)", "setup.window_key(3)", test_endorsements.of_another_tenant),
        )
    ),
    Mutation(
        "witnesses do not hold the survivors against the terms",
        tenant_outcome._require_outcome,
        "require_admissible(survivors, header.content, participants, window.fixed, roster)",
        "pass",
        (
            test_of(test_certificates.test_survivors_that_split_a_block_are_refused, UNTRUSTED, [8]),
            test_of(test_endorsements.test_a_witness_that_still_knows_the_uploads_checks_them_under_any_keys),
        ),
    ),
    Mutation(
        "whoever is no witness endorses",
        tenant_outcome._require_outcome,
        "if state.me.index not in witnesses:",
        "if False:",
        (
            test_of(
                test_certificates.test_who_is_no_witness_of_a_sparse_graph_endorses_nothing_and_its_word_counts_for_nothing
            ),
        ),
    ),
    Mutation(
        "holders do not hold the survivors against the terms",
        tenant_outcome._accept_certificate,
        "require_admissible(survivors, current.header.content, current.participants, window.fixed, roster)",
        "pass",
        (
            *under_either_trust(test_certificates.test_survivors_that_split_a_block_are_refused, [8]),
            *under_either_trust(
                test_certificates.test_the_own_minimum_of_the_terms_is_enforced_on_participants_and_survivors
            ),
            test_of(
                test_certificates.test_survivors_that_leave_a_tenant_with_too_few_neighbours_on_a_side_are_refused
            ),
        ),
    ),
    Mutation(
        "any number of survivors is opened",
        certification.require_admissible,
        "if len(survivors) < terms.minimum_survivors:",
        "if False:",
        (
            *unfit_survivors([0, 1, 2, 3], [0, 1], PeerFault, "sum of 2 tenants, the terms say 3"),
            test_of(test_certificates.test_a_void_certificate_opens_nothing),
        ),
    ),
    Mutation(
        "survivors that split a block are opened",
        certification.require_admissible,
        "if whole != survivors:",
        "if False:",
        under_either_trust(test_certificates.test_survivors_that_split_a_block_are_refused, [1, 2]),
    ),
    Mutation(
        "weakly tied survivors are opened",
        certification.require_admissible,
        "if admissible_survivors(survivors, setup, roster) != survivors:",
        "if False:",
        (
            test_of(
                test_certificates.test_survivors_that_leave_a_tenant_with_too_few_neighbours_on_a_side_are_refused
            ),
        ),
    ),
    Mutation(
        "a sum without the own upload is opened",
        tenant_outcome.on_certificate,
        "if state.me.index not in survivors:",
        "if False:",
        unfit_survivors([0, 1, 2, 3], [1, 2, 3], OutOfTurn, "upload"),
    ),
    Mutation(
        "shares are given without end",
        tenant_outcome.on_recover,
        "if current.recoveries >= _MOST_RECOVERIES:",
        "if False:",
        (test_of(test_certificates.test_shares_are_asked_for_a_few_times_only),),
    ),
]  # fmt: skip
