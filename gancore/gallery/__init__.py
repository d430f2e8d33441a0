"""The gallery: every recipe that can be trained, on small data sets, for equally many steps, on one page that ranks them.

Reading order: `gancore.gallery.protocol` (what is run), `gancore.gallery.measure` (one run), `gancore.gallery.store` (results as
files, and which of them are stale), `gancore.gallery.ranking`, `gancore.gallery.page`.
"""
