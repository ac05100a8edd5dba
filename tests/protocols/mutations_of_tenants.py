"""Mutations of a tenant's rules: headers, certificates, windows, increments, the mass gate."""

from __future__ import annotations

from typing import Any

from fed_em_protocols import (
    certification,
    description,
    mass_gate,
    tenant,
    tenant_outcome,
    tenant_round,
    tenant_window,
    window,
)
from fed_em_protocols.errors import MalformedMessage, PeerFault
from fed_em_protocols.messages import Mode, Opening
from fed_em_protocols.terms import Trust
from fed_em_simulations.memory_hub import Direction
from tests.protocols import (
    test_compromise,
    test_endorsements,
    test_gate_rules,
    test_increment_rules,
    test_links,
    test_mass_gate,
    test_secrecy,
    test_tenant_rules,
    test_what_masks_hide,
    test_window_rules,
)
from tests.protocols.mutants import Mutation, Red, method, test_of

TRUSTED, UNTRUSTED = Trust.SEMI_HONEST, Trust.MALICIOUS_SERVER


def header_case(**changes: Any) -> Red:
    """One of the headers that do not fit."""
    case = next(case for case in test_tenant_rules.HEADERS_THAT_DO_NOT_FIT if case[0] == changes)
    return test_of(test_tenant_rules.test_a_header_that_does_not_fit_is_refused, *case)


def under_either_trust(function: Any, *arguments: Any) -> tuple[Red, ...]:
    """A test of both kinds of session."""
    return tuple(test_of(function, trust, *arguments) for trust in Trust)


