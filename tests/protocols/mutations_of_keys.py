"""Mutations of keys, masks, sharings and signatures; the first list holds the breaks that other systems are known for."""

from __future__ import annotations

import numpy as np

from fed_em_protocols import (
    boxes,
    certification,
    coordinator,
    coordinator_round,
    coordinator_state,
    coordinator_window,
    deposits,
    encoding,
    envelope,
    keys,
    masks,
    policy,
    ring,
    round_keys,
    shamir,
    tenant,
    tenant_outcome,
    tenant_round,
    tenant_state,
    terms,
    window,
)
from fed_em_protocols.errors import BadSignature
from fed_em_protocols.messages import (
    Advertise,
    Deposit,
    Endorsement,
    Hello,
    Join,
    Opening,
    Ready,
    Refusal,
    Shares,
    Upload,
)
from fed_em_protocols.terms import Trust
from tests.protocols import (
    test_certificates,
    test_dropout,
    test_encoding,
    test_endorsements,
    test_envelope,
    test_gate_rules,
    test_increment_rules,
    test_keys,
    test_lies,
    test_masks,
    test_policy_commitments,
    test_roster_terms_policy,
    test_round_keys,
    test_secrecy,
    test_shamir,
    test_tenant_rules,
    test_vectors,
)
from tests.protocols.examples import EXAMPLES
from tests.protocols.mutants import Mutation, Red, method, test_of

SERVER_TRUSTED, NO_SERVER_TRUSTED = Trust.SEMI_HONEST, Trust.MALICIOUS_SERVER
an_upload = next(content for content in EXAMPLES if isinstance(content, Upload))
one_round = test_of(test_dropout.run, [test_dropout.NEVER] * 3, test_dropout.Setting(3, 0, Trust.MALICIOUS_SERVER, 0))
own_signature = test_lies.test_every_message_must_carry_its_tenants_own_signature
certificate_of_round_1 = test_of(test_certificates.test_a_round_opens_under_its_certificate, NO_SERVER_TRUSTED)


def vectors_of(name: str) -> Red:
    """The known answers of one file."""
    return test_of(test_vectors.test_vectors_are_what_the_code_gives, name)


