"""What `import b1k_eval` gives to a Python program; see docs/python.md."""
