"""One HTML page of trainings, annealing tests and studies, and figures of data sets.

A report is a list of sections. Each is a small dataclass, filled in Python, and a template of the same name in
templates/, which has its words and its layout: the section Traversals is filled in model_sections.py and drawn by
templates/traversals.html.j2. What a report shows, and in which order, is in the functions training_sections and
annealing_sections of the files of these names; a line of facts is an entry of training_summary.
"""

from deft_jax.reporting.page import report

__all__ = ["report"]
