"""Which of a server's messages answers which of ours.

The protocol has no numbers in its messages: a question is answered by the next message, a reset by
none. Real servers do more. Those that read a reset as one more question (descendants of openpi's
`websocket_policy_server`, the servers of RoboArena, of LingBot-VLA) answer it, by {"action": None},
{"reset": True}, {"status": ...} or the text "reset successful"; some answer twice, or late. A
client that does not notice plays every later action one question late, and one more per episode.

So nothing may have arrived when a question or a reset is sent. What has, or what comes after a
reset and has no action, is an acknowledgement and passed over with a remark. An acknowledgement
*with* an action looks like an answer: it is known by coming before any question, or by the answer
proper that follows it. For that the first reset, and the first answer after it, are given
`SETTLE_S` once per policy. An action that nobody asked for, at any later time, ends the run.

What a pass does not prove: that a server whose acknowledgement with an action takes longer than
`SETTLE_S`, and whose first inference does too, answers the right question in the first episode; the
second one's reset finds the answer that is left over.
"""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable
from typing import Any, Literal

from b1k_envs.errors import EndsRunError
from b1k_policies.remote.wire import keys
from b1k_policies.remote.wire.codec import WireError, unpack
from b1k_policies.remote.wire.link import ANSWERS, LateError, Link, LostError

SETTLE_S = 1.0
"""How long a message that should not come is waited for [s]. On the loopback a server that answers
a reset at once is heard of after a millisecond (docs/server.md)."""
PATIENCE_S = 30.0
"""After what may have been an acknowledgement or an answer without an action: how long the answer
proper is waited for before the question is asked again, as the evaluator does at once [s]."""
MOST_RETRIES = 2
"""Of a question that was answered without an action."""

_LONGEST_SETTLE_S = 60.0
_MOST_BESIDES = 16
_LONGEST_SHOWN = 80

Manner = Literal["unknown", "silent", "plain", "action"]
"""What a server makes of a reset: not known yet, or no answer, or one without action, or with."""


