"""The page that a run leaves behind: `konspekt.report(run)` reads a run folder and writes `report.html` into it.

reading.py    the folder, as far as it is there and can be trusted
sections.py   what each part of the page says, as plain values
figures.py    pictures: matplotlib to SVG that follows the page's theme
drawers.py    one drawer for each kind of thing that `Run.keep` keeps
page.py       the page
report.html, parts.html, style.html   its form
"""

from konspekt.reports.page import report

__all__ = ["report"]
