"""Use DVC's internals, in the one package that may: the plan, dvc.lock, the cache, repairs, and DVC's console output."""
