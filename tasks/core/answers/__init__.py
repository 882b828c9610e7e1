"""Checks of answers, one file for each kind: its options, the expected answer of a row, and the grade of an answer.

A source of `params.yaml` names its check (`check: number`). Every example of the source holds the check and the expected answer in `Tests`.
"""
