"""The episode loop: chunking, real time, noise, and what it tells its listeners."""
