"""Names of the scene and of what is in it."""

SCENE_MODEL = "house_single_floor"

TASK_ROOMS = ("corridor_0", "dining_room_0", "entryway_0", "garden_0", "utility_room_0")
"""Rooms that the 2026 table names for the task."""

ROOMS = (*TASK_ROOMS, "bathroom_0", "bedroom_0", "kitchen_0", "living_room_0")
"""The whole house; those beyond the task's are made up."""

NAMES = {
    "boxing_glove.n.01_1": "boxing_gloves_189",
    "boxing_glove.n.01_2": "boxing_gloves_188",
    "washer.n.03_1": "washer_ynwamu_0",
    "countertop.n.01_1": "countertop_sjxber_0",
    "floor.n.01_1": "floors_jjnvrk_0",
    "dust.n.01_1": "dust",
    "agent.n.01_1": "robot_r1",
}
"""Name in the scene of each BDDL instance of the task (`inst_to_name` of its metadata)."""
