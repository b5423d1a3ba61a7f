"""Meshes and textures that the twin's looks are made of."""
