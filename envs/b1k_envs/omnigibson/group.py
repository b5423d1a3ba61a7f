"""Several envs in one OmniGibson (v3.9.3), each driven by a job on a thread of its own.

The application below OmniGibson is not thread-safe, so jobs only ask, and every call into it
happens on the thread that built the group, which serves them. All envs share one physics: the
world is loaded when all jobs have asked for it, and makes a step when every job that still runs
has asked for one.

Unlike the official evaluator, which sends zeros to an env that has finished - and so drives its
arms to 0 rad and its grippers half open -, that robot holds the posture it ended in.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any, Literal, NamedTuple, Protocol, TypeVar, cast

from b1k_envs import r1pro
from b1k_envs.base import (
    Env,
    EnvGroup,
    EnvInfo,
    Float32Array,
    GoalStatus,
    Observation,
    Split,
    StepResult,
    VideoFrame,
)
from b1k_envs.base import Protocol as Challenge
from b1k_envs.errors import B1kEvalError, EnvError, UnavailableError, UsageError
from b1k_envs.findings import Finding
from b1k_envs.omnigibson.dialects.dialect import Stepped
from b1k_envs.omnigibson.env import NO_PRIVILEGED_STATE, Episode
from b1k_envs.omnigibson.world import OmniGibsonWorld, RenderMode
from b1k_envs.tasks.table import Task

T = TypeVar("T")
Job = Callable[[Env], None]


class Mover(Protocol):
    """What of a world the server moves."""

    def check_instance(self, instance: int) -> None:
        """See `OmniGibsonWorld.check_instance`."""

    def load(self, instances: Mapping[int, int]) -> None:
        """See `OmniGibsonWorld.load`."""

    def advance(self, actions: Mapping[int, Float32Array]) -> Mapping[int, Stepped]:
        """See `OmniGibsonWorld.advance`."""


class _Request(NamedTuple):
    """What a job wants, with where the answer goes.

    Attributes:
        lane: Index of the env.
        kind: `reset` and `step` wait for the other jobs, `read` is answered at once, `end` says
            that the job is over.
        what: Instance, action, or the reading call.
        answer: Empty for `end`.
    """

    lane: int
    kind: Literal["reset", "step", "read", "end"]
    what: Any
    answer: Future[Any]


class LaneServer:
    """Serves the jobs of one run; see the module header.

    Attributes:
        errors: What jobs have raised, in the order of their ends.
    """

    def __init__(self, mover: Mover, episodes: Sequence[Episode], jobs: int) -> None:
        """Take over a world.

        Args:
            mover: The world.
            episodes: One per env.
            jobs: How many there are; job i drives env i.
        """
        self._mover, self._episodes = mover, episodes
        self._requests: SimpleQueue[_Request] = SimpleQueue()
        self._running = set(range(jobs))
        self._waiting: dict[int, _Request] = {}
        self._loaded: set[int] = set()
        # Beside the queue, so that an interrupt that swallows a request strands no job.
        self._asked: list[Future[Any]] = [Future() for _ in range(jobs)]
        self._over: set[int] = set()
        self.errors: list[BaseException] = []

    # --- on the jobs' threads ----------------------------------------------------------------

    def ask(self, lane: int, kind: Literal["reset", "step", "read"], what: object) -> Any:  # noqa: ANN401
        """Have something done, and wait for it; whatever it raises is raised here."""
        answer: Future[Any] = Future()
        self._asked[lane] = answer
        self._requests.put(_Request(lane, kind, what, answer))
        return answer.result()

    def work(self, lane: int, job: Callable[[], None]) -> None:
        """Run a job to its end, on a thread of its own."""
        try:
            job()
        except BaseException as error:  # noqa: BLE001 - handed to whoever called `run`
            self.errors.append(error)
        finally:
            self._over.add(lane)
            self._requests.put(_Request(lane, "end", None, Future()))

    # --- on the world's thread ---------------------------------------------------------------

    def serve(self) -> None:
        """Serve until every job is over.

        Raises:
            BaseException: What came that is no EnvError, Ctrl-C above all: after all jobs have
                been told and are over.
        """
        try:
            while self._running:
                self._take(self._requests.get())
                if self._running and self._running == set(self._waiting):
                    self._move()
        except BaseException as error:
            self._refuse_all(error)
            if not isinstance(error, EnvError):
                raise

    def _take(self, request: _Request) -> None:
        lane, answer = request.lane, request.answer
        if request.kind == "end":
            self._running.discard(lane)
        elif request.kind == "read":
            try:
                answer.set_result(request.what())
            except B1kEvalError as error:
                answer.set_exception(error)
        elif request.kind == "reset" and self._loaded:
            answer.set_exception(
                EnvError(
                    "reset was called in a running group: its envs are loaded together, once in "
                    "each run, when every job has asked for it"
                )
            )
        elif request.kind == "step" and lane not in self._loaded:
            answer.set_exception(EnvError("step was called before reset"))
        else:
            self._waiting[lane] = request

    def _move(self) -> None:
        """Load or advance: nobody is left who might ask for something else first."""
        waiting, self._waiting = self._waiting, {}
        if not self._loaded:
            self._load(waiting)
            return
        outcomes = self._mover.advance({lane: r.what for lane, r in waiting.items()})
        results = {lane: self._episodes[lane].stepped(outcomes[lane]) for lane in waiting}
        for lane, request in waiting.items():
            request.answer.set_result(results[lane])

    def _load(self, waiting: dict[int, _Request]) -> None:
        for lane, request in list(waiting.items()):
            try:
                self._mover.check_instance(request.what)
            except EnvError:
                raise
            except B1kEvalError as error:  # no such instance, no file of it: its lane's own error
                request.answer.set_exception(error)
                del waiting[lane]
        if not waiting:
            return
        self._mover.load({lane: request.what for lane, request in waiting.items()})
        for lane in waiting:
            self._episodes[lane].begin()
        self._loaded = set(waiting)
        for request in waiting.values():
            request.answer.set_result(None)

    def _refuse_all(self, error: BaseException) -> None:
        """Answer every request, those to come too, with an error, until all jobs are over."""
        while True:
            for answer in self._asked:
                if not answer.done():
                    answer.set_exception(_another(error))
            if len(self._over) == len(self._asked):
                return
            self._requests.get()


def _another(error: BaseException) -> BaseException:
    """The same for another thread: an exception carries one traceback only.

    Ctrl-C goes to the jobs as such, so that they do not take it for a failure of theirs.
    """
    if isinstance(error, B1kEvalError):
        return type(error)(*error.args)
    if isinstance(error, Exception):
        return EnvError(f"the server of this group failed: {type(error).__name__}: {error}")
    return KeyboardInterrupt()


class LaneEnv(Env):
    """One env of a group, for the job that drives it."""

    def __init__(self, info: EnvInfo, episode: Episode, index: int) -> None:
        """Stand for an env.

        Args:
            info: That of the world.
            episode: Read on the world's thread only.
            index: Which env.
        """
        self.info = info
        self._episode, self._index = episode, index
        self._server: LaneServer | None = None

    def serve_with(self, server: LaneServer | None) -> None:
        """Send what is asked from now on to this server; None to nobody."""
        self._server = server

    def reset(self, instance: int, rollout: int, seed: int) -> None:
        """Wait until every job has asked for its instance; rollout and seed change nothing."""
        self._ask("reset", instance)

    def step(self, action: Float32Array) -> StepResult:
        """Wait until every job that still runs has asked for a step; see `Env.step`."""
        r1pro.check_action(action)
        return cast("StepResult", self._ask("step", action))

    def observe(self, *, images: bool = True) -> Observation:
        """Read the current state; what is rendered is rendered for all envs at once."""
        return self._read(lambda: self._episode.observe(images=images))

    def goal(self) -> GoalStatus:
        """The BDDL goal of this env now."""
        return self._read(self._episode.goal)

    def subgoals(self) -> dict[str, bool]:
        """Truth of each sub-goal now."""
        return self._read(self._episode.subgoals)

    def frame(self, *, light: bool = False) -> VideoFrame:
        """As `OmniGibsonEnv.frame`."""
        return self._read(self._episode.frame)

    def privileged_state(self) -> Any:  # noqa: ANN401
        """There is none.

        Raises:
            UnavailableError: Always.
        """
        raise UnavailableError(NO_PRIVILEGED_STATE)

    def close(self) -> None:
        """Nothing; the group is closed by whoever built it."""

    def _read(self, call: Callable[[], T]) -> T:
        return cast("T", self._ask("read", call))

    def _ask(self, kind: Literal["reset", "step", "read"], what: object) -> Any:  # noqa: ANN401
        if self._server is None:
            raise EnvError("an env of a group can be used inside `run` only, by its own job")
        return self._server.ask(self._index, kind, what)


class LaneGroup(EnvGroup):
    """See the module header. To be built and run on the same thread."""

    envs: tuple[LaneEnv, ...]

    def __init__(
        self,
        task: Task,
        *,
        protocol: Challenge,
        split: Split,
        max_steps: int,
        count: int,
        render: RenderMode = "on-demand",
        gpu: int | None = None,
        depth: bool = False,
    ) -> None:
        """Start OmniGibson with `count` envs; see `OmniGibsonWorld` for the rest and for errors."""
        if count < 1:
            raise UsageError(f"a group of {count} envs: at least one is needed")
        self._world = OmniGibsonWorld(
            task,
            protocol=protocol,
            split=split,
            max_steps=max_steps,
            render=render,
            gpu=gpu,
            num_envs=count,
            depth=depth,
        )
        self.info = self._world.info
        self._episodes = [Episode(self._world, index) for index in range(count)]
        self.envs = tuple(
            LaneEnv(self.info, episode, index) for index, episode in enumerate(self._episodes)
        )
        self._closed = False

    @property
    def findings(self) -> list[Finding]:
        """What the checks at the start measured."""
        return self._world.findings

    def run(self, jobs: Sequence[Job]) -> None:
        """Run one job per env; see `EnvGroup.run`. Every job resets its env once.

        Raises:
            UsageError: More jobs than envs.
            EnvError: The group is closed.
            BaseException: What the first job to fail raised; KeyboardInterrupt before all.
        """
        if self._closed:
            raise EnvError("run was called after close")
        run_lanes(self._world, self._episodes, self.envs, jobs)

    def close(self) -> None:
        """Close the application; results must be on disk, as that may end the process."""
        if not self._closed:
            self._closed = True
            self._world.close()


def run_lanes(
    mover: Mover, episodes: Sequence[Episode], envs: Sequence[LaneEnv], jobs: Sequence[Job]
) -> None:
    """Run jobs on threads and serve them on this one; see `LaneGroup.run`."""
    if len(jobs) > len(envs):
        raise UsageError(f"{len(jobs)} jobs for {len(envs)} envs: one env takes one job in a run")
    server = LaneServer(mover, episodes, len(jobs))
    threads = [
        threading.Thread(
            target=server.work,
            args=(lane, lambda job=job, env=env: job(env)),
            name=f"lane-{lane}",
            daemon=True,  # a second Ctrl-C must not wait for a policy
        )
        for lane, (job, env) in enumerate(zip(jobs, envs, strict=False))
    ]
    for env in envs:
        env.serve_with(server)
    try:
        for thread in threads:
            thread.start()
        server.serve()
        for thread in threads:
            thread.join()
    finally:
        for env in envs:
            env.serve_with(None)
    if server.errors:
        raise server.errors[0]
