"""Mutations of the protocol's code, each of which must turn a named test red: the breaks of other systems, and our own rules.

A mutation replaces a piece of a function's source. The named tests are run with the mutant in place, and must fail.
"""

from __future__ import annotations

import inspect
import sys
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from types import FunctionType
from typing import Any

import pytest

from fed_em_protocols import (
    boxes,
    coordinator,
    coordinator_round,
    coordinator_state,
    coordinator_window,
    deposits,
    encoding,
    envelope,
    keys,
    masks,
    round_keys,
    shamir,
    tenant,
    terms,
    window,
)
from fed_em_protocols.errors import OutOfTurn
from fed_em_protocols.messages import (
    Advertise,
    Certificate,
    Deposit,
    Hello,
    Join,
    Opening,
    Ready,
    Refusal,
    Shares,
    Upload,
)
from fed_em_simulations.memory_hub import Direction
from tests.protocols import (
    test_dropout,
    test_encoding,
    test_envelope,
    test_keys,
    test_lies,
    test_links,
    test_masks,
    test_roster_terms_policy,
    test_round_keys,
    test_secrecy,
    test_shamir,
    test_tenant_rules,
    test_vectors,
)
from tests.protocols.examples import EXAMPLES
from tests.protocols.liars import with_changes

Red = Callable[[], object]


@dataclass(frozen=True)
class Mutation:
    """`old` becomes `new` in the source of `where` (a function, or a method named "Class.method" of a module)."""

    name: str
    where: Callable[..., Any]
    old: str
    new: str
    turns_red: tuple[Red, ...]

    def __str__(self) -> str:
        return self.name


def test_of(function: Callable[..., object], *arguments: Any) -> Red:
    """A named test with its arguments; a property-based one runs with all its examples."""
    return lambda: function(*arguments)


test_of.__test__ = False


def method(owner: type, name: str) -> FunctionType:
    """The plain function behind a method, class method or cached property."""
    found = inspect.getattr_static(owner, name)
    found = getattr(found, "__func__", None) or getattr(found, "func", None) or getattr(found, "fget", None) or found
    assert isinstance(found, FunctionType)
    return found


def put_in_place(patch: pytest.MonkeyPatch, original: Callable[..., Any], mutant: FunctionType) -> None:
    """Bind the mutant wherever the original is bound: in its class, and in every module that imported it."""
    *owner, name = original.__qualname__.split(".")
    if owner:
        patch.setattr(getattr(sys.modules[original.__module__], owner[0]), name, mutant)
        return
    for module in [m for key, m in sys.modules.items() if key.startswith(("fed_em", "tests."))]:
        for bound, value in list(vars(module).items()):
            if value is original:
                patch.setattr(module, bound, mutant)
            elif isinstance(value, dict) and original in [v for v in value.values() if isinstance(v, FunctionType)]:
                for key in [k for k, v in value.items() if v is original]:
                    patch.setitem(value, key, mutant)


def mutant_of(mutation: Mutation) -> FunctionType:
    source = textwrap.dedent(inspect.getsource(mutation.where))
    assert source.count(mutation.old) == 1, (
        f"{mutation.old!r} stands {source.count(mutation.old)} times in {mutation.where}"
    )
    scope: dict[str, Any] = {}
    exec(compile(source.replace(mutation.old, mutation.new), mutation.name, "exec"), mutation.where.__globals__, scope)
    (mutant,) = scope.values()
    assert isinstance(mutant, FunctionType)
    return mutant


def goes_red(red: Red) -> bool:
    """Whether a test fails: by an assertion, by an error, or because something was not raised."""
    try:
        red()
    except (Exception, pytest.fail.Exception):
        return True
    return False


# --- the tests that mutations are tried against ---

TO_TENANT, TO_SERVER = Direction.TO_TENANT, Direction.TO_SERVER
one_round = test_of(test_dropout.check, [test_dropout.NEVER] * 3, 0)
own_signature = test_lies.test_every_message_must_carry_its_tenants_own_signature


