"""Compare the logs of other harnesses: inspect-ai's, lm-evaluation-harness's, and plain lines of scores. Needs none of them, and no workspace."""
