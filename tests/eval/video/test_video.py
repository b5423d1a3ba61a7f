"""The rollout video, decoded again by ffmpeg, and the ways in which recording one can fail."""

from __future__ import annotations

import errno
import io
import os
import signal
import struct
import subprocess
import sys
import threading
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import imageio_ffmpeg
import numpy as np
import pytest
from doubles import ToyEnv
from rich.console import Console

from b1k_envs.base import VIEWS, GoalStatus, VideoFrame
from b1k_envs.errors import EnvError, UnavailableError
from b1k_eval.loop.events import EpisodeStart
from b1k_eval.records.episode import EpisodeKey
from b1k_eval.run.progress.displays import PlainReporter
from b1k_eval.run.progress.snapshot import ProgressSubscriber
from b1k_eval.video.layout import BACKGROUND, GREEN, HEAD_SIZE, RED, Overlay, Painter
from b1k_eval.video.recorder import VideoRecorder
from b1k_eval.video.render_thread import RenderThread
from b1k_eval.video.subscriber import VideoSubscriber
from b1k_eval.video.text import import_cv2, readable, text_width, truncate

WIDTH, HEIGHT = 672, 680
# x, y, size of each picture, as the module's drawing shows them.
BOXES = {"head": (0, 0, 448), "left_wrist": (448, 0, 224), "right_wrist": (448, 224, 224)}
COLOURS = {"head": (200, 60, 40), "left_wrist": (40, 180, 70), "right_wrist": (50, 70, 210)}
BAR_ROW = 448 + 72
PROGRESS_BAR, Q_BAR = slice(300, 490), slice(514, 656)


def solid(sizes=(720, 480, 480), colours=COLOURS):
    """One flat colour per view, in the sizes of the R1Pro's cameras."""
    return {
        view: np.full((size, size, 3), colours[view], np.uint8)
        for view, size in zip(VIEWS, sizes, strict=True)
    }


def held(views):
    return VideoFrame(redeem=views, holds_pictures=True)


def overlay(step=0, **changes):
    values = {
        "title": "clean_boxing_gloves  public-test 3",
        "step": step,
        "time_s": step / 30,
        "outcome": "running",
        "skill": "open door",
        "skill_probability": 0.9,
        "progress": 0.25,
        "q_score": 0.5,
        "predicates": {"not covered boxing_glove.n.01_1 dust.n.01_1": True},
        "subgoals": {"robot_near_washer": True, "washer_opened": False},
    }
    return Overlay(**(values | changes))


def decode(path):
    """What ffmpeg reads back: its metadata and uint8 [N, H, W, 3]."""
    reader = imageio_ffmpeg.read_frames(str(path), pix_fmt="rgb24")
    meta = next(reader)
    width, height = meta["size"]
    frames = [np.frombuffer(raw, np.uint8).reshape(height, width, 3) for raw in reader]
    return meta, np.stack(frames)


def record(path, pictures, fps=30.0):
    with VideoRecorder(path, fps) as recorder:
        for step, picture in enumerate(pictures):
            recorder.add(held(lambda picture=picture: picture), overlay(step))


def has_colour(region, colour):
    return bool((np.abs(region.astype(int) - colour).max(axis=-1) <= 12).any())


def fake_ffmpeg(tmp_path, monkeypatch, body):
    exe = tmp_path / "ffmpeg"
    exe.write_text(f"#!/bin/sh\n{body}\n")
    exe.chmod(0o755)
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(exe))


def leftovers(folder):
    return sorted(entry.name for entry in folder.iterdir())


def test_the_file_is_h264_in_the_format_that_browsers_play(tmp_path):
    path = tmp_path / "video.mp4"
    record(path, [solid()] * 7, fps=15.0)
    meta, frames = decode(path)
    assert meta["codec"] == "h264"
    assert meta["pix_fmt"].startswith("yuv420p")
    assert meta["fps"] == 15.0
    assert frames.shape == (7, HEIGHT, WIDTH, 3)
    assert leftovers(tmp_path) == ["video.mp4"]