def header_case(place: int) -> Red:
    """One case of the headers that do not fit."""
    marks = test_tenant_rules.test_a_header_that_does_not_fit_is_refused.pytestmark  # type: ignore[attr-defined]
    return test_of(test_tenant_rules.test_a_header_that_does_not_fit_is_refused, *marks[0].args[1][place])


BREAKS_OF_OTHER_SYSTEMS = [
    Mutation(
        "self seed folded to 32 bits",
        round_keys.self_mask_key,
        'derive("self", self_seed, MASK_KEY_BYTES, context)',
        'derive("self", self_seed, MASK_KEY_BYTES, context)[:4] + bytes(12)',
        (
            test_of(test_round_keys.test_mask_keys_use_all_their_bytes),
            test_of(test_vectors.test_vectors_are_what_the_code_gives, "round"),
        ),
    ),
    Mutation(
        "pairwise seed cut to 16 bits",
        method(round_keys.AgreementKey, "pair_mask_key"),
        "MASK_KEY_BYTES, context, low, high)",
        "MASK_KEY_BYTES, context, low, high)[:2] + bytes(14)",
        (test_of(test_round_keys.test_mask_keys_use_all_their_bytes),),
    ),
    Mutation(
        "one id accepted as dead and alive",
        tenant._members,
        'if not found <= frozenset(cast("frozenset[int]", within)):',
        "if False:",
        (test_of(test_tenant_rules.test_shares_of_both_secrets_of_one_tenant_are_never_released, [3], [3]),),
    ),
    Mutation(
        "keys of two rounds related by XOR",
        method(round_keys.KeyChain, "current"),
        'derive("round", self.key, 2 * KEY_BYTES, self.round)',
        'bytes(byte ^ self.round % 256 for byte in derive("round", b"", 2 * KEY_BYTES))',
        (test_of(test_round_keys.test_secrets_of_all_rounds_differ_and_look_random),),
    ),
    Mutation(
        "masks added in floating point",
        masks.add_masks,
        "combine(piece, keystream, out=piece)",
        "piece[:] = combine(piece.astype(np.float64), keystream.astype(np.float64)) % 2.0**64",
        (test_of(test_masks.test_masks_cancel, 16_385), one_round),
    ),
    Mutation(
        "a sharing with threshold 1 accepted",
        shamir.split,
        "if not 2 <= threshold",
        "if not 1 <= threshold",
        (test_of(test_shamir.test_a_sharing_that_is_none_is_refused, test_shamir.SECRET, 1, [0, 1, 2]),),
    ),
    Mutation(
        "threshold 1 by rule",
        terms.share_threshold_of,
        "return (members - 1 + colluders) // 2 + 1",
        "return 1",
        (test_of(test_roster_terms_policy.test_no_two_sets_of_holders_can_both_open_one_tenant, 7),),
    ),
    Mutation(
        "threshold of a bare majority, colluders forgotten",
        terms.share_threshold_of,
        "(members - 1 + colluders)",
        "(members - 1)",
        (test_of(test_roster_terms_policy.test_no_two_sets_of_holders_can_both_open_one_tenant, 7),),
    ),
]

NO_CHECK_OF_SIGNATURES = [
    Mutation(
        "no signature is checked",
        method(envelope.Sealed, "require_signature"),
        "if not verifies(",
        "if False and verifies(",
        (test_of(test_envelope.test_every_flipped_bit_of_a_signed_message_is_noticed, EXAMPLES[5]),),
    ),
    *(
        Mutation(
            f"the signature of {kind.__name__} is not checked by the server",
            where,
            "sealed.require_signature(",
            "(lambda *_: None)(",
            (test_of(own_signature, kind),),
        )
        for kind, where in {
            Hello: coordinator._on_hello,
            Join: coordinator._on_join,
            Refusal: coordinator._on_refusal,
            Advertise: window.check_advertisement,
            Deposit: deposits.check_deposit,
            Ready: coordinator_window.on_ready,
            Upload: coordinator_round.on_upload,
            Opening: coordinator_round.on_opening,
            Shares: coordinator_round.on_shares,
        }.items()
    ),
    Mutation(
        "the server's signature is not checked",
        tenant.tenant_receive,
        "sealed.require_signature(",
        "(lambda *_: None)(",
        (test_of(test_tenant_rules.test_a_message_of_one_tenants_session_signed_by_another_is_refused),),
    ),
    *(
        Mutation(
            f"the signature of a quoted {name} is not checked",
            tenant._on_recover,
            f"{name}.require_signature(",
            "(lambda *_: None)(",
            (test_of(test_tenant_rules.test_a_message_of_one_tenants_session_signed_by_another_is_refused),),
        )
        for name in ("header", "certificate")
    ),
]

