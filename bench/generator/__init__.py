"""Both ends of many calls in one process: telephones and models, on raw sockets."""
