#!/usr/bin/env python3
"""Open a data set with the real lerobot package, and hold it against the run it was made from.

    python scripts/check_lerobot.py DATASET

In an environment with lerobot and av (docs/datasets.md has the versions of the last trial); neither
b1k-eval nor a simulator is needed. Checked: lerobot's own metadata, all rows through a `DataLoader`
without pictures, pictures through a `DataLoader` at random places, their agreement with the run's
own files decoded by PyAV, statistics against the rows, task text. Exits with 1 where one fails.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

PICTURES = 48  # drawn at random


def main() -> None:
    """Check a data set."""
    import lerobot
    import numpy as np
    import pyarrow.parquet as pq
    import torch
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    folder = Path(sys.argv[1]).resolve()
    data = LeRobotDataset("local/check", root=folder, video_backend="pyav")
    failed = []

    def check(holds: bool, words: str) -> None:
        print(f"{'ok  ' if holds else 'FAIL'} {words}")
        if not holds:
            failed.append(words)

    version = getattr(lerobot, "__version__", "?")
    print(f"lerobot {version}, torch {torch.__version__}")
    rows = pq.read_table(sorted((folder / "data").rglob("*.parquet"))).to_pandas()
    episodes = pq.read_table(folder / "meta/episodes").to_pandas()
    outcomes = episodes.outcome.value_counts().to_dict()
    check(
        data.num_episodes == len(episodes) and data.num_frames == len(rows) == len(data),
        f"{data.num_episodes} episodes {outcomes}, {data.num_frames} frames",
    )
    check(data.fps == 30, f"{data.fps} frames a second")
    check(
        all(
            (
                rows.episode_index[at.dataset_from_index : at.dataset_to_index] == at.episode_index
            ).all()
            for at in episodes.itertuples()
        )
        and [*rows["index"]] == [*range(len(rows))],
        "every episode's rows are where meta/episodes says, none twice",
    )
    told: list[Any] = []
    for key in data.meta.video_keys:
        told += data.meta.features[key]["shape"][:1]
    print(f"     cameras {data.meta.video_keys}, {told} px")

    for name in ("action", "observation.state", "observation.cam_rel_poses", "next.q_score"):
        values = np.stack(rows[name].to_list()).reshape(len(rows), -1).astype(np.float64)
        stats = data.meta.stats[name]
        apart = max(
            np.abs(stats["mean"] - values.mean(axis=0)).max(),
            np.abs(stats["std"] - values.std(axis=0)).max(),
            np.abs(stats["min"] - values.min(axis=0)).max(),
        )
        check(apart < 1e-5, f"statistics of {name}: apart by {apart:.1e} at most")

    rng = np.random.default_rng(0)
    wanted = sorted(rng.choice(len(data), min(PICTURES, len(data)), replace=False).tolist())
    loader = torch.utils.data.DataLoader(
        torch.utils.data.Subset(data, wanted), batch_size=8, num_workers=0
    )
    seen = 0
    worst: dict[str, float] = dict.fromkeys(data.meta.video_keys, 0.0)
    batch: dict[str, Any] = {}
    for batch in loader:
        for place, index in enumerate(batch["index"].tolist()):
            row = rows.iloc[index]
            at = episodes.iloc[row.episode_index]
            assert batch["task"][place] == at.tasks[0]
            assert np.allclose(batch["action"][place].numpy(), row.action)
            for key in data.meta.video_keys:
                chunk, file = (int(at[f"videos/{key}/{what}_index"]) for what in ("chunk", "file"))
                video = folder / f"videos/{key}/chunk-{chunk:03d}/file-{file:03d}.mp4"
                own = picture(video, int(row.frame_index))
                got = batch[key][place].permute(1, 2, 0).numpy() * 255
                worst[key] = max(worst[key], float(np.abs(got - own).mean()))
            seen += 1
    check(seen == len(wanted), f"DataLoader: {seen} rows with pictures and task text")
    print(f"     task: {batch['task'][0]!r}")
    for key, shape in ((key, tuple(batch[key].shape)) for key in worst):
        check(worst[key] < 2.0, f"{key} {shape}: within {worst[key]:.2f} of 255 of its file")
    known = json.loads((folder / "meta/runs.json").read_bytes())
    print(f"     runs: {[each['identity']['policy']['name'] for each in known]}")
    sys.exit(1 if failed else 0)


def picture(video: Path, number: int) -> Any:  # noqa: ANN401 - an array
    """Return the n-th picture of a video by decoding all before it, uint8 [H, W, 3] RGB."""
    import av

    with av.open(str(video)) as container:
        for place, frame in enumerate(container.decode(video=0)):
            if place == number:
                return frame.to_ndarray(format="rgb24")
    raise SystemExit(f"{video} has no picture {number}")


if __name__ == "__main__":
    main()
