"""What a training run is made of: data, models, loop, records.

It rests on :mod:`ngs.optim.torch` and :mod:`ngs.schedules`, and needs ``pip install 'ngs[train]'``.
"""