HEADERS = [
    Mutation(
        "the mark is not recorded",
        tenant_round.tenant_upload,
        "marks.record(header.session, current.number)",
        "pass",
        (test_of(test_tenant_rules.test_no_upload_leaves_before_its_mark_is_durable),),
    ),
    Mutation(
        "the mark is not obeyed",
        tenant_round._require_fresh_round,
        "max(state.highest_round, marks.highest(header.session), ",
        "max(state.highest_round, ",
        (test_of(test_tenant_rules.test_a_mark_above_the_state_is_obeyed),),
    ),
    Mutation(
        "the mark of an endorsement is not obeyed",
        tenant_round._require_fresh_round,
        ", marks.endorsed(header.session)[0])",
        ")",
        (test_of(test_tenant_rules.test_an_endorsement_above_the_state_is_obeyed),),
    ),
    Mutation(
        "a restarted tenant forgets its mark",
        tenant._on_terms,
        "highest_round=highest",
        "highest_round=0",
        (test_of(test_tenant_rules.test_a_restarted_tenant_is_out_of_the_window_and_above_its_mark),),
    ),
    Mutation(
        "a second header is taken for a round",
        tenant_round.require_one_header,
        "and sealed.digest != current.context",
        "and False",
        (
            test_of(test_tenant_rules.test_a_second_header_for_one_round_is_refused_and_proved),
            test_of(test_endorsements.test_a_second_header_is_not_endorsed_and_is_proved),
            test_of(test_what_masks_hide.test_any_tenant_of_one_half_proves_it_with_a_header_of_the_other),
        ),
    ),
    Mutation(
        "a header of another set-up is taken",
        tenant_round.accept_header,
        "window = state.window_of(header.setup)",
        "window = state.window or state.upcoming",
        (header_case(setup=bytes(32)),),
    ),
    Mutation(
        "a header of other terms is taken",
        tenant_round.accept_header,
        " or header.terms != state.terms.digest",
        "",
        (header_case(terms=bytes(32)),),
    ),
    Mutation(
        "a header may name its own witnesses",
        tenant_round.require_witnesses,
        "if header.witnesses != to_bitmap(setup.witnesses, n):",
        "if False:",
        (header_case(witnesses=b"\x07"), header_case(witnesses=b"")),
    ),
    Mutation(
        "any number of participants is asked",
        tenant_round.accept_header,
        "if len(participants) < terms.minimum_survivors:",
        "if False:",
        (header_case(participants=b"\x03"),),
    ),
    Mutation(
        "rounds beyond the window are answered",
        tenant_round.accept_header,
        "not setup.covers(header.round) or ",
        "",
        (header_case(round=5),),
    ),
    Mutation(
        "rounds beyond the session's cap are answered",
        tenant_round.accept_header,
        " or header.round > terms.round_cap",
        "",
        (test_of(test_tenant_rules.test_rounds_beyond_the_sessions_cap_are_refused),),
    ),
    Mutation(
        "a header need not follow the round before",
        tenant_round._base_after,
        "header.previous_round != header.round - 1 or ",
        "",
        (
            test_of(
                test_tenant_rules.test_a_header_that_does_not_continue_the_chain_is_refused,
                {"previous_round": 2}, MalformedMessage,
            ),
        ),
    ),
    Mutation(
        "a vector without room for a statistic is asked for",
        tenant_round.accept_header,
        "if header.length <= ring_of(header.ring, header.mode == Mode.COUNTS).tail_words:",
        "if False:",
        (header_case(length=0), header_case(length=3)),
    ),
    Mutation(
        "parameters are not bound to the header",
        tenant_round.on_header,
        "if sealed.attachment_digest != header.parameters:",
        "if False:",
        (header_case(parameters=bytes(32)),),
    ),
    Mutation(
        "an upload is computed twice",
        tenant.tenant_receive,
        "answered = _answers(state).get(sealed.digest)",
        "answered = None",
        (test_of(test_tenant_rules.test_every_message_of_a_round_is_answered_with_the_same_bytes_again),),
    ),
    Mutation(
        "a repeated message is refused in a later stage",
        tenant.tenant_receive,
        "    if answered is None:\n        _require_turn(state, kind)",
        "    _require_turn(state, kind)",
        (
            test_of(
                test_links.test_a_link_that_breaks_at_any_stage_costs_nothing_but_time,
                (Direction.TO_SERVER, Opening), {0}, TRUSTED,
            ),
        ),
    ),
    Mutation(
        "a message of another session is taken",
        tenant._require_session,
        "session != state.terms.content.session",
        "False",
        (test_of(test_tenant_rules.test_other_messages_of_another_session_are_refused),),
    ),
    Mutation(
        "a message for the last process is a fault",
        tenant.tenant_receive,
        "state.phase is TenantPhase.OUTSIDE and kind is not SessionTerms",
        "False",
        (test_of(test_links.test_a_message_meant_for_the_last_process_does_not_hurt_the_new_one),),
    ),
    Mutation(
        "the terms are not held against the policy",
        tenant.tenant_consider,
        "check_terms(state.me.policy, state.terms.content, state.me.roster)",
        "pass",
        (test_of(test_tenant_rules.test_a_tenant_whose_policy_refuses_leaves_with_a_code_for_this_session),),
    ),
    Mutation(
        "statistics of another type are converted",
        tenant_round._checked,
        "if ring.dtype != wanted.dtype:",
        "if False:",
        (test_of(test_tenant_rules.test_masks_are_added_to_integers_of_the_headers_ring_only, float, 64, "<u8"),),
    ),
    Mutation(
        "the chain is not moved on",
        tenant_round.accept_header,
        "chain=chain.advanced(header.round + 1)",
        "chain=window.secrets.chain",
        (
            test_of(test_secrecy.test_after_the_next_header_nothing_of_the_last_round_is_left),
            test_of(test_compromise.test_a_whole_state_in_mid_window_opens_no_earlier_upload),
        ),
    ),
    Mutation(
        "old answers are kept",
        tenant_round.accept_header,
        "round=TenantRound(sealed, participants, mine, base=start),",
        "round=TenantRound(sealed, participants, mine, base=start, answers=state.round.answers if state.round else {}),",
        (test_of(test_secrecy.test_after_the_next_header_nothing_of_the_last_round_is_left),),
    ),
]  # fmt: skip

