"""More than one core: worker processes on one public port, under a parent that routes and restarts.

A call lives in one worker. The carrier's connections reach any of them, because all accept on one socket; each
request says which call it is about, the parent knows which worker has it, and whoever was reached passes the
request, or the media socket itself, to that one. The parent touches no audio.
"""
