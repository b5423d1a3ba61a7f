"""Two runs compared: how sure a rate is, whether a difference is one, how much more would show it.

`intervals`, `paired`, `sequential` and `power` are statistics on plain numbers and know nothing of
run folders. How far each can be trusted is measured in docs/statistics.md.
"""
