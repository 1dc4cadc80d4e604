"""Render the measured results as one HTML report, reports/benchmarks/index.html."""

from pathlib import Path

from mosaic.experiments.study import reports_folder
from mosaic.report.runner import run

if __name__ == "__main__":
    notebook = Path(__file__).with_name("benchmarks.ipynb")
    run([notebook], {}, reports_folder("benchmarks"), profile="benchmarks", command="make bench")
