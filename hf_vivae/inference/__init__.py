"""Using a trained checkpoint: on clips, archives and long recordings, as a file for other programs, on a web page."""
