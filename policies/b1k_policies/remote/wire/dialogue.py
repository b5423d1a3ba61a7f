"""Matching a server's messages to the questions they answer.

Messages of the protocol have no numbers: a question is answered by the next message, a reset by
none. Real servers do more. Those that read a reset as one more question (descendants of openpi's
`websocket_policy_server`, the servers of RoboArena and of LingBot-VLA) answer it, by
{"action": None}, {"reset": True}, {"status": ...} or the text "reset successful"; some answer
twice, or late. A client that does not notice executes every later action one question late, and
one more with each episode.

So nothing may have arrived when a question or a reset is sent. What has arrived, or what follows a
reset and has no action, is an acknowledgement and is skipped with a remark. An acknowledgement
*with* an action looks like an answer. It is recognised because it comes before any question, or
because the real answer follows it; for that `SETTLE_S` is waited after the first reset and after
the first answer, once per policy. An action that nobody asked for ends the run at any later time.

What a pass does not prove: that a server whose acknowledgement with an action and whose first
inference both take longer than `SETTLE_S` answers the right question in the first episode; the
reset of the second one then finds the answer that is left over.
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
"""How long to wait for a message that should not come [s]. On the loopback the answer of a server
that answers a reset at once arrives after a millisecond (docs/server.md)."""
PATIENCE_S = 30.0
"""How long to wait for the real answer, after a message that may be an acknowledgement or an answer
without an action, before the question is asked again [s]; the evaluator asks again at once."""
MOST_RETRIES = 2
"""How often a question that was answered without an action is asked again."""

_LONGEST_SETTLE_S = 60.0
_MOST_BESIDES = 16
_LONGEST_SHOWN = 80

Manner = Literal["unknown", "silent", "plain", "action"]
"""How a server answers a reset: not known yet, not at all, without an action, or with one."""


class Dialogue:
    """Keeps questions and answers over one link in step.

    Attributes:
        foreign: Whether the server is not one of ours, which answer questions and nothing else.
        remarks: A sentence for each thing it did beside the protocol since `forget_remarks`.
        listened_s: How long the latest `ask` went on listening after it had its answer [s].
    """

    def __init__(self, link: Link, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Use a link, which the caller opens, drops and closes.

        Args:
            link: The link, used on one thread at a time.
            clock: Monotonic time [s], in which deadlines are given.
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
        """Forget the remarks, at the start of another episode."""
        self.remarks = ()

    def connected(self) -> None:
        """Note that the link was opened anew, so that no message is outstanding."""
        self._reset_open = False
        self._held = None

    def begin(self, data: bytes, deadline: float) -> None:
        """Send a reset, and listen for an answer to it unless the server is known to give none.

        Raises:
            EndsRunError: A message with an action has arrived already, or an acknowledgement that
                the server used to give does not come.
            LostError: The connection broke.
            LateError: The deadline has passed.
        """
        self._expect_nothing()
        self._held = None
        self._link.send(data, deadline)
        # Servers of ours never answer a reset, so there is nothing to wait for.
        if not self.foreign:
            return
        self._reset_open = True
        if self._manner == "unknown":
            with contextlib.suppress(LateError, LostError):  # a lost link is found by the question
                self._await_acknowledgement(min(deadline, self._clock() + SETTLE_S))
        elif self._manner == "action":
            try:
                self._await_acknowledgement(deadline)
            except LateError as error:
                text = "answered earlier resets with an action, and this one not"
                raise self._unmatched(text) from error

    def ask(self, data: bytes, deadline: float) -> object:
        """Send a question, and again if the answer has no action.

        Returns:
            The answer as `codec.unpack` gives it, or a text.

        Raises:
            EndsRunError: An answer arrived before it was asked for.
            WireError: The answer cannot be read.
            LostError: The connection broke.
            LateError: The deadline has passed.
        """
        self.listened_s = 0.0
        self._expect_nothing()
        # An error, or bytes that cannot be read, came early: this question gets them.
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
                self._link.send(data, deadline)  # that message was the answer, and had no action
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

    # --- unexpected messages --------------------------------------------------------------------

    def _expect_nothing(self) -> None:
        """Check that no answer has arrived already.

        Raises:
            EndsRunError: An answer has arrived.
        """
        while self._held is None and (raw := self._link.waiting()) is not None:
            self._take(raw)

    def _await_acknowledgement(self, until: float) -> None:
        while self._reset_open and self._held is None:
            self._take(self._link.receive(until))

    def _take(self, raw: bytes | str) -> None:
        """Handle a message that came while no question was outstanding.

        An error in words, or a message that cannot be read, is kept as the next question's answer.
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
        """Make sure that an answer is not an acknowledgement or one of several."""
        first, self._reset_open = self._reset_open, False
        if not isinstance(message, dict) or not _acts(message):
            return message
        if sent > 1:  # each try may still be answered, in about the time that the first took
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
            self._doubtful = True  # it may answer everything twice instead: the next answer shows
            return later
        self._take(raw)
        return message

    def _heard_within(self, for_s: float, deadline: float) -> bytes | str | None:
        begun = self._clock()
        try:
            return self._link.receive(min(deadline, begun + for_s))
        except (LateError, LostError):  # a lost link is found by the next message that is sent
            return None
        finally:
            self.listened_s += self._clock() - begun

    # --- words ----------------------------------------------------------------------------------

    def _is_greeting(self, raw: bytes | str) -> bool:
        """Whether a message repeats the server's metadata; an empty map is not taken for that."""
        greeting = self._link.greeting
        # An empty map has one byte.
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
    """Whether a message may be an answer to a reset: a map without action, or a word like `ok`.

    Args:
        message: A message received after a reset.
        error: Whether a map that reports an error may be one; once a question is outstanding, it is
            more likely that question's answer.
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
    """Return the beginning of a message in ASCII: a terminal would obey control characters."""
    if isinstance(message, dict):
        message = {key: ... if hasattr(value, "shape") else value for key, value in message.items()}
    return ascii(message)[:_LONGEST_SHOWN]


def gist(text: str) -> str:
    """Return the line of a server's text that says most: a traceback's last, else the first."""
    lines = [line.strip() for line in text[:100_000].splitlines() if line.strip()] or ["(nothing)"]
    line = lines[-1] if lines[0].startswith("Traceback") else lines[0]
    return "".join(letter if letter.isprintable() else "?" for letter in line[:300])