def test_the_index_comes_before_the_pictures_so_that_playing_starts_at_once(tmp_path):
    path = tmp_path / "video.mp4"
    record(path, [solid()])
    data, offset, boxes = path.read_bytes(), 0, []
    while offset < len(data):
        size, kind = struct.unpack_from(">I4s", data, offset)
        boxes.append(kind.decode())
        offset += size
    assert boxes.index("moov") < boxes.index("mdat")


@pytest.mark.parametrize("sizes", [(720, 480, 480), (448, 224, 224), (64, 33, 500)])
def test_each_view_fills_its_place_in_its_own_colour_whatever_size_it_came_in(tmp_path, sizes):
    path = tmp_path / "video.mp4"
    record(path, [solid(sizes)] * 2)
    frame = decode(path)[1][1].astype(int)
    for view, (x, y, size) in BOXES.items():
        inside = frame[y + 40 : y + size - 4, x + 4 : x + size - 4]
        assert np.abs(inside - COLOURS[view]).max() <= 8, view


def test_the_pictures_of_the_video_are_those_that_were_added_in_that_order(tmp_path):
    path = tmp_path / "video.mp4"
    levels = [20, 90, 160, 230]
    grey = [solid(colours={view: (level,) * 3 for view in VIEWS}) for level in levels]
    record(path, grey)
    means = decode(path)[1][:, 200:240, 200:240].mean(axis=(1, 2, 3))
    np.testing.assert_allclose(means, levels, atol=4)


def test_a_picture_with_other_proportions_is_fitted_and_not_stretched():
    views = solid() | {"head": np.full((100, 200, 3), 250, np.uint8)}
    head = Painter().compose(views, overlay())[:448, :448]
    lit = (head == 250).all(axis=-1)[:, 440]
    assert lit.sum() == 224
    assert lit[112:336].all()
    assert (head[:110, 100:] == BACKGROUND).all()


@pytest.mark.parametrize("value", [0.0, 0.25, 1.0])
def test_the_bars_are_as_long_as_progress_and_q_score(value):
    empty = Painter().compose(solid(), overlay(progress=0.0, q_score=0.0))[BAR_ROW]
    row = Painter().compose(solid(), overlay(progress=value, q_score=value))[BAR_ROW]
    filled = (row != empty).any(axis=-1)
    for bar in (PROGRESS_BAR, Q_BAR):
        length = bar.stop - bar.start
        assert filled[bar].sum() == pytest.approx(value * length, abs=1)
        assert filled[bar.start : bar.start + int(value * length)].all()  # from the left
    assert filled.sum() == filled[PROGRESS_BAR].sum() + filled[Q_BAR].sum()


def test_a_policy_that_reports_nothing_gets_an_empty_bar_and_no_error():
    silent = overlay(skill=None, skill_probability=None, progress=None)
    row = Painter().compose(solid(), silent)[BAR_ROW]
    assert (row[PROGRESS_BAR] == row[PROGRESS_BAR.start]).all()


def test_a_satisfied_predicate_is_green_and_an_unsatisfied_one_red():
    for holds, shown, hidden in ((True, GREEN, RED), (False, RED, GREEN)):
        picture = Painter().compose(solid(), overlay(predicates={"p": holds}, subgoals={}))
        marks = picture[448 + 108 :, 16:30]
        assert has_colour(marks, shown)
        assert not has_colour(marks, hidden)


def test_a_subgoal_that_comes_true_changes_its_own_row_of_the_next_picture():
    painter = Painter()
    before = painter.compose(solid(), overlay(subgoals={"a": False, "b": False}))
    after = painter.compose(solid(), overlay(subgoals={"a": False, "b": True}))
    rows = np.flatnonzero((before != after).any(axis=(1, 2))) - 448 - 112
    list_rows = rows[rows >= 0]  # the heading above it counts along
    assert len(list_rows) > 0
    assert list_rows.min() >= 18
    assert list_rows.max() < 36


def test_a_long_list_stays_in_the_panel_and_the_last_row_says_the_rest():
    many = {f"predicate_{number}": False for number in range(40)}
    picture = Painter().compose(solid(), overlay(predicates=many, subgoals={}))
    reddish = (picture[448 + 112 :, 16:28].astype(int) @ (1, -1, 0) > 100).any(axis=1)
    crosses = (np.diff(reddish.astype(int)) == 1).sum()
    assert crosses == 5  # six rows, the last one is "+ 35 more"
    assert picture.shape == (HEIGHT, WIDTH, 3)


