"""Seeded simulation: whole calls in virtual time, faults drawn from a number, guarantees checked on what was heard.

``case`` says what happens in one call, ``nemesis`` draws a case from a seed, ``stage`` plays it in a
:class:`~callrt.testing.world.World`, ``history`` is what can be known afterwards, ``checkers`` judge it,
``shrink`` makes a failing case small, ``runner`` does it thousands of times.
"""
