"""The page: runs, their episodes, and each episode's video beside what happened, step by step.

`page` writes it. It opens from disk without a network: what it shows lies beside it as scripts,
since a page from disk may not fetch files; an episode's own is loaded when the episode is opened.
"""
