"""Pictures of the twin: OpenGL, the robot's cameras, the video process."""
