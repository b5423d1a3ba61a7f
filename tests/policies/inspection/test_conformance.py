"""The conformance kit: what keeps its promises passes, and each planted fault is found by name."""

from __future__ import annotations

import re

import numpy as np
import pytest
from serving import EPISODE

from b1k_policies.base import ActionChunk, Policy
from b1k_policies.checkpoint import CheckpointRequest
from b1k_policies.inspection.conformance import check_policy
from b1k_policies.registry import make_policy

NAMES = [
    "actions",
    "chunk length",
    "writes nothing",
    "repeats",
    "reset forgets",
    "batch",
    "200 steps",
    "memory",
    "needs_images",
    "describes itself",
    "closes",
]


class Good(Policy):
    """Looks at a picture, has a state and a generator, and keeps every promise."""

    name, chunk_length = "good", 10

    def reset(self, episode):
        self.rng = np.random.default_rng(episode.seed)
        self.mean = 0.0

    def infer(self, observation):
        self.mean = 0.5 * (self.mean + float(observation.images["head"][::90, ::90].mean()) / 255)
        return self.chunk(self.rng)

    def chunk(self, rng, rows=10):
        actions = rng.uniform(-1, 1, (rows, 23)) + self.mean
        return ActionChunk(actions=actions.astype(np.float32))


class Stateless(Good):
    """Answers many at once, from the queries alone."""

    name, stateless, needs_images, mean = "stateless", True, False, 0.0

    def reset(self, episode): ...

    def infer_batch(self, queries):
        return [self.chunk(np.random.default_rng(query.seed)) for query in queries]


class WrongDtype(Good):
    def chunk(self, rng):
        return ActionChunk(actions=rng.uniform(-1, 1, (10, 23)))


class WrongShape(Good):
    def chunk(self, rng):
        return ActionChunk(actions=np.zeros((10, 22), np.float32))


class NotFinite(Good):
    def chunk(self, rng):
        return ActionChunk(actions=np.full((10, 23), np.nan, np.float32))


class BareArray(Good):
    def chunk(self, rng):
        return np.zeros((10, 23), np.float32)


class Short(Good):
    def chunk(self, rng):
        return super().chunk(rng, rows=9)


class Writes(Good):
    def infer(self, observation):
        observation.proprio[:3] = 0
        return super().infer(observation)


class Unseeded(Good):
    def reset(self, episode):
        super().reset(episode)
        self.rng = np.random.default_rng()


class Remembers(Good):
    def __init__(self):
        self.mean = 0.0

    def reset(self, episode):
        self.rng = np.random.default_rng(episode.seed)


class Shuffles(Stateless):
    def infer_batch(self, queries):
        return super().infer_batch(queries[::-1])


class FeelsTheBatch(Stateless):
    def infer_batch(self, queries):
        self.mean = 0.01 * len(queries)
        return super().infer_batch(queries)


class SaysStateless(Stateless):
    def infer_batch(self, queries):
        self.mean += 0.01
        return super().infer_batch(queries)

    def reset(self, episode):
        self.mean = 0.0


class GivesUp(Good):
    def infer(self, observation):
        if observation.step >= 100:
            raise IndexError("no plan left")
        return super().infer(observation)


class NotForReadOnly(Good):
    def infer(self, observation):
        if not observation.proprio.flags.writeable:
            raise ValueError("buffer source array is read-only")
        return super().infer(observation)


class Hoards(Good):
    def reset(self, episode):
        super().reset(episode)
        self.seen = []

    def infer(self, observation):
        self.seen.append(observation)
        return super().infer(observation)


class Peeks(Stateless):
    def infer_batch(self, queries):
        for query in queries:
            query.observation.images.get("left_wrist")
        return super().infer_batch(queries)


class PeeksAtWhatIsThere(Stateless):
    def infer_batch(self, queries):
        self.mean = 0.1 * len(queries[0].observation.images)
        return super().infer_batch(queries)


class NeverLooks(Good):
    def infer(self, observation):
        return self.chunk(self.rng)


class Unwritable(Good):
    def describe(self):
        return {**super().describe(), "weights": np.zeros(3)}


class ClosesOnce(Good):
    def close(self):
        del self.chunk_length

    def __init__(self):
        self.chunk_length = 10


