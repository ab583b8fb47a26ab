"""Tables, plots and HTML pages, which all reports are made of."""