BREAKS_OF_OTHER_SYSTEMS = [
    Mutation(
        "mask seed folded to 32 bits through a generator that is not cryptographic",
        masks._groups,
        "cipher.algorithm = AES(key)",
        'cipher.algorithm = AES(__import__("random").Random(int.from_bytes(key[:4], "little")).randbytes(16))',
        (
            test_of(test_masks.test_known_answer),
            test_of(test_masks.test_every_length_is_a_prefix_of_counter_mode, 1000, np.uint64),
        ),
    ),
    Mutation(
        "self seed folded to 32 bits",
        round_keys.self_mask_key,
        'derive("self", self_seed, MASK_KEY_BYTES, context)',
        'derive("self", self_seed, MASK_KEY_BYTES, context)[:4] + bytes(12)',
        (test_of(test_round_keys.test_mask_keys_use_all_their_bytes),),
    ),
    Mutation(
        "pairwise seed cut to 16 bits",
        method(round_keys.PairSecret, "mask_key"),
        "MASK_KEY_BYTES, context, self.low, self.high)",
        "MASK_KEY_BYTES, context, self.low, self.high)[:2] + bytes(14)",
        (test_of(test_round_keys.test_mask_keys_use_all_their_bytes),),
    ),
    Mutation(
        "one id accepted as dead and alive",
        tenant_state.members_in,
        "if not found <= frozenset(within):",
        "if False:",
        (
            test_of(
                test_certificates.test_shares_of_both_secrets_of_one_tenant_are_never_released,
                NO_SERVER_TRUSTED, [3], [3],
            ),
            test_of(
                test_certificates.test_shares_of_both_secrets_of_one_tenant_are_never_released,
                SERVER_TRUSTED, [3], [3],
            ),
        ),
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
        masks._add_each,
        "combine(total, stream, out=total)",
        "total[:] = combine(total.astype(np.float64), stream.astype(np.float64)) % 2.0**64",
        (test_of(test_masks.test_masks_cancel, 16_385), one_round),
    ),
    Mutation(
        "a sharing with threshold 1 accepted",
        shamir._check_sharing,
        "if not 2 <= threshold",
        "if not 1 <= threshold",
        (test_of(test_shamir.test_a_sharing_that_is_none_is_refused, test_shamir.SECRET, 1, [0, 1, 2]),),
    ),
    Mutation(
        "terms with threshold 1 accepted",
        terms._graph_rules,
        "2 <= terms.share_threshold <= k",
        "1 <= terms.share_threshold <= k",
        (
            test_of(
                test_roster_terms_policy.test_a_sparse_graph_that_breaks_a_rule_is_refused,
                {"share_threshold": 1}, "share threshold 1 is not between 2 and 12",
            ),
        ),
    ),
    Mutation(
        "threshold 1 by rule",
        terms.share_threshold_of,
        "return max(members // 2, colluders) + 1",
        "return 1",
        (test_of(test_roster_terms_policy.test_colluders_alone_open_nobody_and_enough_others_can, 7),),
    ),
    Mutation(
        "threshold of a bare majority of a window that may be small, colluders forgotten",
        terms.share_threshold_of,
        "max(members // 2, colluders)",
        "members // 2",
        (test_of(test_roster_terms_policy.test_colluders_alone_open_nobody_and_enough_others_can, 7),),
    ),
    Mutation(
        "threshold 1 by rule, where the server is trusted",
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
]  # fmt: skip

NO_CHECK_OF_SIGNATURES = [
    Mutation(
        "no signature is checked",
        method(envelope.Sealed, "require_signature"),
        "if not verifies(",
        "if False and verifies(",
        (test_of(test_envelope.test_every_flipped_bit_of_a_signed_message_is_noticed, an_upload),),
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
            Endorsement: coordinator_round.on_endorsement,
            Opening: coordinator_round.on_opening,
            Shares: coordinator_round.on_shares,
        }.items()
    ),
    Mutation(
        "the signature of Reveal is not checked by the server",
        coordinator_window.on_reveal,
        "sealed.require_signature(",
        "(lambda *_: None)(",
        (
            test_of(
                test_lies.test_a_witness_that_does_not_reveal_its_nonce_is_excused,
                test_lies.with_a_foreign_signature, "signature that does not verify",
            ),
        ),
    ),
    Mutation(
        "the signature of AskBase is not checked by the server",
        coordinator_round.on_ask_base,
        "sealed.require_signature(",
        "(lambda *_: None)(",
        (test_of(test_lies.test_a_request_for_a_base_must_carry_its_tenants_own_signature),),
    ),
    Mutation(
        "a commitment to a policy has no salt",
        policy.commitment_to,
        'digest("policy", salt, policy)',
        'digest("policy", policy)',
        (test_of(test_policy_commitments.test_a_commitment_is_salted_by_policy_and_by_tenant),),
    ),
    Mutation(
        "one salt serves every policy of a tenant, so that opening one opens all",
        policy.salt_of,
        "DIGEST_BYTES, policy)",
        "DIGEST_BYTES)",
        (test_of(test_policy_commitments.test_a_commitment_is_salted_by_policy_and_by_tenant),),
    ),
    Mutation(
        "a process may change the policy that it signs under",
        coordinator_state.require_policy,
        "if policy != member.policy:",
        "if False:",
        (test_of(test_policy_commitments.test_a_process_has_one_policy),),
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
            f"the signature of a {name} quoted in Recover is not checked",
            tenant_outcome.on_recover,
            f"{name}.require_signature(",
            "(lambda *_: None)(",
            (test_of(test_tenant_rules.test_a_message_of_one_tenants_session_signed_by_another_is_refused),),
        )
        for name in ("header", "certificate")
    ),
    Mutation(
        "the signature of the header in Proposal is not checked",
        tenant_outcome.on_proposal,
        "header.require_signature(",
        "(lambda *_: None)(",
        (test_of(test_endorsements.test_a_proposal_for_a_header_that_the_server_did_not_sign_is_refused),),
    ),
    Mutation(
        "the signature of the certificate in Counted is not checked",
        tenant_outcome.on_counted,
        "certificate.require_signature(",
        "(lambda *_: None)(",
        (
            test_of(
                test_gate_rules.test_false_evidence_of_counts_is_refused,
                test_gate_rules.under_a_certificate_that_the_server_did_not_sign, BadSignature, "does not verify",
            ),
        ),
    ),
    Mutation(
        "the signature of the certificate of the round before is not checked",
        tenant_round._previous_certificate,
        "certificate.require_signature(",
        "(lambda *_: None)(",
        (test_of(test_certificates.test_a_header_whose_certificate_the_server_did_not_sign_is_refused),),
    ),
    Mutation(
        "the signature of the header in Base is not checked",
        tenant_round.on_base,
        "quoted.require_signature(",
        "(lambda *_: None)(",
        (
            test_of(
                test_increment_rules.test_a_base_that_is_not_the_one_asked_for_is_refused,
                "another key", BadSignature, "does not verify",
            ),
        ),
    ),
    Mutation(
        "signatures of endorsers are not checked",
        certification.require_certified,
        "if not verifies(",
        "if False and verifies(",
        (
            test_of(
                test_certificates.test_what_is_no_certificate_releases_nothing,
                test_certificates.one_false_signature, BadSignature, "endorsement of 't3' that does not verify",
            ),
        ),
    ),
]  # fmt: skip