def test_a_name_too_long_for_its_place_is_cut_with_dots():
    text = truncate("put the left boxing glove into the clothes washer", 120, 0.44)
    assert text.endswith("...")
    assert "put the left".startswith(text[:-3][:12])
    assert text_width(text, 0.44) <= 120
    assert truncate("short", 120, 0.44) == "short"


def test_an_endless_title_ends_before_the_clock():
    painter = Painter()
    line = slice(448 + 10, 448 + 34)
    without = painter.compose(solid(), overlay(title=""))[line]
    clock = np.flatnonzero((without != BACKGROUND).any(axis=(0, 2))).min()
    endless = painter.compose(solid(), overlay(title="x" * 400))[line]
    np.testing.assert_array_equal(endless[:, clock - 8 :], without[:, clock - 8 :])
    assert (endless[:, clock - 40 : clock - 8] != BACKGROUND).any()  # and uses its place


def test_goal_literals_lose_their_synset_numbers_and_nothing_else():
    assert readable("not covered boxing_glove.n.01_2 dust.n.01_1") == (
        "not covered boxing glove 2 dust 1"
    )
    assert readable("inside jar.n.01_1 cabinet.n.01_1") == "inside jar 1 cabinet 1"
    assert readable("robot_near_washer") == "robot near washer"


def test_an_overlay_keeps_what_it_was_given_when_the_caller_goes_on():
    subgoals = {"washer_opened": False}
    before = overlay(subgoals=subgoals)
    subgoals["washer_opened"] = True
    assert before.subgoals == {"washer_opened": False}


def test_tickets_are_redeemed_on_the_recorders_thread_and_a_shared_one_outlives_it(tmp_path):
    seen = []

    def ticket():
        seen.append(threading.current_thread())
        return solid()

    shared = RenderThread()
    for name in ("a.mp4", "b.mp4"):
        with VideoRecorder(tmp_path / name, 30.0, thread=shared) as recorder:
            recorder.add(held(ticket), overlay())
    assert shared.close()
    assert len(seen) == 2
    assert seen[0] is seen[1]
    assert seen[0] is not threading.current_thread()


def test_a_full_queue_makes_the_loop_wait_instead_of_dropping_or_growing(tmp_path):
    started, release = threading.Event(), threading.Event()

    def slow():
        started.set()
        release.wait(60)
        return solid()

    path = tmp_path / "video.mp4"
    recorder = VideoRecorder(path, 30.0, queue_size=3, stall_timeout_s=0.05)
    recorder.start()
    recorder.add(held(slow), overlay(0))
    assert started.wait(60)
    recorder.add(held(solid), overlay(1))
    recorder.add(held(solid), overlay(2))
    with pytest.raises(EnvError, match=r"no picture was taken for 0\.05 s; .*--no-video"):
        recorder.add(held(solid), overlay(3))
    recorder._stall_timeout_s = 60.0
    release.set()
    recorder.add(held(solid), overlay(3))
    recorder.close()
    assert len(decode(path)[1]) == 4


def test_tickets_never_make_the_loop_wait(tmp_path):
    started, release = threading.Event(), threading.Event()

    def slow():
        started.set()
        release.wait(60)
        return solid()

    path = tmp_path / "video.mp4"
    recorder = VideoRecorder(path, 30.0, queue_size=1, stall_timeout_s=0.05)
    recorder.start()
    recorder.add(VideoFrame(redeem=slow, holds_pictures=False), overlay(0))
    assert started.wait(60)
    for step in range(1, 50):  # each would raise if it had to wait: nothing is being taken
        recorder.add(VideoFrame(redeem=solid, holds_pictures=False), overlay(step))
    release.set()
    recorder._stall_timeout_s = 60.0
    recorder.close()
    assert len(decode(path)[1]) == 50


def test_a_picture_that_cannot_be_rendered_is_an_error_of_ours_and_leaves_no_file(tmp_path):
    def broken():
        raise RuntimeError("the context is lost")

    recorder = VideoRecorder(tmp_path / "video.mp4", 30.0)
    recorder.start()
    recorder.add(held(broken), overlay(41))
    with pytest.raises(
        EnvError, match="the picture of step 41 could not be made: the context is lost"
    ) as caught:
        recorder.close()
    assert isinstance(caught.value.__cause__, RuntimeError)
    assert leftovers(tmp_path) == []