WINDOWS = [
    Mutation(
        "an old window is opened again",
        tenant_window.on_open_window,
        "if known and content.number <= max(known):",
        "if False:",
        (test_of(test_window_rules.test_a_window_is_opened_once),),
    ),
    Mutation(
        "a window is opened at a round that is over",
        tenant_window.on_open_window,
        "if content.first_round + terms.window_rounds <= state.highest_round + 1:",
        "if False:",
        (
            test_of(test_window_rules.test_a_window_is_opened_once),
        ),
    ),
    Mutation(
        "graphs are drawn without end",
        tenant_window.on_setup,
        "setup.draws_graph and len(state.drawn) > MAX_RESTARTS",
        "False",
        (test_of(test_window_rules.test_the_ninth_graph_in_a_row_that_nobody_used_is_refused),),
    ),
    Mutation(
        "a sum in an older window ends the count of draws",
        tenant_window._follow,
        "state.drawn[state.drawn.index(setup) + 1 :] if setup in state.drawn else state.drawn",
        "()",
        (test_of(test_window_rules.test_rounds_in_an_older_window_do_not_buy_another_draw),),
    ),
    Mutation(
        "the opening of a window need not show a certificate",
        tenant_window._follow,
        "require_certified(certificate, header, window.fixed, state.me.roster)",
        "pass",
        (test_of(test_window_rules.test_a_round_that_was_not_certified_by_its_window_says_nothing_of_it),),
    ),
    Mutation(
        "a window in use is dropped when nobody asks",
        tenant_window._follow,
        "not opening.last_certified",
        "True",
        (test_of(test_window_rules.test_a_member_that_nobody_asked_stays_in_the_window_in_use_when_the_next_is_opened),),
    ),
    Mutation(
        "a set-up without the own keys is taken",
        tenant_window.on_setup,
        " or setup.digest_of(me.index) != window.advertised",
        "",
        (test_of(test_window_rules.test_an_own_advertisement_that_it_never_made_is_refused),),
    ),
    Mutation(
        "a witness does not ask for everybody's keys",
        tenant_window.on_neighbours,
        "me.index in setup.witnesses and len(setup.advertisements) < len(setup.members)",
        "False",
        (test_of(test_window_rules.test_a_witness_needs_the_keys_of_everybody),),
    ),
    Mutation(
        "the server may choose nonces",
        window.draw_graph,
        "if nonce_commitment(nonce) != setup.advertisements[index].content.nonce_commitment:",
        "if False:",
        (
            test_of(
                test_window_rules.test_a_draw_that_the_server_chose_is_refused,
                test_window_rules.one_chosen, PeerFault, "a nonce that its witness did not commit to",
            ),
        ),
    ),
    Mutation(
        "a nonce may be missing",
        window.draw_graph,
        "if len(nonces) != expected:",
        "if False:",
        (
            test_of(
                test_window_rules.test_a_draw_that_the_server_chose_is_refused,
                test_window_rules.without_one, MalformedMessage, "5 nonces, the window has 6 witnesses",
            ),
        ),
    ),
    Mutation(
        "a window with too few witnesses is set up",
        window.read_setup,
        "setup.quorum > len(witnesses)",
        "False",
        (test_of(test_window_rules.test_a_window_without_enough_witnesses_is_refused),),
    ),
    Mutation(
        "advertisements are not bound by the set-up",
        window._with_advertisements,
        "if sealed.digest != setup.digest_of(index):",
        "if False:",
        (test_of(test_window_rules.test_a_setup_that_does_not_fit_is_refused),),
    ),
    Mutation(
        "round keys need no signature",
        window.table_at_hand,
        "if hashlib.sha256(table).digest() != sealed.attachment_digest:",
        "if False:",
        (test_of(test_window_rules.test_round_keys_that_their_tenant_did_not_sign_are_refused),),
    ),
    Mutation(
        "window keys may be shared, if the server does not mind",
        window._with_advertisements,
        "if len(set(keys)) != len(keys):",
        "if False:",
        (test_of(test_window_rules.test_two_tenants_with_one_window_key_are_refused),),
    ),
    Mutation(
        "a window with any number of members is set up",
        window.read_setup,
        "if len(members) < terms.minimum_survivors:",
        "if False:",
        (test_of(test_window_rules.test_a_setup_that_does_not_fit_is_refused),),
    ),
]  # fmt: skip