def checks(make, **how):
    found = {check.name: check for check in check_policy(make, EPISODE, **how)}
    assert list(found) == NAMES
    return found


def failing(found):
    return {name: check.found for name, check in found.items() if check.verdict == "fails"}


@pytest.mark.parametrize("make", [Good, Stateless])
def test_a_policy_that_keeps_its_promises_passes(make):
    found = checks(make)
    assert not failing(found)
    skipped = [name for name, check in found.items() if check.verdict != "holds"]
    assert skipped == ([] if make is Stateless else ["batch"])


FAULTS = {
    WrongDtype: ("actions", "must be float32 [T, 23] with T >= 1, got float64 [10, 23]"),
    WrongShape: ("actions", "must be float32 [T, 23] with T >= 1, got float32 [10, 22]"),
    NotFinite: ("actions", "actions[0, 0] is nan"),
    BareArray: ("actions", "it gave ndarray, not an ActionChunk"),
    Short: ("chunk length", "chunks have [9] rows, chunk_length says 10"),
    Writes: ("writes nothing", "it changed proprio"),
    Unseeded: ("repeats", "another one answers question 0 otherwise: by "),
    Remembers: ("reset forgets", "after another episode it answers question 0 otherwise: by "),
    Shuffles: ("batch", "in a batch it answers question 0 otherwise: by "),
    FeelsTheBatch: ("batch", "in a batch it answers question 0 otherwise: by 0.02"),
    SaysStateless: ("batch", "asked in another order it answers question 0 otherwise: by 0.0"),
    GivesUp: ("200 steps", "at step 100 it raised: "),
    NotForReadOnly: ("200 steps", "at step 0 it raised: "),
    Hoards: ("memory", "an inference keeps 2.9 MB, measured over the last 10"),
    Peeks: ("needs_images", "it says needs_images = False, and looked for left_wrist"),
    PeeksAtWhatIsThere: ("needs_images", "with pictures it answers question 0 otherwise: by 0.3"),
    Unwritable: ("describes itself", "describe() gives what is no JSON: "),
    ClosesOnce: ("closes", "it raised: "),
}


@pytest.mark.parametrize("make", FAULTS, ids=lambda make: make.__name__)
def test_each_planted_fault_is_found_by_name(make):
    name, text = FAULTS[make]
    found = checks(make, questions=20)
    assert list(failing(found)) == [name]
    assert text in found[name].found
    assert found[name].advice


def test_what_a_policy_raises_is_told_with_its_line():
    found = checks(GivesUp)["200 steps"].found
    assert re.search(
        rf"^at step 100 it raised: {re.escape(__file__)}, line \d+, in infer: "
        r'raise IndexError\("no plan left"\); IndexError: no plan left$',
        found,
    )


def test_pictures_that_nobody_looks_at_are_a_note():
    found = checks(NeverLooks, questions=20)
    assert not failing(found)
    assert (found["needs_images"].verdict, found["needs_images"].found) == (
        "note",
        "it says needs_images, and looked at none of the pictures",
    )


def test_what_cannot_be_asked_any_more_is_skipped_with_its_reason():
    found = checks(WrongShape)
    assert {check.found for check in found.values() if check.verdict == "skipped"} == {
        "it gives no usable chunk: see actions",
        "see 200 steps",
    }


@pytest.mark.parametrize("spec", ["hold", "zero", "random"])
def test_the_built_in_policies_pass(spec):
    assert not failing(checks(lambda: make_policy(spec), questions=20))


def test_the_expert_passes_what_needs_no_simulator():
    found = checks(lambda: make_policy("expert"))
    assert not failing(found)
    assert [name for name, check in found.items() if check.verdict == "holds"] == [
        "describes itself",
        "closes",
    ]
    assert found["actions"].found == "it reads the simulator's state, which only a run has"


@pytest.mark.slow
@pytest.mark.parametrize("which", ["tiny_v17", "twin-v17"])
def test_checkpoints_pass(which, request):
    folder = which if which == "twin-v17" else str(request.getfixturevalue(which))
    asked = CheckpointRequest(ckpt=folder, device="cpu")
    found = checks(lambda: make_policy("checkpoint", asked), questions=12)
    assert not failing(found)
    assert found["batch"].verdict == "holds"
