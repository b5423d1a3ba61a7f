"""Run a randomly initialised ACT policy of the installed `lerobot` through the adapter.

    python scripts/try_lerobot.py DIR        # writes DIR/act, and checks it

Wants the extra `lerobot` (docs/your-own-policy.md has the versions of the last trial). Nothing is
fetched. It prints the checks of `b1k-eval check-policy`, and compares the adapter's answer with
lerobot's own calls, one by one; exits with 1 where something differs.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

STATE = "trunk_qpos,arm_left_qpos,arm_right_qpos,gripper_left_qpos,gripper_right_qpos"
SIZE = 96


def make_act(folder: Path) -> None:
    """Write a small ACT policy for the three cameras, with random weights and statistics."""
    import torch
    from lerobot.configs.types import FeatureType, PolicyFeature
    from lerobot.policies.act.configuration_act import ACTConfig
    from lerobot.policies.act.modeling_act import ACTPolicy
    from lerobot.policies.act.processor_act import make_act_pre_post_processors

    torch.manual_seed(0)
    pictures = {
        f"observation.images.rgb.{view}": PolicyFeature(FeatureType.VISUAL, (3, SIZE, SIZE))
        for view in ("head", "left_wrist", "right_wrist")
    }
    config = ACTConfig(
        input_features={
            "observation.state": PolicyFeature(FeatureType.STATE, (22,)),
            **pictures,
        },
        output_features={"action": PolicyFeature(FeatureType.ACTION, (23,))},
        chunk_size=20, n_action_steps=20, dim_model=64, n_heads=4, dim_feedforward=128,
        n_encoder_layers=1, n_decoder_layers=1, n_vae_encoder_layers=1, device="cpu",
        pretrained_backbone_weights=None,
    )  # fmt: skip
    channel = {"mean": torch.full((3, 1, 1), 0.5), "std": torch.full((3, 1, 1), 0.25)}
    stats = {
        "observation.state": {"mean": torch.randn(22), "std": torch.rand(22) + 0.5},
        "action": {"mean": torch.randn(23), "std": torch.rand(23) + 0.5},
        **dict.fromkeys(pictures, channel),
    }
    before, after = make_act_pre_post_processors(config, dataset_stats=stats)
    ACTPolicy(config).save_pretrained(folder)
    before.save_pretrained(folder)
    after.save_pretrained(folder)


def by_lerobot(folder: Path, observation, instruction: str) -> np.ndarray:  # noqa: ANN001
    """Answer one observation as lerobot's own loop does, action by action."""
    import torch
    from lerobot.policies.act.modeling_act import ACTPolicy
    from lerobot.policies.factory import make_pre_post_processors

    model = ACTPolicy.from_pretrained(folder)
    before, after = make_pre_post_processors(model.config, pretrained_path=str(folder))
    layout = PROPRIO_LAYOUTS["2026"]
    state = np.concatenate([observation.proprio[layout[name]] for name in STATE.split(",")])
    batch = {"observation.state": torch.from_numpy(state), "task": instruction}
    for view, picture in observation.images.items():
        planes = torch.from_numpy(picture).permute(2, 0, 1).float() / 255
        small = torch.nn.functional.interpolate(
            planes[None], (SIZE, SIZE), mode="bilinear", antialias=True
        )
        batch[f"observation.images.rgb.{view}"] = small[0]
    rows = []
    with torch.inference_mode():
        for _ in range(20):
            rows.append(after(model.select_action(before(dict(batch))))[0].numpy())
    return np.stack(rows)


def main(folder: Path) -> int:
    make_act(folder)
    words = [f"ckpt={folder}", f"state={STATE}", "resize=bilinear"]
    spec = "b1k_policies.adapters.lerobot:LeRobotPolicy"
    task = get_task(31)
    (episode,) = plan_episodes(task, [0], 1, 0, "2026")
    checks = check_policy(lambda: make_policy(spec, None, "2026", task.instruction, words), episode)
    for check in checks:
        print(f"{check.verdict:<8}{check.name:<18}{check.sentence} {check.found}")
    policy = make_policy(spec, None, "2026", task.instruction, words)
    policy.reset(episode)
    observation = made_up(0, "2026", task_index=31)
    ours = policy.infer(observation).actions
    theirs = by_lerobot(folder, observation, task.instruction)
    apart = float(np.abs(ours - theirs).max())
    print(f"{policy.name}, chunk {list(ours.shape)}: {apart:.2g} from lerobot's own select_action")
    return int(apart > 1e-5 or any(check.verdict == "fails" for check in checks))


if __name__ == "__main__":
    from b1k_envs.r1pro import PROPRIO_LAYOUTS
    from b1k_envs.tasks.table import get_task
    from b1k_eval.run.launch import plan_episodes
    from b1k_policies.inspection.conformance import check_policy
    from b1k_policies.inspection.made_up import made_up
    from b1k_policies.registry import make_policy

    sys.exit(main(Path(sys.argv[1]) / "act"))
