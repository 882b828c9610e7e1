"""The work on data and models. Imports point down: run, runner, configuration, stages, engine, io, methods, core."""
