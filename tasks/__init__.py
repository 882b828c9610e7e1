"""What Ratchet does to data and models. Imports point down: run, settings, stages, engine, io, methods, core."""
