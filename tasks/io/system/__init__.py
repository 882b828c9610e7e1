"""The machine: files, locks, processes, git, installed packages, progress lines."""