class Dialogue:
    """Questions and answers over one link, in step.

    Attributes:
        foreign: Whether the server is not one of ours, which answer questions and nothing else.
        remarks: What it did beside the protocol since `forget_remarks`, a sentence each.
        listened_s: How long the latest `ask` went on listening once it had its answer [s].
    """

    def __init__(self, link: Link, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Talk over a link, which others open, drop and close.

        Args:
            link: Asked on one thread.
            clock: Monotonic time [s]; deadlines are on it.
        """
        self.foreign = True
        self.remarks: tuple[str, ...] = ()
        self.listened_s = 0.0
        self._link = link
        self._clock = clock
        self._manner: Manner = "unknown"
        self._reset_open = False
        self._doubtful = False
        self._held: bytes | str | None = None

    def forget_remarks(self) -> None:
        """For another episode."""
        self.remarks = ()

    def connected(self) -> None:
        """The link was opened anew: nothing is under way."""
        self._reset_open = False
        self._held = None

    def begin(self, data: bytes, deadline: float) -> None:
        """Send a reset, and hear whether it is answered where that is not known yet.

        Raises:
            EndsRunError: Something with an action is there already, or an acknowledgement that the
                server used to give does not come.
            LostError: The connection broke.
            LateError: The deadline has passed.
        """
        self._expect_nothing()
        self._held = None
        self._link.send(data, deadline)
        if not self.foreign:
            return
        self._reset_open = True
        if self._manner == "unknown":
            with contextlib.suppress(LateError, LostError):  # the question finds it lost
                self._await_acknowledgement(min(deadline, self._clock() + SETTLE_S))
        elif self._manner == "action":
            try:
                self._await_acknowledgement(deadline)
            except LateError as error:
                text = "answered earlier resets with an action, and this one not"
                raise self._unmatched(text) from error

    def ask(self, data: bytes, deadline: float) -> object:
        """Send a question; again, if the answer has no action.

        Returns:
            The answer as `codec.unpack` gives it, or a text.

        Raises:
            EndsRunError: An answer is there before it was asked for.
            WireError: The answer cannot be read.
            LostError: The connection broke.
            LateError: The deadline has passed.
        """
        self.listened_s = 0.0
        self._expect_nothing()
        held, self._held = self._held, None
        if held is not None:
            return held if isinstance(held, str) else unpack(held, ANSWERS)
        begun = self._clock()
        self._link.send(data, deadline)
        sent, until = 1, deadline
        while True:
            try:
                raw = self._link.receive(until)
            except LateError:
                if until == deadline:
                    raise
                self._link.send(data, deadline)  # so it was the answer, and had no action
                sent, until = sent + 1, deadline
                continue
            if self._is_greeting(raw):
                continue
            message = raw if isinstance(raw, str) else unpack(raw, ANSWERS)
            if self._reset_open and _acknowledges(message):
                self._acknowledged(message)
                until = min(deadline, self._clock() + PATIENCE_S)
                continue
            if not isinstance(message, dict) or _acts(message) or sent > MOST_RETRIES:
                break
            self._link.send(data, deadline)
            sent += 1
        return self._settled(message, sent, begun, deadline)

    # --- what comes by itself -------------------------------------------------------------------

    def _expect_nothing(self) -> None:
        """See that no answer is there already.

        Raises:
            EndsRunError: There is one.
        """
        while self._held is None and (raw := self._link.waiting()) is not None:
            self._take(raw)

    def _await_acknowledgement(self, until: float) -> None:
        while self._reset_open and self._held is None:
            self._take(self._link.receive(until))

    def _take(self, raw: bytes | str) -> None:
        """Take a message that came while no question was under way.

        What is an error in words, or cannot be read, is kept: it is what the next question gets.
        """
        if self._is_greeting(raw):
            return
        message: object = raw
        if isinstance(raw, bytes):
            try:
                message = unpack(raw, ANSWERS)
            except WireError:
                self._held = raw
                return
        acting = isinstance(message, dict) and _acts(message)
        may_act = acting and self._manner in ("unknown", "action")
        if self._reset_open and (may_act or _acknowledges(message, error=True)):
            self._acknowledged(message)
        elif acting:
            raise self._unmatched("sent an action that nobody asked for")
        elif isinstance(message, dict):
            self._remark(f"the server sent {_shown(message)}, which nobody asked for: passed over")
        else:
            self._held = raw

    def _settled(self, message: object, sent: int, begun: float, deadline: float) -> object:
        """Make sure of an answer that might be an acknowledgement, or one of two."""
        first, self._reset_open = self._reset_open, False
        if not isinstance(message, dict) or not _acts(message):
            return message
        if sent > 1:  # each may still be answered, in about the time that the first took
            wait_s = min(_LONGEST_SETTLE_S, max(SETTLE_S, 2 * (self._clock() - begun)))
            for _ in range(_MOST_BESIDES):
                raw = self._heard_within(wait_s, deadline)
                if raw is None:
                    break
                later = raw if isinstance(raw, str) else unpack(raw, ANSWERS)
                if not isinstance(later, dict):
                    self._held = raw
                    break
                self._remark("the server went on answering a question that was sent again")
                sent -= _acts(later)
                if sent == 1:
                    break
            return message
        doubtful, self._doubtful = self._doubtful, False
        unknown = first and self.foreign and self._manner == "unknown"
        if not (unknown or doubtful):
            return message
        raw = self._heard_within(SETTLE_S, deadline)
        if unknown:
            self._manner = "silent"
        if raw is None:
            return message
        later = raw if isinstance(raw, str) else unpack(raw, ANSWERS)
        if unknown and isinstance(later, dict) and _acts(later):
            self._acknowledged(message)
            self._doubtful = True  # or it answers everything twice: the next answer shows
            return later
        self._take(raw)
        return message

    def _heard_within(self, for_s: float, deadline: float) -> bytes | str | None:
        begun = self._clock()
        try:
            return self._link.receive(min(deadline, begun + for_s))
        except (LateError, LostError):  # the next message that is sent finds it lost
            return None
        finally:
            self.listened_s += self._clock() - begun

    # --- words ----------------------------------------------------------------------------------

    def _is_greeting(self, raw: bytes | str) -> bool:
        """Whether it is the server's metadata once more; empty ones look like anything."""
        greeting = self._link.greeting
        again = greeting is not None and len(greeting) > 1 and raw == greeting
        if again:
            self._remark("the server sent its metadata again: passed over")
        return again

    def _acknowledged(self, message: object) -> None:
        self._reset_open = False
        self._manner = "action" if isinstance(message, dict) and _acts(message) else "plain"
        shown = "an action" if self._manner == "action" else _shown(message)
        self._remark(
            f"the server answers a reset, with {shown}, which is passed over; an official "
            "evaluator does not expect that, and would play every action one question late"
        )

    def _unmatched(self, what: str) -> EndsRunError:
        return EndsRunError(
            f"the server {what}: its answers cannot be matched to the questions, and actions of "
            "this and of earlier episodes may have been those of other questions. It must answer "
            "every observation once, and a reset never, or always by one message without an action"
        )

    def _remark(self, text: str) -> None:
        if text not in self.remarks:
            self.remarks = (*self.remarks, text)


def _acts(message: dict[Any, Any]) -> bool:
    return message.get(keys.ACTION) is not None


def _acknowledges(message: object, *, error: bool = False) -> bool:
    """Whether a message may be the answer to a reset: a map without action, or a word of assent.

    Args:
        message: Received after a reset.
        error: Whether a map that speaks of an error may be one; once a question is under way, that
            is more likely its answer.
    """
    if isinstance(message, dict):
        return not _acts(message) and (error or "error" not in message)
    if not isinstance(message, str) or len(message.strip().splitlines()) > 1:
        return False
    text = message.lower()
    assent = re.search(r"\b(reset\w*|ok|ack\w*|success\w*|done|ready)\b", text)
    bad = re.search(r"error|exception|traceback|fail|\bnot?\b|cannot|unable|unknown|invalid", text)
    return assent is not None and bad is None


def _shown(message: object) -> str:
    """The beginning of a received message, for a terminal, which would obey control characters."""
    if isinstance(message, dict):
        message = {key: ... if hasattr(value, "shape") else value for key, value in message.items()}
    return ascii(message)[:_LONGEST_SHOWN]


def gist(text: str) -> str:
    """The line of a server's text that says most: of a traceback the last, otherwise the first."""
    lines = [line.strip() for line in text[:100_000].splitlines() if line.strip()] or ["(nothing)"]
    line = lines[-1] if lines[0].startswith("Traceback") else lines[0]
    return "".join(letter if letter.isprintable() else "?" for letter in line[:300])
