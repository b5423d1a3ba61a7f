"""The report page: runs, their episodes, and each episode's video with its timelines.

`page` writes it. It opens from disk without a network. Its data are scripts in a folder beside it,
since a page from disk may not fetch files; an episode's data are loaded when it is opened.
"""
