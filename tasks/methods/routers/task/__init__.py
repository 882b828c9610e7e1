"""By the item's own task: the adapter that was trained for it, an oracle.

It shows the result of a bank if every prompt were routed by the task in its data. The task of a served prompt is unknown, so this router is a
control for others and cannot serve. A prompt of a task that the bank lacks goes to the base.
"""
