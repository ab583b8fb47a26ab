"""Run folders to tables, figures and reports; nothing here trains."""
