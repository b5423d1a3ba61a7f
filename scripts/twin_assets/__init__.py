"""What `make_twin_assets.py` draws: the robot, and one module or more per room."""
