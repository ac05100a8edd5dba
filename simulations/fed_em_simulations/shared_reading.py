"""Public bytes that many tenants of one process are sent alike, read and checked once.

Ten thousand tenants verify the same header, parse the same set-up, factorise the same covariances, and prove the range of the same
encoding. Each is a function of its inputs, which are public, so a process that plays many tenants computes it once; nothing is left
out, and nobody's secret is an input. Virtual time is charged all the same, by the work that the first took, and `Work.remembered` says
how often.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import wraps
from typing import Any

from fed_em.broadcast import Broadcast
from fed_em.gaussian_densities import GaussianDensities
from fed_em.gaussian_mixture import GaussianMixtureModel
from fed_em_protocols import certification, encoding, envelope, graph, keys, members, tenant_state, terms, window
from fed_em_protocols.description import SessionDescription
from fed_em_simulations.substitution import substituted
from fed_em_simulations.work import NO_WORK, Work, current, measured

# Entries kept of each function. A broadcast is read by all in turn; the keys of a round by all neighbours of their owners; verified
# signatures of advertisements and deposits are asked for again and again by neighbours while a window is set up.
_FEW, _SOME, _MANY = 8, 1 << 14, 1 << 17


@contextmanager
def shared_reading() -> Iterator[None]:
    """Read by memory wherever the protocol does in this process, while the context lasts."""
    with ExitStack() as stack:
        for function, kept, key in (
            (keys.verifies, _MANY, _values),
            (keys.agreement_public_key, _SOME, _values),
            (envelope.unseal, _FEW, _values),
            (envelope.unquote, _MANY, _quoted),
            (window.read_setup, _FEW, _setup),
            (window.draw_graph, _FEW, _drawn),
            (window.table_at_hand, _MANY, _table),
            (tenant_state.members_in, _FEW, _members),
            (members.from_bitmap, _FEW, _values),
            (terms.guarded_units, _FEW, _identities),
            (certification.require_admissible, _FEW, _admissible),
            (graph.without_weakly_tied, _FEW, _identities),
        ):
            stack.enter_context(substituted(function, _remembering(function, kept, key)))
        for owner, name, key in (
            (SessionDescription, "from_json", _values),
            (Broadcast, "from_bytes", _values),
            (encoding.Encoding, "proved", _encoding),
            (GaussianDensities, "of", _densities),
        ):
            stack.enter_context(_remembered_constructor(owner, name, key))
        whitening = _remembering(GaussianMixtureModel.whitening, _FEW, _whitening)
        stack.enter_context(substituted(GaussianMixtureModel.whitening, whitening, ("fed_em.",)))
        yield


@contextmanager
def _remembered_constructor(owner: type, name: str, key: Callable[..., Any]) -> Iterator[None]:
    real = vars(owner)[name]
    setattr(owner, name, classmethod(_remembering(real.__func__, _FEW, key)))
    try:
        yield
    finally:
        setattr(owner, name, real)


def _remembering(function: Callable[..., Any], kept: int, key_of: Callable[..., Any]) -> Callable[..., Any]:
    """`function` by memory of its last results. What it raises is raised anew each time."""
    known: OrderedDict[Any, tuple[Any, Work, Any]] = OrderedDict()

    @wraps(function)
    def remembering(*arguments: Any, **named: Any) -> Any:
        key = key_of(*arguments, *named.values())
        found = known.get(key)
        if found is None:
            with measured() as measure:
                result = function(*arguments, **named)
            # The arguments are kept with it, as identities are of living objects alone.
            found = known[key] = (result, measure.total, arguments)
            if len(known) > kept:
                known.popitem(last=False)
        else:
            current().remembered += 1
        if found[1] is not NO_WORK:
            current().add(found[1])
        return found[0]

    return remembering


def _values(*arguments: Any) -> Any:
    return arguments


def _identities(*arguments: Any) -> Any:
    return tuple(map(id, arguments))


def _quoted(quoted: Any, kind: type, sender: str) -> Any:
    return quoted.payload, quoted.attachment_digest, quoted.signature, kind, sender


def _setup(message: Any, opening: Any, terms_: Any, roster: Any) -> Any:
    return message.digest, opening.digest, terms_, id(roster)


def _table(sealed: Any, table: bytes, terms_: Any, name: str) -> Any:
    return sealed.digest, table, terms_.window_rounds, name


def _drawn(setup: Any, nonces: Any) -> Any:
    return id(setup), nonces


def _members(bitmap: bytes, roster: Any, within: Any, what: str) -> Any:
    return bitmap, id(roster), within if isinstance(within, range) else id(within), what


def _admissible(survivors: Any, header: Any, participants: Any, setup: Any, roster: Any) -> Any:
    return id(survivors), header.held, id(participants), id(setup.graph), setup.terms, id(roster)


def _whitening(model: Any, parameters: Any) -> Any:
    return model, id(parameters)


def _densities(cls: type, parameters: Any, whitening: Any) -> Any:
    return cls, id(parameters), id(whitening)


def _encoding(cls: type, layout: Any, row_caps: Any, ring: Any = None) -> Any:
    return cls, layout, id(row_caps), ring
