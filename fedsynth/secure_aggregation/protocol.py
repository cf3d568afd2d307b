"""Secure aggregation: from one vector per site to their sum, and nothing else that the coordinator could learn.

The protocol is Bonawitz et al. 2017 (doi:10.1145/3133956.3133982), figure 4, in its variant for a malicious
server, over integers modulo 2^64. Keys and shares for all steps are exchanged once; a step then takes three
exchanges. Everything is a pure state machine over bytes; whoever calls it moves and keeps them. The coordinator's
side is `fedsynth.secure_aggregation.server`, the sites' is here.

    coordinator                        site
                                       keys()
    receive, ask_shares()          ->  shares(data)
    receive, ask_sum(step, size)   ->  mask(step, values, data)
    receive, ask_agree(step)       ->  agree(step, data)
    receive, ask_unmask(step)      ->  unmask(step, data)
    receive, total(step)

A site that misses one step may take part in the next. One dishonest site can spoil a total by what it adds, and
stop one by false shares; it cannot see behind it.
"""

import hashlib
import os
from collections.abc import Mapping

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from fedsynth.errors import PrivacyError
from fedsynth.secure_aggregation.messages import (
    LARGEST_VECTOR,
    MessageReader,
    SiteState,
    Vector,
    add_keystream,
    pack_message,
)
from fedsynth.secure_aggregation.roster import (
    KEY_BYTES,
    SIGNATURE_BYTES,
    KeySet,
    SecureCohort,
    Session,
    check_keys,
    signer,
    slices,
)
from fedsynth.secure_aggregation.shamir import sealed_size


