"""The report: a notebook is executed and shared as one HTML file."""
