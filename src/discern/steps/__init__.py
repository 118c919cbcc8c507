"""The steps of the main job, each reading what the last one wrote; the command line and Python both call these."""
