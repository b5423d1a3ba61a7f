"""Functions that each drive one env of a `Worlds`, for tests that read better so than as loops."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from queue import SimpleQueue
from threading import Thread
from typing import Any

from b1k_envs.base import Env, Worlds


class _Jobs:
    """Serves jobs on threads of their own, so that every call into the worlds is on this one."""

    def __init__(self, worlds: Worlds) -> None:
        self.worlds = worlds
        self.asked: SimpleQueue[tuple[int, str, Any, Future[Any]]] = SimpleQueue()

    def ask(self, index: int, kind: str, what: Any) -> Any:
        answer: Future[Any] = Future()
        self.asked.put((index, kind, what, answer))
        return answer.result()

    def serve(self, count: int) -> None:
        running, waiting = set(range(count)), {}
        while running:
            index, kind, what, answer = self.asked.get()
            if kind == "end":
                running.discard(index)
            elif kind == "read":
                _settle(answer, what)
            else:
                waiting[index] = (kind, what, answer)
            if waiting and running == set(waiting):
                kind = "reset" if any(w[0] == "reset" for w in waiting.values()) else "step"
                move = self.worlds.reset if kind == "reset" else self.worlds.step
                now = {i: w for i, w in waiting.items() if w[0] == kind}
                waiting = {i: w for i, w in waiting.items() if i not in now}
                try:
                    found = move({i: w[1] for i, w in now.items()})
                except Exception as error:  # noqa: BLE001 - every job hears of it
                    found = dict.fromkeys(now, error)
                for i, (_, _, waiter) in now.items():
                    if isinstance(found[i], Exception):
                        waiter.set_exception(found[i])
                    else:
                        waiter.set_result(found[i])


def _settle(answer: Future[Any], call: Callable[[], Any]) -> None:
    try:
        answer.set_result(call())
    except Exception as error:  # noqa: BLE001 - raised in the job
        answer.set_exception(error)


class _JobEnv:
    """What a job sees of its env."""

    def __init__(self, jobs: _Jobs, index: int) -> None:
        self._jobs, self._index = jobs, index
        self.env = jobs.worlds.envs[index]
        self.info = self.env.info

    def reset(self, instance: int, rollout: int, seed: int) -> None:
        self._jobs.ask(self._index, "reset", (instance, rollout, seed))

    def step(self, action: Any) -> Any:
        return self._jobs.ask(self._index, "step", action)

    def __getattr__(self, name: str) -> Any:
        def read(*args: Any, **options: Any) -> Any:
            return self._jobs.ask(
                self._index, "read", lambda: getattr(self.env, name)(*args, **options)
            )

        return read


def run_jobs(worlds: Worlds, jobs: Sequence[Callable[[Env], None]]) -> None:
    """Run one job per env; what the first to fail raised is raised once all are over."""
    serving, errors = _Jobs(worlds), []

    def work(index: int, job: Callable[[Env], None]) -> None:
        try:
            job(_JobEnv(serving, index))
        except BaseException as error:  # noqa: BLE001 - raised below
            errors.append(error)
        finally:
            serving.asked.put((index, "end", None, Future()))

    threads = [Thread(target=work, args=pair, daemon=True) for pair in enumerate(jobs)]
    for thread in threads:
        thread.start()
    serving.serve(len(jobs))
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