def test_an_error_on_the_thread_surfaces_at_the_next_add(tmp_path):
    recorder = VideoRecorder(tmp_path / "video.mp4", 30.0, queue_size=1)
    recorder.start()
    recorder.add(held(lambda: {}), overlay(0))

    def add_until_refused():
        for step in range(1, 4):  # with one place in the queue, the third waits for the first job
            recorder.add(held(solid), overlay(step))

    with pytest.raises(EnvError, match="a video frame lacks the view 'head'; it has"):
        add_until_refused()
    recorder.abort()
    assert leftovers(tmp_path) == []


def test_a_view_of_another_dtype_is_refused_by_name():
    views = solid() | {"left_wrist": np.zeros((8, 8, 3), np.float32)}
    with pytest.raises(
        EnvError, match=r"left_wrist view .* must be uint8 \[H, W, 3\], got float32 \[8, 8, 3\]"
    ):
        Painter().compose(views, overlay())


def test_an_ffmpeg_that_dies_is_noticed(tmp_path):
    recorder = VideoRecorder(tmp_path / "video.mp4", 30.0)
    recorder.start()
    recorder._process.kill()
    recorder._process.wait()
    recorder.add(held(solid), overlay())
    with pytest.raises(EnvError, match="ffmpeg ended with status -9"):
        recorder.close()
    assert leftovers(tmp_path) == []


def test_a_full_disk_is_told_in_ffmpegs_words_and_leaves_no_file(tmp_path, monkeypatch):
    said = "av_interleaved_write_frame(): No space left on device"
    fake_ffmpeg(tmp_path, monkeypatch, f"cat > /dev/null; echo '{said}' >&2; exit 1")
    folder = tmp_path / "episode"
    folder.mkdir()
    recorder = VideoRecorder(folder / "video.mp4", 30.0)
    recorder.start()
    recorder.add(held(solid), overlay())
    with pytest.raises(
        EnvError, match=r"status 1: .*No space left on device; is the disk full\?"
    ) as caught:
        recorder.close()
    assert isinstance(caught.value.__cause__, OSError)
    assert caught.value.__cause__.errno == errno.ENOSPC
    assert leftovers(folder) == []


def test_an_ffmpeg_that_cannot_be_started_is_an_error_of_ours(tmp_path, monkeypatch):
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(tmp_path / "nowhere"))
    with pytest.raises(EnvError, match=r"cannot start: .*nowhere"):
        VideoRecorder(tmp_path / "video.mp4", 30.0).start()
    assert leftovers(tmp_path) == []


def test_a_folder_that_is_not_there_is_named_before_the_first_picture(tmp_path):
    with pytest.raises(EnvError, match=r"cannot start: .*No such file or directory"):
        VideoRecorder(tmp_path / "missing" / "video.mp4", 30.0).start()


def test_an_abort_leaves_an_older_video_as_it_was(tmp_path):
    path = tmp_path / "video.mp4"
    path.write_bytes(b"older")
    recorder = VideoRecorder(path, 30.0)
    recorder.start()
    recorder.add(held(solid), overlay())
    recorder.abort()
    recorder.abort()
    recorder.close()
    assert path.read_bytes() == b"older"
    assert leftovers(tmp_path) == ["video.mp4"]


def test_an_exception_in_the_loop_leaves_no_file(tmp_path):
    def interrupted_episode():
        with VideoRecorder(tmp_path / "video.mp4", 30.0) as recorder:
            recorder.add(held(solid), overlay())
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted_episode()
    assert leftovers(tmp_path) == []


def test_nothing_can_be_added_before_start_or_after_the_end(tmp_path):
    recorder = VideoRecorder(tmp_path / "video.mp4", 30.0)
    with pytest.raises(EnvError, match="cannot add, it is not being recorded"):
        recorder.add(held(solid), overlay())
    recorder.start()
    recorder.add(held(solid), overlay())
    recorder.close()
    with pytest.raises(EnvError, match="cannot add, it is not being recorded"):
        recorder.add(held(solid), overlay())


