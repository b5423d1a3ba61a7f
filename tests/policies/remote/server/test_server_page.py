"""docs/server.md: its client drives a server, and its table has the keys that are read."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from serving import served

from b1k_envs.r1pro import CAM_REL_POSES_KEY, CAMERAS, PROPRIO_KEY, TASK_ID_KEY
from b1k_policies.baselines import HoldPolicy
from b1k_policies.remote.server.engine import Engine
from b1k_policies.remote.wire import keys
from b1k_policies.remote.wire.messages import WireError
from b1k_policies.remote.wire.observations import from_wire

PAGE = (Path(__file__).parents[4] / "docs" / "server.md").read_text("utf-8")


def test_the_client_of_the_page_drives_a_server():
    pytest.importorskip("openpi_client.websocket_client_policy")
    (code,) = re.findall(r"^```python\n(.*?)^```", PAGE, re.M | re.S)
    lines = [line for line in code.splitlines() if line]
    assert len(lines) == 12
    with served(Engine(HoldPolicy), most=1) as server:
        port = server.url.rpartition(":")[2]
        assert "8000" in code
        names = {}
        exec(code.replace("8000", port), names)
        assert np.isfinite(names["action"]).all()
        names["client"]._ws.close()


def test_the_table_of_the_page_has_the_keys_that_are_read():
    listed = set(re.findall(r"^\| `([^`]+)` \| (?:float32|uint8|integer|map)", PAGE, re.M))
    read = {camera.observation_key for camera in CAMERAS.values()}
    read |= {PROPRIO_KEY, CAM_REL_POSES_KEY, TASK_ID_KEY, keys.CHUNK_SIZE}
    assert listed == read | {keys.ACTION, keys.ACTION_CHUNK, keys.SERVER_TIMING}


def test_all_missing_keys_are_named_in_one_message():
    with pytest.raises(WireError) as refused:
        from_wire({"else": 1})
    for key in (PROPRIO_KEY, CAM_REL_POSES_KEY, TASK_ID_KEY, "zed_link:Camera:0::rgb"):
        assert f"no robot_r1::robot_r1:{key}" in str(refused.value) or f"no {key}" in (
            str(refused.value)
        )
    assert str(refused.value).endswith("this server no task of its own (it has: else)")


def test_a_policy_that_looks_at_nothing_is_asked_for_nothing_but_proprio():
    proprio = np.zeros(61, np.float32)
    asked = from_wire({PROPRIO_KEY: proprio}, images=False, task_index=31)
    (observation,) = asked.observations
    assert not observation.images
    assert np.isnan(observation.cam_rel_poses).all()
    with pytest.raises(WireError, match="no robot_r1::cam_rel_poses"):
        from_wire({PROPRIO_KEY: proprio}, task_index=31)
