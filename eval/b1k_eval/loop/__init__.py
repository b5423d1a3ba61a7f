"""The episode loop: chunking, real time, action noise, and the events it emits."""
