"""Run the command of a stage on another machine, over SSH or on a Ray cluster: send its inputs there, and fetch its outputs.

The near side is this machine; the far side is a process on the other one.
"""
