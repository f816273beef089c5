"""Other projects, each in an environment of its own, set up as its documentation says."""
