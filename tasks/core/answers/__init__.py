"""Checks of answers: a file a kind, each with its options, what it expects of a row, and the grade of an answer.

A source of `params.yaml` names its check (`check: number`), and every example of it carries the check and what is expected in `Tests`.
"""
