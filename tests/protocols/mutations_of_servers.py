"""Mutations of the server's rules: what it checks of tenants, and whom it waits for."""

from __future__ import annotations

from fed_em_protocols import (
    certification,
    coordinator,
    coordinator_round,
    coordinator_state,
    coordinator_window,
    envelope,
    round_sum,
    running_total,
    window,
)
from fed_em_protocols.messages import Advertise, Certificate, Endorsement, Opening, Upload
from fed_em_protocols.ring import RING_64
from fed_em_protocols.terms import Trust
from fed_em_simulations.liars import with_changes
from fed_em_simulations.memory_hub import Direction
from tests.protocols import (
    test_blocks,
    test_coordinator_rules,
    test_gate_links,
    test_lies,
    test_links,
    test_round_sum,
    test_running_total,
)
from tests.protocols.mutants import Mutation, method, test_of

TO_TENANT, TO_SERVER = Direction.TO_TENANT, Direction.TO_SERVER
TRUSTED, UNTRUSTED = Trust.SEMI_HONEST, Trust.MALICIOUS_SERVER
others_get_their_sum = test_lies.test_whatever_one_tenant_does_the_others_get_their_sum

LIES = [
    Mutation(
        "pair keys are not checked against shares",
        coordinator_round._finish,
        "if current.dropped and not checked:",
        "if False:",
        (test_of(test_lies.test_a_false_pair_key_is_replaced_through_shares_and_its_giver_named),),
    ),
    Mutation(
        "a self seed is not checked against its commitment",
        coordinator_round.on_opening,
        "if commitment(content.self_seed) !=",
        "if False and",
        (test_of(test_lies.test_a_false_self_seed_is_refused_and_recovered),),
    ),
    Mutation(
        "a secret made of shares is not checked",
        coordinator_round.recovering_stage,
        "or not _is_the_advertised(setup, dealer, which, secret, current.number)",
        "",
        (test_of(test_lies.test_a_dealers_false_shares_name_the_dealer_when_it_falls_silent),),
    ),
    Mutation(
        "a dealer that is found out stays in the window",
        coordinator_round._dealt_falsely,
        "active=window.active - {dealer}",
        "active=window.active",
        (test_of(test_lies.test_a_dealer_that_is_found_out_leaves_the_window_even_if_it_lives),),
    ),
    Mutation(
        "shares are not checked against the dealer's root",
        coordinator_round.on_shares,
        "if not share_is_dealt(",
        "if False and share_is_dealt(",
        (test_of(test_lies.test_a_holders_false_share_names_the_holder_and_the_others_suffice),),
    ),
    Mutation(
        "a holder may release its own secret",
        coordinator_round.on_shares,
        " or index not in setup.neighbours(released.dealer)",
        "",
        (test_of(test_lies.test_a_share_of_its_own_secret_names_the_holder),),
    ),
    Mutation(
        "two uploads of one tenant are summed",
        coordinator_round.on_upload,
        "if index in current.uploads:",
        "if False:",
        (
            test_of(
                test_lies.test_two_different_messages_where_one_is_allowed_are_equivocation,
                Upload, "uploaded two vectors for one round",
            ),
        ),
    ),
    Mutation(
        "an endorsement of another outcome counts",
        coordinator_round.on_endorsement,
        "if outcome_digest(content) != outcome_digest(_statement(state, header, outcome)):",
        "if False:",
        (test_of(others_get_their_sum, Endorsement, with_changes(root=bytes(32)), "endorsed another outcome of round 1"),),
    ),
    Mutation(
        "a round is opened with one endorsement less",
        coordinator_round.certifying_stage,
        "if len(outcome.endorsements) >= quorum:",
        "if len(outcome.endorsements) >= quorum - 1:",
        (test_of(test_lies.test_a_round_that_a_quorum_does_not_certify_is_not_opened),),
    ),
    Mutation(
        "other serialisations of uploads and endorsements are taken",
        envelope.restored,
        "payload = _payload_of(content)",
        "payload = _payload_of(content) + bytes(1)",
        (test_of(test_coordinator_rules.test_only_one_serialisation_of_what_others_must_rebuild_is_taken),),
    ),
    Mutation(
        "a base that nobody named is told",
        coordinator_round.on_ask_base,
        "if header.digest == sealed.content.base",
        "if True",
        (
            test_of(
                test_lies.test_a_base_that_nobody_named_is_not_told, 2, "asks for a base round that nobody named",
            ),
        ),
    ),
    Mutation(
        "a nonce is not checked against its commitment",
        coordinator_window.on_reveal,
        "if nonce_commitment(sealed.content.nonce) !=",
        "if False and",
        (
            test_of(
                test_lies.test_a_witness_that_does_not_reveal_its_nonce_is_excused,
                with_changes(nonce=b"n" * 32), "revealed a nonce that it did not commit to",
            ),
        ),
    ),
    Mutation(
        "keys of small order are let through",
        window.check_round_keys,
        "if any(is_of_small_order(",
        "if False and any(is_of_small_order(",
        (test_of(others_get_their_sum, Advertise, with_changes(channel_key=bytes(32)), "small order"),),
    ),
    Mutation(
        "window keys may be shared",
        coordinator_window.on_advertise,
        "if window.window_keys.get(window_key, index) != index:",
        "if False:",
        (test_of(test_lies.test_two_tenants_that_share_a_window_key_do_not_stop_the_others),),
    ),
]  # fmt: skip

