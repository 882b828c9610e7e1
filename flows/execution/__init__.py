"""Run the graph: stages by DVC, resources, Prefect's server, the workspace and its lease, the MLflow record of a flow."""
