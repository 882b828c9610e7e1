"""The stages of the graph, a folder each."""
