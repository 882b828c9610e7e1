"""Use DVC's internals, in the one package that may: the plan, dvc.lock, the cache, repairs, and what DVC's console says."""