INCREMENTS = [
    Mutation(
        "the base is not checked",
        tenant_round._increment_start,
        "if base.certain and (number, context) != (base.round, base.context):",
        "if False:",
        (
            *under_either_trust(
                test_increment_rules.test_a_base_that_is_not_the_latest_opened_round_of_the_block_is_refused
            ),
            *under_either_trust(
                test_increment_rules.test_no_whole_vector_is_sent_in_a_round_of_increments_unless_the_total_holds_nothing_of_the_block
            ),
        ),
    ),
    Mutation(
        "the context of the base is not checked",
        tenant_round._increment_start,
        "(number, context) != (base.round, base.context)",
        "number != base.round",
        under_either_trust(test_increment_rules.test_a_base_of_another_context_is_refused),
    ),
    Mutation(
        "a tenant that missed a round never checks its base again",
        tenant_round._base_after,
        "return BaseRound(previous.number, previous.context, certain=True)",
        "return replace(state.base, round=previous.number, context=previous.context)",
        (
            test_of(
                test_increment_rules.test_a_tenant_that_missed_a_round_takes_the_named_base_until_it_is_in_a_sum_again
            ),
        ),
    ),
    Mutation(
        "a round that was not opened moves the base",
        tenant_round._base_after,
        "header.previous_outcome != Outcome.OPENED or ",
        "",
        (
            test_of(
                test_increment_rules.test_a_certified_round_that_was_not_opened_leaves_every_base_and_the_total,
                Mode.INCREMENT,
            ),
        ),
    ),
    Mutation(
        "a round of counts moves the base",
        tenant_round._base_after,
        " or previous.header.content.mode == Mode.COUNTS",
        "",
        (test_of(test_increment_rules.test_a_round_of_counts_moves_no_base),),
    ),
    Mutation(
        "a base round leaves older bases",
        tenant_round._base_after,
        "return BaseRound(certain=True) if previous.header.content.mode == Mode.WHOLE else state.base",
        "return state.base",
        (test_of(test_increment_rules.test_a_base_round_leaves_no_older_base),),
    ),
    Mutation(
        "whole vectors are sent in rounds of increments",
        tenant_round.tenant_upload,
        "whole if current.base is None else whole - state.vectors[current.base[1]].ring",
        "whole",
        under_either_trust(test_increment_rules.test_an_increment_is_the_difference_to_the_base),
    ),
    Mutation(
        "a base of another encoding is taken",
        tenant_round._require_same_encoding,
        "if (encoding, ring, length) != (header.encoding, header.ring, header.length):",
        "if False:",
        (test_of(test_increment_rules.test_a_base_of_another_encoding_is_refused, {"encoding": b"e" * 32}),),
    ),
    Mutation(
        "a base in another ring is taken",
        tenant_round._require_same_encoding,
        "(encoding, ring, length) != (header.encoding, header.ring, header.length)",
        "(encoding, length) != (header.encoding, header.length)",
        (test_of(test_increment_rules.test_a_base_of_another_encoding_is_refused, {"ring": 32}),),
    ),
    Mutation(
        "counts are taken for a base",
        tenant_round.on_base,
        "if base.mode == Mode.COUNTS:",
        "if False:",
        (test_of(test_increment_rules.test_counts_are_no_base),),
    ),
    Mutation(
        "any header is taken for the base",
        tenant_round.on_base,
        "if quoted.digest != current.base[1] or base.round != current.base[0]:",
        "if False:",
        (
            test_of(
                test_increment_rules.test_a_base_that_is_not_the_one_asked_for_is_refused,
                "another round", MalformedMessage, "another base round than its header names",
            ),
        ),
    ),
    Mutation(
        "any parameters are taken for those of the base",
        tenant_round.on_base,
        "if hashlib.sha256(sealed.attachment).digest() != base.parameters:",
        "if False:",
        (
            test_of(
                test_increment_rules.test_a_base_that_is_not_the_one_asked_for_is_refused,
                "other parameters", MalformedMessage, "parameters that are not those of the base round",
            ),
        ),
    ),
    Mutation(
        "base rounds need not fit the blocks",
        tenant_round._increment_start,
        "len(header.base_rounds) != len(units) or ",
        "",
        (
            test_of(
                test_increment_rules.test_base_rounds_that_do_not_fit_are_refused,
                {"base_rounds": (1,) * 9}, "do not fit the roster's blocks",
            ),
        ),
    ),
]  # fmt: skip


def false_counts(forge: Any, error: type, text: str) -> Red:
    return test_of(test_gate_rules.test_false_evidence_of_counts_is_refused, forge, error, text)


OF_CELLS, OF_COMPLEMENT = test_mass_gate.TestOfObservedCells(), test_mass_gate.TestComplement()

RULE_OF_THE_GATE = [
    Mutation(
        "a gate counts records and no cells",
        mass_gate.held_components,
        "(records, *columns)",
        "(records,)",
        (
            test_of(OF_CELLS.test_one_cell_holds_a_component_of_a_hundred_rows_and_the_smallest_other_with_it),
            test_of(OF_CELLS.test_cells_of_one_tenant_alone_hold_it_too),
        ),
    ),
    Mutation(
        "one tenant may be all of what is opened",
        method(mass_gate._Presence, "is_small"),
        " or max(self.supporting[k] for k in components) < least_tenants",
        "",
        (
            test_of(OF_CELLS.test_cells_of_one_tenant_alone_hold_it_too),
            test_of(OF_COMPLEMENT.test_many_records_of_too_few_tenants_need_one),
        ),
    ),
    Mutation(
        "what is held may follow by subtraction",
        mass_gate.held_components,
        "if held and others and is_small(held):",
        "if False:",
        (
            test_of(OF_COMPLEMENT.test_one_small_component_takes_the_smallest_open_one_with_it),
            test_of(OF_CELLS.test_one_cell_holds_a_component_of_a_hundred_rows_and_the_smallest_other_with_it),
        ),
    ),
    Mutation(
        "weights are let behind a gate",
        description.require_gateable,
        "description.weights,",
        "None,",
        (test_of(test_mass_gate.test_weights_and_a_mass_floor_do_not_go_together),),
    ),
]

