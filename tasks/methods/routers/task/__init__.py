"""By the item's own task: the adapter that was trained for it, an oracle.

It says what a bank would reach if every prompt went where its data say. Nobody knows the task of a prompt that is served, so it is a
control for other routers and none to serve by. A prompt of a task that the bank lacks goes to the base.
"""
