"""Who writes new text for rows: servers and, in the stages that load one, models of this machine."""
