"""A process of the workspace that has imported the libraries of stages once, and forks a child for each stage.

`client` is what `python -m tasks.run` tries first, with the standard library alone; `server` imports, listens and forks. A stage that finds
no server, or one whose code, packages or settings are not those of now, runs in its own process as ever: the bytes are the same.
"""