SUMS = [
    Mutation(
        "part of a block joins the sum",
        method(round_sum.RoundSum, "with_upload"),
        "if members | {index} == unit:",
        "if True:",
        (test_of(test_round_sum.test_the_sum_is_of_the_units_that_are_complete, RING_64),),
    ),
    Mutation(
        "blocks are not summed whole",
        certification.admissible_survivors,
        "survivors = whole_units(units, uploaded)",
        "survivors = uploaded",
        (test_of(test_blocks.test_a_late_upload_takes_its_block_out_of_that_round),),
    ),
    Mutation(
        "the total forgets the terms of those who are away",
        method(running_total.RunningTotal, "with_increment"),
        "vector=self.vector + opened",
        "vector=opened",
        (test_of(test_running_total.test_the_first_round_is_of_whole_vectors_and_all_others_are_increments),),
    ),
    Mutation(
        "a unit that was away is told the newest base",
        method(running_total.RunningTotal, "with_increment"),
        "number if unit <= survivors else base for",
        "number for",
        (test_of(test_blocks.test_a_late_upload_takes_its_block_out_of_that_round),),
    ),
    Mutation(
        "the total is moved by a round that was not opened",
        coordinator_state.fail_request,
        "previous = PreviousRound(current.number, Outcome.NOT_OPENED,",
        "previous = PreviousRound(current.number, Outcome.OPENED if current.certificate else Outcome.NOT_OPENED,",
        (
            test_of(test_running_total.test_a_round_that_is_certified_and_not_opened_moves_no_base, UNTRUSTED),
            test_of(test_running_total.test_a_round_that_is_certified_and_not_opened_moves_no_base, TRUSTED),
        ),
    ),
]  # fmt: skip

WAITING = [
    Mutation(
        "a new process stays in its predecessor's window",
        coordinator._forget_predecessor,
        "active=one.active - {index}",
        "active=one.active",
        (test_of(test_links.test_a_restarted_process_is_out_of_the_window_and_in_the_next),),
    ),
    Mutation(
        "a certificate goes to whoever is linked",
        coordinator_round._ask_to_open,
        "current.survivors & cast(Window, state.window).active",
        "current.survivors",
        (test_of(test_links.test_a_certificate_does_not_go_to_the_successor_of_the_process_that_uploaded),),
    ),
    Mutation(
        "whoever owes nothing is late",
        coordinator_state.mark_late,
        "for i in owing if",
        "for i in state.members if",
        (test_of(test_links.test_processes_that_restart_all_at_once_are_not_taken_for_late),),
    ),
    Mutation(
        "a tenant that flaps is waited for again and again",
        coordinator._waited_for,
        " or member.waited_in >= state.last_round",
        "",
        (test_of(test_links.test_gathering_ends_whoever_comes_and_goes, True, test_links.SHORT_TIMES.patience),),
    ),
    Mutation(
        "nobody who is away is waited for",
        method(coordinator_state.Member, "hoped_for"),
        "(self.linked or now < self.wait_until)",
        "self.linked",
        (
            test_of(
                test_links.test_a_link_that_breaks_at_any_stage_costs_nothing_but_time,
                (TO_TENANT, Certificate), {0, 1, 2}, UNTRUSTED,
            ),
            test_of(
                test_links.test_a_link_that_breaks_at_any_stage_costs_nothing_but_time,
                (TO_SERVER, Opening), {0, 1, 2}, TRUSTED,
            ),
        ),
    ),
    Mutation(
        "gathering waits as long as anybody is away",
        coordinator._gather,
        "held_up = away and now < state.give_up",
        "held_up = away",
        (test_of(test_links.test_a_patience_longer_than_the_gathering_stalls_nobody),),
    ),
    Mutation(
        "windows are opened without end",
        coordinator._open_next_window,
        "if state.windows_opened - state.windows_before >= _WINDOWS_A_REQUEST:",
        "if False:",
        (test_of(test_links.test_restarts_between_set_up_and_round_do_not_open_windows_for_ever),),
    ),
    Mutation(
        "a tenant that never gets into a window is tried as often as any other",
        coordinator_window.wants_window,
        "min(state.members[index].missed, _MOST_DOUBLINGS)",
        "0",
        (test_of(test_links.test_a_tenant_that_never_gets_into_a_window_is_tried_ever_more_rarely),),
    ),
    Mutation(
        "whoever was too slow for the set-up is asked to endorse",
        coordinator_state.endorsers_of,
        "state.members.of_processes(window.confirmed)",
        "same_process(state, window)",
        (test_of(test_links.test_a_tenant_that_was_too_slow_for_the_set_up_is_not_asked_to_endorse),),
    ),
]  # fmt: skip

GATE = [
    Mutation(
        "counts that are lost with a link are not told again",
        coordinator._counts_for,
        "if counts and",
        "if False and",
        (
            test_of(test_gate_links.test_on_a_new_link_the_counts_come_before_the_moments_that_stand_behind_them, {1}),
            test_of(
                test_gate_links.test_a_link_that_breaks_at_any_step_costs_nothing_but_time,
                test_gate_links.COUNTS, (TO_SERVER, Opening), {1},
            ),
        ),
    ),
    Mutation(
        "a process that started after the counts is asked for moments",
        coordinator._start_gated,
        " if state.members[index].boot == boot",
        "",
        (
            test_of(
                test_gate_links.test_a_process_that_starts_after_the_counts_is_not_asked_for_moments_in_the_next_window
            ),
        ),
    ),
]  # fmt: skip

RULES_OF_THE_SERVER = [*LIES, *SUMS, *WAITING, *GATE]
