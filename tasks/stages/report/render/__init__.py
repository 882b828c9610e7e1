"""Write the report: HTML page, model card, plain-text summary, JSON and CSV, with charts in SVG."""