RULES_OF_THE_TENANT = [
    Mutation(
        "the mark is not recorded",
        tenant.tenant_upload,
        "marks.record(header.session, current.number)",
        "pass",
        (test_of(test_tenant_rules.test_no_upload_leaves_before_its_mark_is_durable),),
    ),
    Mutation(
        "the mark is not obeyed",
        tenant._require_fresh_round,
        "max(state.highest_round, marks.highest(header.session))",
        "state.highest_round",
        (test_of(test_tenant_rules.test_a_mark_above_the_state_is_obeyed),),
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
        tenant._require_fresh_round,
        "sealed.digest != current.context",
        "False",
        (test_of(test_tenant_rules.test_a_second_header_for_one_round_is_refused_and_proved),),
    ),
    Mutation(
        "a second set of survivors is taken for a round",
        tenant._require_same_certificate,
        "current.certificate != certificate",
        "False",
        (
            test_of(test_tenant_rules.test_the_first_survivors_are_the_only_ones_for_shares),
            test_of(test_tenant_rules.test_the_first_survivors_are_the_only_ones_for_the_own_opening),
            test_of(test_tenant_rules.test_the_first_survivors_bind_a_holder_that_only_helps),
        ),
    ),
    Mutation(
        "any number of survivors is opened",
        tenant._accept_certificate,
        "if len(survivors) < terms.minimum_survivors:",
        "if False:",
        (test_of(test_tenant_rules.test_the_own_minimum_of_the_terms_is_enforced_on_participants_and_survivors),),
    ),
    Mutation(
        "a sum without the own upload is opened",
        tenant._on_certificate,
        "if state.me.index not in survivors:",
        "if False:",
        (
            test_of(
                test_tenant_rules.test_a_certificate_of_unfit_survivors_is_refused,
                [0, 1, 2, 3],
                [1, 2, 3],
                OutOfTurn,
                "upload",
            ),
        ),
    ),
    Mutation(
        "a certificate of another header is taken",
        tenant._accept_certificate,
        "or content.context != current.context",
        "",
        (test_of(test_tenant_rules.test_a_second_header_is_not_opened_against_the_firsts_certificate),),
    ),
    Mutation(
        "a header of another set-up is taken",
        tenant._accept_header,
        "or header.setup != setup.digest",
        "",
        (header_case(2),),
    ),
    Mutation(
        "parameters are not bound to the header",
        tenant._on_header,
        "if sealed.attachment_digest != header.parameters:",
        "if False:",
        (header_case(9),),
    ),
    Mutation(
        "masks do not depend on the header",
        round_keys.self_mask_key,
        "MASK_KEY_BYTES, context)",
        "MASK_KEY_BYTES)",
        (
            test_of(test_round_keys.test_a_self_key_belongs_to_one_context_and_is_no_pair_key),
            test_of(test_vectors.test_vectors_are_what_the_code_gives, "round_keys"),
        ),
    ),
    Mutation(
        "an upload is computed twice",
        tenant.tenant_receive,
        "answered = sealed.digest in state.answers",
        "answered = False",
        (test_of(test_tenant_rules.test_every_message_is_answered_with_the_same_bytes_again),),
    ),
    Mutation(
        "a repeated message is refused in a later phase",
        tenant.tenant_receive,
        "if not answered:",
        "if True:",
        (test_of(test_links.test_a_link_that_breaks_at_any_stage_costs_nothing_but_time, (TO_SERVER, Opening), {0}),),
    ),
    Mutation(
        "the terms are not held against the policy",
        tenant.tenant_join,
        "check_terms(state.me.policy, state.terms.content, state.me.roster)",
        "pass",
        (test_of(test_tenant_rules.test_a_tenant_whose_policy_refuses_leaves_with_a_code_for_this_session),),
    ),
    Mutation(
        "statistics of another type are converted",
        tenant.tenant_upload,
        "if ring.dtype != np.uint64:",
        "if False:",
        (test_of(test_tenant_rules.test_masks_are_added_to_ring_integers_only, float),),
    ),
    Mutation(
        "shares of past rounds are kept",
        method(deposits.HeldShares, "from_round"),
        "if number >= round_number",
        "if True",
        (test_of(test_secrecy.test_after_the_next_header_nothing_of_the_last_round_is_left),),
    ),
    Mutation(
        "the chain is not moved on",
        tenant._accept_header,
        "chain=chain.advanced(header.round + 1)",
        "chain=window.secrets.chain",
        (test_of(test_secrecy.test_after_the_next_header_nothing_of_the_last_round_is_left),),
    ),
    Mutation(
        "the chain can be turned back",
        method(round_keys.KeyChain, "advanced"),
        'key = derive("next", key, KEY_BYTES)',
        "pass",
        (test_of(test_secrecy.test_after_the_next_header_nothing_of_the_last_round_is_left),),
    ),
    Mutation(
        "the channel secret is kept",
        method(window.WindowSecrets, "without_channel"),
        "channel_secret=None",
        "channel_secret=self.channel_secret",
        (test_of(test_secrecy.test_the_channel_secret_goes_with_the_boxes_and_all_of_a_window_with_the_next),),
    ),
    Mutation(
        "old answers are kept",
        tenant._accept_header,
        "answers={},",
        "answers=state.answers,",
        (test_of(test_secrecy.test_after_the_next_header_nothing_of_the_last_round_is_left),),
    ),
    Mutation(
        "an old window is opened again",
        tenant._on_open_window,
        "content.number <= state.window.opening.content.number",
        "False",
        (test_of(test_tenant_rules.test_a_window_is_opened_once),),
    ),
    Mutation(
        "a message for the last process is a fault",
        tenant.tenant_receive,
        "state.phase is TenantPhase.OUTSIDE and kind is not SessionTerms",
        "False",
        (test_of(test_links.test_a_message_meant_for_the_last_process_does_not_hurt_the_new_one),),
    ),
]