def test_an_episode_without_a_picture_is_no_video(tmp_path):
    recorder = VideoRecorder(tmp_path / "video.mp4", 30.0)
    recorder.start()
    with pytest.raises(EnvError, match="no picture was added"):
        recorder.close()
    assert leftovers(tmp_path) == []


def test_a_missing_system_library_of_opencv_names_the_packages(tmp_path, monkeypatch):
    reason = "libGL.so.1: cannot open shared object file: No such file or directory"
    Path(tmp_path / "cv2.py").write_text(f"raise ImportError({reason!r})\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "cv2", raising=False)
    with pytest.raises(
        UnavailableError,
        match=r"libGL\.so\.1: .*apt-get install libgl1 libglib2\.0-0, or run with --no-video",
    ) as caught:
        import_cv2()
    assert caught.value.exit_code == 4


def test_the_coded_planes_follow_bt601_and_each_colour_sample_is_a_mean_of_four():
    picture = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    planes = Painter().to_yuv420(picture)
    assert planes.shape == (HEIGHT * 3 // 2, WIDTH)
    # ITU-R BT.601: luma weights, 219 and 224 steps at video range.
    weights = np.array([0.299, 0.587, 0.114])
    luma = picture @ weights
    fours = picture.reshape(HEIGHT // 2, 2, WIDTH // 2, 2, 3).mean(axis=(1, 3))
    u = (fours[..., 2] - fours @ weights) / 1.772
    v = (fours[..., 0] - fours @ weights) / 1.402
    coded = planes[HEIGHT:].reshape(2, HEIGHT // 2, WIDTH // 2)
    np.testing.assert_allclose(planes[:HEIGHT], 16 + luma * 219 / 255, atol=1.1)
    np.testing.assert_allclose(coded[0], 128 + u * 224 / 255, atol=2.1)
    np.testing.assert_allclose(coded[1], 128 + v * 224 / 255, atol=2.1)


def test_the_file_says_which_matrix_its_colours_were_coded_with(tmp_path):
    path = tmp_path / "video.mp4"
    record(path, [solid()])
    said = subprocess.run(
        [imageio_ffmpeg.get_ffmpeg_exe(), "-hide_banner", "-i", str(path)],
        capture_output=True,
        text=True,
        check=False,
    ).stderr
    assert "yuv420p(tv, smpte170m/bt709/bt709" in said


def test_the_text_of_the_panel_survives_the_coding(tmp_path):
    path = tmp_path / "video.mp4"
    record(path, [solid()] * 30)
    drawn = Painter().compose(solid(), overlay(29))[448:].astype(int)
    coded = decode(path)[1][29][448:].astype(int)
    ink = (drawn.max(axis=-1) > 180) & (np.ptp(drawn, axis=-1) < 20)  # strokes of white text
    assert ink.sum() > 200
    assert np.abs(coded - drawn)[ink].mean() < 15


def test_ffmpeg_runs_at_low_priority_in_the_session_of_the_loop_and_deaf_to_ctrl_c(tmp_path):
    # In a session of its own the kernel would give it half of the machine, whatever its niceness.
    path = tmp_path / "video.mp4"
    with VideoRecorder(path, 30.0) as recorder:
        process = recorder._process.pid
        own = os.getpriority(os.PRIO_PROCESS, 0)
        assert os.getpriority(os.PRIO_PROCESS, process) == max(5, own)
        assert os.getsid(process) == os.getsid(0)
        os.kill(process, signal.SIGINT)
        for step in range(3):
            recorder.add(held(solid), overlay(step))
    assert len(decode(path)[1]) == 3


def test_a_recorder_that_waits_says_how_many_pictures_are_left(tmp_path):
    told, heard = [], threading.Event()

    def slow():
        heard.wait(60)  # not before the recorder has spoken once
        return solid()

    def waiting(left):
        told.append(left)
        heard.set()

    recorder = VideoRecorder(tmp_path / "video.mp4", 30.0)
    recorder.start()
    for step in range(3):
        recorder.add(VideoFrame(redeem=slow, holds_pictures=False), overlay(step))
    recorder.close(waiting)
    assert told[0] == 3
    assert told == sorted(told, reverse=True)


def test_a_display_says_that_an_episode_is_finishing_its_video():
    key = EpisodeKey(task="clean_boxing_gloves", instance=3, rollout=0)
    now = [0.0]
    console = Console(file=io.StringIO(), width=200)
    reporter = PlainReporter(console, clock=lambda: now[0])
    reporter.run_started(1, 0, 6000, 1)
    reporter.episode_started(key)
    progress = ProgressSubscriber(partial(reporter.step, key))
    now[0] = 60.0
    progress.waiting_for_video(1)
    now[0] = 120.0
    progress.waiting_for_video(2)
    lines = console.file.getvalue().splitlines()
    assert lines[-2].endswith(f"; {key.folder} finishing the video, 1 picture left")
    assert lines[-1].endswith(f"; {key.folder} finishing the video, 2 pictures left")


def test_a_name_of_a_hundred_thousand_letters_is_cut_where_a_loop_over_letters_would_cut_it():
    text = "open the door of the washing machine that stands below the counter" * 2
    kept = text
    while text_width(kept + "...", 0.44) > 180:
        kept = kept[:-1]
    assert truncate(text, 180, 0.44) == kept.rstrip() + "..."
    assert truncate(text * 1000, 180, 0.44) == truncate(text, 180, 0.44)
    assert truncate("short", 180, 0.44) == "short"


def test_what_was_reached_and_lost_stays_reached_and_is_marked_apart_from_what_holds():
    now = {"a": True, "b": False, "c": False}
    assert overlay(subgoals=now, reached=frozenset("b")).reached == {"a", "b"}
    row = {name: Painter().compose(solid(), each) for name, each in (
        ("never", overlay(subgoals={"b": False})),
        ("lost", overlay(subgoals={"b": False}, reached=frozenset("b"))),
        ("holds", overlay(subgoals={"b": True})),
    )}  # fmt: skip
    marks = [picture[HEAD_SIZE + 112 : HEAD_SIZE + 130, 300:316] for picture in row.values()]
    green = [(mark[..., 1].astype(int) - mark[..., 0] > 60).any() for mark in marks]
    assert green == [False, False, True]
    assert (marks[0] != marks[1]).any()


def test_the_videos_overlay_counts_what_was_reached_once(monkeypatch, tmp_path):
    seen = []

    class Recorder:
        frames_added = 1

        def __init__(self, *_, **__):
            pass

        def start(self):
            pass

        def add(self, frame, shown):
            seen.append(shown)

        def no_more(self):
            pass

    monkeypatch.setattr("b1k_eval.video.subscriber.VideoRecorder", Recorder)
    env = ToyEnv(max_steps=20)
    subscriber = VideoSubscriber(tmp_path / "v.mp4", env, fps=30, title="")
    goal = GoalStatus(predicates={"p": False}, q_score=0.0, success=False)
    subscriber.on_start(EpisodeStart(episode=None, goal=goal, subgoals={"near": False}))
    for step, near in enumerate((True, False), start=1):
        result = SimpleNamespace(step=step, time=step / 30)
        event = SimpleNamespace(
            result=result, goal=goal, subgoals={"near": near}, skill=None, progress=None
        )
        subscriber.on_step(event)
    assert [(shown.subgoals["near"], len(shown.reached)) for shown in seen] == [
        (False, 0),
        (True, 1),
        (False, 1),
    ]


def test_the_size_of_a_video_is_chosen_and_the_smaller_ones_are_smaller(tmp_path):
    rng = np.random.default_rng(0)
    views = {
        view: rng.integers(0, 256, (size, size, 3), np.uint8)
        for view, size in zip(VIEWS, (720, 480, 480), strict=True)
    }
    sizes = {}
    for size in ("small", "medium", "large"):
        with VideoRecorder(tmp_path / f"{size}.mp4", 30.0, size) as recorder:
            for step in range(3):
                recorder.add(held(lambda: views), overlay(step))
        assert len(decode(tmp_path / f"{size}.mp4")[1]) == 3
        sizes[size] = (tmp_path / f"{size}.mp4").stat().st_size
    assert sizes["small"] < sizes["medium"] < sizes["large"]