GATE = [
    Mutation(
        "any gate is taken",
        tenant_round._require_gate,
        "if header.held and gate is not None and (gate.survivors != participants or gate.held != header.held):",
        "if False:",
        (
            test_of(test_gate_rules.test_a_gate_that_the_counts_do_not_give_is_refused, {"held": b"\0"}),
            test_of(test_gate_rules.test_a_gate_that_the_counts_do_not_give_is_refused, {"among": [0, 1, 3]}),
        ),
    ),
    Mutation(
        "more may be opened than the counts give",
        tenant_round._require_gate,
        " or gate.held != header.held",
        "",
        (test_of(test_gate_rules.test_a_gate_that_the_counts_do_not_give_is_refused, {"held": b"\0"}),),
    ),
    Mutation(
        "a gate serves other tenants than those who were counted",
        tenant_round._require_gate,
        "gate.survivors != participants or ",
        "",
        (test_of(test_gate_rules.test_a_gate_that_the_counts_do_not_give_is_refused, {"among": [0, 1, 3]}),),
    ),
    Mutation(
        "moments are given without counts",
        tenant_round.on_header,
        "if header.held and _known_gate(state, header) is None:",
        "if False:",
        (
            test_of(test_gate_rules.test_a_gate_without_counts_is_refused),
            test_of(test_gate_rules.test_a_gate_serves_the_round_after_its_counts_only),
        ),
    ),
    Mutation(
        "whoever counted nothing applies a rule all the same",
        tenant_outcome.on_counted,
        "if current.stage is RoundStage.NONE:",
        "if False:",
        (test_of(test_gate_rules.test_a_witness_that_counted_nothing_itself_has_no_gate),),
    ),
    Mutation(
        "a gate serves for ever",
        tenant_round._known_gate,
        "state.gate.round == header.round - 1",
        "True",
        (test_of(test_gate_rules.test_a_gate_serves_the_round_after_its_counts_only),),
    ),
    Mutation(
        "moments behind a gate are opened for fewer than were counted",
        certification.require_admissible,
        "if header.held and survivors != participants:",
        "if False:",
        (test_of(test_gate_rules.test_moments_behind_a_gate_are_those_of_all_who_were_counted),),
    ),
    Mutation(
        "uploads of counts are not held against their certificate",
        tenant_outcome._recomputed,
        'if survivors_root(survivors, b"".join(evidence)) != certificate.root:',
        "if False:",
        (
            false_counts(
                test_gate_rules.with_a_changed_byte(test_gate_rules.UPLOAD),
                PeerFault, "other uploads of counts than those that were certified",
            ),
        ),
    ),
    Mutation(
        "keys of counts are not checked",
        tenant_outcome._recomputed,
        "if not ring.is_sum(total):",
        "if False:",
        (
            false_counts(
                test_gate_rules.with_a_changed_byte(test_gate_rules.SELF_KEY),
                PeerFault, "keys that do not open the certified counts",
            ),
            false_counts(
                test_gate_rules.with_a_false_pair_key, PeerFault, "keys that do not open the certified counts"
            ),
        ),
    ),
    Mutation(
        "the certificate of counts is not checked",
        tenant_outcome.on_counted,
        "certified = _accept_certificate(state, current, window, certificate)",
        "certified = replace(current, survivors=from_bitmap(certificate.content.survivors, state.me.roster.n))",
        (
            test_of(test_gate_rules.test_whoever_has_seen_no_outcome_checks_the_certificate_of_the_counts),
            false_counts(test_gate_rules.under_a_certificate_of_others, PeerFault, "two different outcomes"),
        ),
    ),
    Mutation(
        "any sum is taken for counts",
        tenant_outcome.on_counted,
        "if current.header.content.mode != Mode.COUNTS:",
        "if False:",
        (test_of(test_gate_rules.test_counts_of_a_round_that_counted_nothing_are_refused),),
    ),
]  # fmt: skip

RULES_OF_THE_TENANT = [*HEADERS, *WINDOWS, *INCREMENTS, *RULE_OF_THE_GATE, *GATE]
