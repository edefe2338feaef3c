"""What a model looks at, as pictures: each view is drawn once on a canvas and shown as PNG or as SVG.

The same numbers give the same bytes. Called by the routes, off the event loop.
"""