class SecureSite:
    """One site's side of a session.

    After every call, write `to_bytes()` where only this site reads, before the reply leaves: a site that forgets
    what it said can be asked again. Never go back to an older state. The same request gets the same bytes again.

    `shares`, `mask`, `agree` and `unmask` raise WireError for what is not a message of their stage, session and
    step, and PrivacyError for what would break the promise; the site then goes on as if it had not been asked.
    """

    def __init__(self, state: SiteState, identity: Ed25519PrivateKey | bytes) -> None:
        """Bring a state and its identity together; `begin` and `from_bytes` are the ways to come by a state."""
        key = signer(identity)
        if state.session.cohort.roster.get(state.me) != key.public_key().public_bytes_raw():
            raise PrivacyError(
                f"the roster pins another identity for {state.me!r}, or none. Nothing was sent; correct the roster "
                "on every site, or use the key that it names"
            )
        self._state, self._identity = state, key
        self._session, self._circle = state.session, state.session.cohort

    @classmethod
    def begin(
        cls, cohort: SecureCohort, me: str, identity: Ed25519PrivateKey | bytes, context: str, steps: int
    ) -> "SecureSite":
        """Draw fresh keys and seeds for every step of a run.

        Args:
            cohort: as every other site has pinned it.
            me: this site's name in the roster.
            identity: its long-term private key, or the 32 raw bytes of it; it is never part of the state.
            context: names run and plan, equal at every site; a context is used for one session and not again.
            steps: how many sums the run may ask for.

        Raises:
            PrivacyError: the identity is no key or not the roster's, or context or steps are outside their limits.
        """
        session = Session(cohort, context, steps)
        seeds, keys = os.urandom(KEY_BYTES * steps), os.urandom(KEY_BYTES * steps)
        return cls(SiteState(session, me, seeds, keys, sealing=os.urandom(KEY_BYTES)), identity)

    @classmethod
    def from_bytes(cls, data: bytes, *, cohort: SecureCohort, identity: Ed25519PrivateKey | bytes) -> "SecureSite":
        """Continue from what `to_bytes` wrote.

        Raises:
            WireError: the state is damaged.
            PrivacyError: it belongs to another cohort or identity.
        """
        return cls(SiteState.from_bytes(data, cohort=cohort), identity)

    def to_bytes(self) -> bytes:
        """Write the state. It is secret: who reads it before a step ends can open this site's vector."""
        return self._state.to_bytes()

    def keys(self) -> bytes:
        """Return this site's public keys for all steps, signed by its identity.

        Raises:
            PrivacyError: the run is past this stage.
        """
        return pack_message("keys", self._session, site=self._state.me, keys=self._own_keys().blob)

    def shares(self, data: bytes) -> bytes:
        """Answer everybody's keys with shares of this site's secrets, sealed for each peer.

        Refused for keys that the pinned roster does not vouch for, a duplicate, too few sites, or other keys than
        those answered before.
        """
        state, digest = self._state, hashlib.sha256(data).digest()
        if state.shares_request:
            if state.shares_request != digest or not state.shares_reply:
                raise self._refusal("for shares a second time", "they are given once, for one set of keys")
            return state.shares_reply
        reader = MessageReader(data, kind="cohort", session=self._session, sender="the coordinator")
        blobs = reader.blobs("keys", size=KeySet.size(self._session))
        reader.end()
        if len(blobs) < self._circle.least_survivors or blobs.get(state.me) != self._own_keys().blob:
            least = f"it takes {self._circle.least_survivors}, and its own keys among them, unchanged"
            raise self._refusal(f"to deal shares to {len(blobs)} sites", least)
        peers = {site: KeySet.from_blob(blob) for site, blob in blobs.items()}
        check_keys(peers, session=self._session)
        del peers[state.me]
        state.shares_reply = pack_message("shares", self._session, site=state.me, sealed=state.deal(peers))
        state.shares_request = digest
        return state.shares_reply

    def mask(self, step: int, values: Vector, data: bytes) -> bytes:
        """Return `values` under the masks of one step; open the peers' shares when they come for the first time.

        Earlier steps are forgotten. Refused for a step that is over, and for other values than the first: whoever
        cannot make those again asks `masked` before.

        Args:
            step: in range(steps); never below a step begun before.
            values: shape (size,), uint64; the sum is modulo 2^64.
            data: the coordinator's request.
        """
        state, reader = self._state, self._read("sum", step, data)
        size = reader.number("size", least=1, most=LARGEST_VECTOR)
        sealed = reader.blobs("sealed", size=sealed_size(self._session))
        reader.end()
        if values.dtype != np.uint64 or values.shape != (size,):
            raise reader.error(f"asks for {size} words, and this site has {values.dtype} of shape {values.shape}")
        if step < max(state.first, state.step):
            raise self._refusal(f"to mask at step {step}", "that step is over and its secrets are gone")
        self._deliver(sealed)
        masked = values.copy()
        for key, sign in state.masks(step):
            add_keystream(masked, key, sign=sign)
        payload = masked.astype("<u8", copy=False).tobytes()
        reply = pack_message("masked", self._session, payload=payload, site=state.me, step=step, size=size)
        if step == state.step and reply != state.masked:
            raise self._refusal(f"to mask a second vector at step {step}", "two would show their difference")
        if step > state.step:
            state.forget(step)
            state.step, state.masked = step, reply
            state.survivors, state.unmask_request, state.unmask_reply = (), b"", b""
        return reply

    def masked(self, step: int, size: int) -> bytes | None:
        """Return what `mask` returned first for this step and size, or None where it was not asked, or is over."""
        state = self._state
        if step != state.step or not state.masked:
            return None
        reader = MessageReader(state.masked, kind="masked", session=self._session, sender="this site", step=step)
        return state.masked if reader.number("size", least=1, most=LARGEST_VECTOR) == size else None

    def agree(self, step: int, data: bytes) -> bytes:
        """Sign the list of survivors of a step, once.

        Refused unless it has `least_survivors` names, this site's among them, and none whose shares never came.
        """
        state, reader = self._state, self._read("agree", step, data)
        survivors = reader.names("survivors")
        reader.end()
        what = f"to sign {len(survivors)} survivors of step {step}"
        if step != state.step:
            raise self._refusal(what, "no vector was sent for that step, or it is over")
        if len(survivors) < self._circle.least_survivors:
            raise self._refusal(what, f"the cohort agreed on {self._circle.least_survivors} or more")
        if state.me not in survivors or not set(survivors) <= set(state.held):
            raise self._refusal(what, "the list leaves this site out, or names one whose shares never came")
        if state.survivors and state.survivors != survivors:
            raise self._refusal(what, "another list was signed for that step")
        state.survivors = survivors
        signature = self._identity.sign(self._session.agreement(step, survivors))
        return pack_message("agreement", self._session, site=state.me, step=step, signature=signature)

    def unmask(self, step: int, data: bytes) -> bytes:
        """Reveal this site's shares: of the self seed of each survivor, of the mask key of each who dropped out.

        The secrets of the step are forgotten with the answer, which is kept for a retry until the next step.
        Refused for another list than this site signed, too few signatures, a false one, or a second request.
        """
        state, reader = self._state, self._read("unmask", step, data)
        survivors, signatures = reader.names("survivors"), reader.blobs("signatures", size=SIGNATURE_BYTES)
        reader.end()
        what, digest = f"to unmask step {step}", hashlib.sha256(data).digest()
        if step != state.step or not state.survivors or state.survivors != survivors:
            raise self._refusal(what, "this site signed no such list of survivors for it")
        if state.unmask_request:
            if state.unmask_request != digest:
                raise self._refusal(what, "it was unmasked before, on another request")
            return state.unmask_reply
        if len(signatures) < self._circle.threshold or not set(signatures) <= set(survivors):
            raise self._refusal(what, f"it takes {self._circle.threshold} survivors' signatures over one list")
        statement = self._session.agreement(step, survivors)
        if not all(self._session.signed(site, signature, statement) for site, signature in signatures.items()):
            raise self._refusal(what, "a signature is not over the list that this site signed")
        seeds = {site: state.shares_of(site, step)[0] for site in survivors}
        keys = {site: state.shares_of(site, step)[1] for site in set(state.held) - set(survivors)}
        reply = pack_message("revealed", self._session, site=state.me, step=step, seeds=seeds, keys=keys)
        state.unmask_request, state.unmask_reply, state.masked = digest, reply, b""
        state.forget(step + 1)
        return reply

    def _read(self, kind: str, step: int, data: bytes) -> MessageReader:
        return MessageReader(data, kind=kind, session=self._session, sender="the coordinator", step=step)

    def _refusal(self, what: str, why: str) -> PrivacyError:
        return PrivacyError(f"{self._state.me} was asked {what}, and refused: {why}. Nothing was revealed")

    def _own_keys(self) -> KeySet:
        state = self._state
        if not state.sealing:
            raise self._refusal("for its keys", "the run has begun")
        private = [state.sealing, *slices(state.mask_keys, KEY_BYTES)]
        seeds = slices(state.seeds, KEY_BYTES)
        return KeySet.of(self._session, state.me, private=private, seeds=seeds, identity=self._identity)

    def _deliver(self, sealed: Mapping[str, bytes]) -> None:
        """Open the peers' shares the first time; later, take nothing or the very same."""
        state = self._state
        digest = hashlib.sha256(b"".join(name.encode() + sealed[name] for name in sorted(sealed))).digest()
        if state.delivered:
            if sealed and state.delivered != digest:
                raise self._refusal("to open other shares", "its peers are settled")
            return
        if not set(sealed) <= set(state.sealing_keys) or len(sealed) + 1 < self._circle.least_survivors:
            least = self._circle.least_survivors - 1
            raise self._refusal(f"to sum with {len(sealed)} peers", f"it takes {least} whose keys it has verified")
        state.open(sealed)
        state.delivered = digest
