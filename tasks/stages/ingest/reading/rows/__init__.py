"""Read rows of tables as conversations: their columns and shapes, turns, tool calls, judgements, weights."""
