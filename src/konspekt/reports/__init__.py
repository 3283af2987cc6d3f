"""The page that a run leaves behind: `konspekt.report(run)` reads a run folder and writes `report.html` into it.

reading.py      the folder, as far as it is there and can be trusted
timeline.py     its records on one axis
page.py         the headline, and the page
sections.py     what each part of the page says
clustered.py    a run that looked for clusters
quality.py      the quality of the data, leakage, what was left out
training.py     the training's curves
pruned.py       quality against size, where something was pruned
predictions.py  the parts about single predictions
classes.py      the parts about classes
classwise.py    precision, recall and the like of single classes
weights.py      the first layer's weights
drawers.py      one drawer for each kind of thing that `Run.keep` keeps
figures.py      the pictures
canvas.py       matplotlib to SVG that follows the page's theme
words.py        numbers, times and names as the page writes them
templates.py    tables, bars, grids; parts.html, report.html and style.html are their form
"""

from konspekt.reports.page import report

__all__ = ["report"]
