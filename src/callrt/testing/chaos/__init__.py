"""Chaos: ``callrt serve`` as a process, real sockets, emulators in processes of their own around it.

``stage`` holds the service and strikes it; each ``party`` is a process with the emulated carrier and models of some
calls, which judges them with the checkers of the simulation. ``scenario`` says what happens, ``report`` what came of
it.
"""