PRIMITIVES = [
    Mutation(
        "masks do not depend on the header",
        round_keys.self_mask_key,
        "MASK_KEY_BYTES, context)",
        "MASK_KEY_BYTES)",
        (
            test_of(test_round_keys.test_a_self_key_belongs_to_one_context_and_is_no_pair_key),
            vectors_of("round_keys"),
        ),
    ),
    Mutation(
        "pair keys do not depend on the header",
        method(round_keys.PairSecret, "mask_key"),
        "MASK_KEY_BYTES, context, self.low",
        "MASK_KEY_BYTES, self.low",
        (
            test_of(test_round_keys.test_a_pair_key_belongs_to_one_context_and_one_pair),
            test_of(test_round_keys.test_a_pair_key_is_derived_as_the_design_says),
        ),
    ),
    Mutation(
        "masks of a whole round do not depend on the header",
        round_keys.mask_keys,
        "MASK_KEY_BYTES, (context,), pairs",
        "MASK_KEY_BYTES, (), pairs",
        (test_of(test_round_keys.test_keys_of_a_whole_round_are_those_made_one_by_one),),
    ),
    Mutation(
        "shares of past rounds are kept",
        method(deposits.HeldShares, "from_round"),
        "self.shares[passed:]",
        "self.shares",
        (test_of(test_secrecy.test_after_the_next_header_nothing_of_the_last_round_is_left),),
    ),
    Mutation(
        "the chain can be turned back",
        method(round_keys.KeyChain, "advanced"),
        'key = derive("next", key, KEY_BYTES)',
        "pass",
        (
            test_of(test_secrecy.test_after_the_next_header_nothing_of_the_last_round_is_left),
            test_of(test_round_keys.test_a_later_chain_key_holds_no_earlier_secret),
        ),
    ),
    Mutation(
        "the channel secret is kept",
        method(window.WindowSecrets, "without_channel"),
        "channel_secret=None",
        "channel_secret=self.channel_secret",
        (test_of(test_secrecy.test_the_channel_secret_goes_with_the_boxes),),
    ),
    Mutation(
        "a small order is not recognised",
        keys.is_of_small_order,
        "coordinate % _P in _SMALL_ORDER",
        "coordinate in _SMALL_ORDER",
        (test_of(test_keys.test_keys_of_small_order_are_refused_by_name, 2**255 - 19),),
    ),
    Mutation(
        "a box opens in the other direction",
        method(boxes.Route, "_associated"),
        "self.setup, self.sender, self.recipient",
        "self.setup",
        (vectors_of("box"),),
    ),
    Mutation(
        "messages may be blown up",
        envelope._parse,
        "if size != len(data):",
        "if False:",
        (
            test_of(test_lies.test_an_advertisement_blown_up_by_repetition_is_refused, 100, "longer than what it says"),
            test_of(test_envelope.test_a_version_beyond_32_bits_does_not_wrap_into_ours),
        ),
    ),
    Mutation(
        "unknown fields are let through",
        envelope._parse,
        "if wire.ByteSize() != size:",
        "if False:",
        (test_of(test_envelope.test_trailing_bytes_and_unknown_fields_are_refused_inside, an_upload),),
    ),
    Mutation(
        "the range is proved in floating point",
        encoding._fits,
        "sum(round(limit) * times for limit, times in scaled) < 2 ** (ring.bits - 1)",
        "math.fsum(limit * times for limit, times in scaled) < 2.0 ** (ring.bits - 1)",
        (test_of(test_encoding.test_bounds_next_to_the_edge_do_not_wrap, (1, 2**30)),),
    ),
    Mutation(
        "any sum is taken for one",
        ring.Ring.is_sum,
        "not np.any(vector[-self.check_words :])",
        "True",
        (
            test_of(test_lies.test_an_upload_that_is_not_masked_as_agreed_fails_every_sum_it_is_in),
            test_of(test_encoding.test_check_words_notice_any_other_value),
        ),
    ),
    Mutation(
        "a quorum of half of the witnesses and the colluders",
        terms.certificate_quorum_of,
        "(witnesses + colluders) // 2 + 1",
        "(witnesses + colluders) // 2",
        (test_of(test_roster_terms_policy.test_two_quorums_share_an_honest_witness_and_one_can_be_had, 7),),
    ),
    Mutation(
        "a quorum that forgets the colluders",
        terms.certificate_quorum_of,
        "(witnesses + colluders) // 2 + 1",
        "witnesses // 2 + 1",
        (test_of(test_roster_terms_policy.test_two_quorums_share_an_honest_witness_and_one_can_be_had, 7),),
    ),
]
