"""At the line: a folder that is watched, a server, repeatability of a scanner, a cluster."""