RULES_OF_THE_SERVER = [
    Mutation(
        "any sum is taken for one",
        encoding.check_words_are_zero,
        "not np.any(ring[-CHECK_WORDS:])",
        "True",
        (test_of(test_lies.test_an_upload_that_is_not_masked_as_agreed_fails_every_sum_it_is_in),),
    ),
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
        "or released.dealer == index",
        "",
        (test_of(test_lies.test_a_share_of_its_own_secret_names_the_holder),),
    ),
    Mutation(
        "a mask is taken off twice",
        coordinator_round.recovering_stage,
        "if which is SharedSecret.AGREEMENT or dealer not in current.opened",
        "if True",
        (test_of(test_links.test_of_two_silent_ones_the_one_that_speaks_is_counted_once_and_the_other_is_replaced),),
    ),
    Mutation(
        "two uploads of one tenant are summed",
        coordinator_round.on_upload,
        "if index in current.uploads:",
        "if False:",
        (
            test_of(
                test_lies.test_two_different_messages_where_one_is_allowed_are_equivocation,
                Upload,
                "uploaded two vectors for one round",
            ),
        ),
    ),
    Mutation(
        "keys of small order are let through",
        window.check_advertisement,
        "if any(is_of_small_order(",
        "if False and any(is_of_small_order(",
        (
            test_of(
                test_lies.test_whatever_one_tenant_does_the_others_get_their_sum,
                Advertise,
                with_changes(channel_key=bytes(32)),
                None,
            ),
        ),
    ),
    Mutation(
        "a small order is not recognised",
        keys.is_of_small_order,
        "coordinate % _P in _SMALL_ORDER",
        "coordinate in _SMALL_ORDER",
        (test_of(test_keys.test_keys_of_small_order_are_refused_by_name, 2**255 - 19),),
    ),
    Mutation(
        "window keys may be shared",
        coordinator_window.on_advertise,
        "if sealed.content.window_key in others:",
        "if False:",
        (test_of(test_lies.test_two_tenants_that_share_a_window_key_do_not_stop_the_others),),
    ),
    Mutation(
        "messages may be blown up",
        envelope._parse,
        "if wire.ByteSize() != len(data):",
        "if False:",
        (
            test_of(test_lies.test_an_advertisement_blown_up_by_repetition_is_refused),
            test_of(test_envelope.test_a_version_beyond_32_bits_does_not_wrap_into_ours),
        ),
    ),
    Mutation(
        "unknown fields are let through",
        envelope._parse,
        "if len(UnknownFieldSet(wire)):",
        "if False:",
        (test_of(test_envelope.test_trailing_bytes_and_unknown_fields_are_refused_inside, EXAMPLES[5]),),
    ),
    Mutation(
        "a new process stays in its predecessor's window",
        coordinator._forget_predecessor,
        "active=state.window.active - {index}",
        "active=state.window.active",
        (test_of(test_links.test_a_restarted_process_is_out_of_the_window_and_in_the_next),),
    ),
    Mutation(
        "a certificate goes to whoever is linked",
        coordinator_round.uploading_stage,
        "current.survivors & cast(Window, state.window).active",
        "current.survivors",
        (test_of(test_links.test_a_certificate_does_not_go_to_the_successor_of_the_process_that_uploaded),),
    ),
    Mutation(
        "whoever owes nothing is late",
        coordinator_state.mark_late,
        "owing = involved(state)",
        "owing = frozenset(state.members)",
        (test_of(test_links.test_processes_that_restart_all_at_once_are_not_taken_for_late),),
    ),
    Mutation(
        "a tenant that flaps is waited for again and again",
        coordinator._waited_for,
        "or member.waited_in >= state.last_round",
        "",
        (test_of(test_links.test_gathering_ends_whoever_comes_and_goes, True, 0.5),),
    ),
    Mutation(
        "nobody who is away is waited for",
        method(coordinator_state.Member, "hoped_for"),
        "(self.linked or now < self.wait_until)",
        "self.linked",
        (
            test_of(
                test_links.test_a_link_that_breaks_at_any_stage_costs_nothing_but_time,
                (TO_TENANT, Certificate),
                {0, 1, 2},
            ),
        ),
    ),
    Mutation(
        "gathering waits as long as anybody is away",
        coordinator._gather,
        "if now < state.give_up and (away or len(here) < least):",
        "if away or now < state.give_up and len(here) < least:",
        (test_of(test_links.test_a_patience_longer_than_the_gathering_stalls_nobody),),
    ),
    Mutation(
        "windows are opened without end",
        coordinator._gather,
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
        "a box opens in the other direction",
        method(boxes.Route, "_associated"),
        "self.setup, self.sender, self.recipient",
        "self.setup",
        (test_of(test_vectors.test_vectors_are_what_the_code_gives, "box"),),
    ),
    Mutation(
        "the range is proved in floating point",
        encoding._fits,
        "sum(map(round, scaled)) < 2**63",
        "math.fsum(scaled) < 2.0**63",
        (test_of(test_encoding.test_bounds_next_to_the_edge_do_not_wrap, (1, 2**30)),),
    ),
]

ALL = [*BREAKS_OF_OTHER_SYSTEMS, *NO_CHECK_OF_SIGNATURES, *RULES_OF_THE_TENANT, *RULES_OF_THE_SERVER]


@pytest.mark.filterwarnings("ignore:invalid value encountered in cast")
@pytest.mark.parametrize("mutation", ALL, ids=str)
def test_the_mutation_turns_its_tests_red(mutation: Mutation, monkeypatch: pytest.MonkeyPatch) -> None:
    put_in_place(monkeypatch, mutation.where, mutant_of(mutation))
    still_green = [place for place, red in enumerate(mutation.turns_red) if not goes_red(red)]
    assert still_green == []


@pytest.mark.parametrize("mutation", ALL, ids=str)
def test_the_same_tests_are_green_without_it(mutation: Mutation) -> None:
    for red in mutation.turns_red:
        red()
