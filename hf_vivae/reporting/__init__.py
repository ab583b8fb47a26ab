"""Tables, plots and the HTML page of all reports."""
