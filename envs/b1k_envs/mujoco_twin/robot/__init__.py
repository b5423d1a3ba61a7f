"""The R1Pro in the twin: body, control, proprioception, grasping."""
