"""The update of :mod:`ngs.methods` inside frameworks, one module a framework.

Nothing is imported here: ``from ngs.optim.torch import NGS`` loads PyTorch, and only that.
"""
